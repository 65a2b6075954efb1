"""The account at the end of the demo, and the verdict on it: values in, text and an exit status out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from otel_shed.outcome import DropReason

if TYPE_CHECKING:  # the SDK reads the environment when it is imported, which is not for this module to time
    from otel_shed.stats import Stats

_LABEL = 30
_NUMBER = 10


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the demo ends with.

    stats: the library's account, after shutdown. recorded: spans that the workload ended, by its own count.
    end_times: seconds of each Span.end(), the shortest first. counted: spans that the collector says it received; None
    if it was not asked. counts: whether it is one that can be asked. outage: whether the collector was stopped.
    """

    stats: Stats
    recorded: int
    end_times: Sequence[float]
    counted: int | None
    counts: bool
    outage: bool


def write_account(evidence: Evidence, out: TextIO) -> None:
    """Print the table."""
    stats = evidence.stats

    def row(label: str, value: int, remark: str = "") -> None:
        out.write(f"  {label:<{_LABEL}}{value:>{_NUMBER},}   {remark}".rstrip() + "\n")

    row("ended", stats.ended)
    row("exported", stats.exported, _counted(evidence))
    if stats.unsampled:
        row("unsampled", stats.unsampled)
    if stats.summarized:
        row("summarized", stats.summarized)
    row("dropped", sum(stats.dropped.values()))
    for reason, count in sorted(stats.dropped.items(), key=lambda entry: -entry[1]):
        row(f"  {reason}", count, _why(reason, evidence))
    for label, held in (("queued", stats.queued), ("in flight", stats.in_flight)):
        if held:
            row(label, held)
    row("unaccounted", stats.unaccounted, "ended, less all of the above")
    if evidence.end_times:
        out.write("\n")
        for label, share in (("Span.end(), median", 0.5), ("Span.end(), 99th percentile", 0.99)):
            out.write(_microseconds(label, evidence.end_times[int(share * (len(evidence.end_times) - 1))]))
        out.write(_microseconds("Span.end(), worst", evidence.end_times[-1]))


def verdict(evidence: Evidence) -> tuple[int, str]:
    """The exit status, and the same in words."""
    stats, faults = evidence.stats, []
    if stats.unaccounted:
        faults.append(f"{stats.unaccounted:,} spans are unaccounted for")
    if evidence.recorded != stats.ended:
        faults.append(f"the workload ended {evidence.recorded:,} spans and the account has {stats.ended:,}")
    if evidence.counts and evidence.counted is None:
        faults.append("the collector did not tell what it received")
    elif evidence.counts and evidence.counted != stats.exported:
        faults.append(f"the collector counted {evidence.counted:,} spans, the account has {stats.exported:,} exported")
    if faults:
        return 1, "FAILED: " + "; ".join(faults) + "."
    if evidence.counts:
        return 0, "OK: every span is accounted for, and the collector counted what the account has exported."
    return 0, "OK: every span is accounted for."


def _counted(evidence: Evidence) -> str:
    if not evidence.counts:
        return ""
    return (
        "the collector did not tell its count"
        if evidence.counted is None
        else f"the collector counted {evidence.counted:,}"
    )


def _why(reason: str, evidence: Evidence) -> str:
    if reason == DropReason.QUEUE_FULL and evidence.outage:
        return f"the oldest, while the collector was stopped and the queue of {evidence.stats.queue_capacity:,} full"
    return ""


def _microseconds(label: str, seconds: float) -> str:
    return f"  {label:<{_LABEL}}{seconds * 1e6:>{_NUMBER},.0f}   microseconds\n"
