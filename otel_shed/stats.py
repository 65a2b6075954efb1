"""One reading of everything that is counted; the value that ``stats()`` returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from otel_shed.control.flow import Flow
from otel_shed.control.overload import OverloadControl
from otel_shed.control.phase import Phase
from otel_shed.pipeline.ledger import Account
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.summary import SummaryRow
from otel_shed.sampler import AdaptiveSampler


@dataclass(frozen=True, kw_only=True)
class Stats:
    """The account of every span and the state of what moves them; numbers of spans unless said otherwise.

    ended: spans that ended here, the library's own reports among them. Each is one of: unsampled (its context says not
    to export it), queued, in_flight (handed to the exporter, fate unknown), exported (accepted), summarized, or in
    dropped by the reason.
    undecided: of those queued, the spans of traces that are held until there is a decision. queue_capacity bounds all
    that are queued, ``max_held_spans`` those of traces.
    started, sampled_out: decisions of the head sampler, and those among them not to record.
    exports_attempted, exports_succeeded: batches handed to the exporter, and those taken but for single spans rejected.
    export_errors: requests that failed, by how: rate_limited, unavailable, unreachable, timeout, invalid (the collector
    refused it as it is), other; those that were made again are counted too, and so may be more than batches.
    queued_bytes: what is held, in bytes, what is in flight included.
    oldest_seconds: for how long the oldest span held has been, to within a second or so.
    phase, pressure (0..1), reasons: of the brownout, see BrownoutSnapshot. would_have_shed: spans that went on only
    because the mode is ``observe``.
    sample_probability: 0..1, of a new local root without special claims.
    budget_spans_per_second: what the collector is believed to take; None while no limit is known.
    summary: of the spans that were shed, by name and kind; one for all faces of a shedder.
    """

    ended: int = 0
    unsampled: int = 0
    queued: int = 0
    undecided: int = 0
    in_flight: int = 0
    exported: int = 0
    summarized: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    started: int = 0
    sampled_out: int = 0
    exports_attempted: int = 0
    exports_succeeded: int = 0
    export_errors: Mapping[str, int] = field(default_factory=dict)
    queue_capacity: int = 0
    queued_bytes: int = 0
    oldest_seconds: float = 0.0
    would_have_shed: int = 0
    phase: Phase = Phase.NORMAL
    pressure: float = 0.0
    reasons: tuple[str, ...] = ()
    sample_probability: float = 1.0
    budget_spans_per_second: float | None = None
    summary: tuple[SummaryRow, ...] = ()
    exporter_healthy: bool = True
    shutdown_was_lossy: bool = False

    @property
    def unaccounted(self) -> int:
        """Spans that ended and are nowhere; anything but 0 is a bug of ours."""
        known = self.unsampled + self.queued + self.in_flight + self.exported + self.summarized
        return self.ended - known - sum(self.dropped.values())

    @property
    def drop_rate(self) -> float:
        """The share of the ended spans that were dropped, 0..1."""
        return sum(self.dropped.values()) / self.ended if self.ended else 0.0

    @property
    def utilization(self) -> float:
        """How full the queue is, 0..1."""
        return min(1.0, self.queued / self.queue_capacity) if self.queue_capacity else 0.0


# What the ledger's account and Stats call by the same name.
_COUNTS = (
    "ended",
    "unsampled",
    "queued",
    "in_flight",
    "exported",
    "summarized",
    "exports_attempted",
    "exports_succeeded",
    "would_have_shed",
)


def read_stats(
    pipelines: Iterable[Pipeline],
    *,
    control: OverloadControl | None = None,
    flows: Sequence[Flow] = (),
    samplers: Sequence[AdaptiveSampler] = (),
) -> Stats:
    """The sum over ``pipelines`` and ``samplers``, and what ``control`` and the pipelines' flows say."""
    dropped: Counter[str] = Counter()
    total: dict[str, Any] = dict.fromkeys((*_COUNTS, "queue_capacity", "queued_bytes", "undecided"), 0)
    healthy, lossy = True, False
    for pipeline in pipelines:
        pipeline.intake.settle()  # before the ledger is entered, in which it does nothing
        account, undecided = pipeline.ledger.read(partial(_account_of, pipeline))
        dropped.update({reason.value: count for reason, count in account.dropped.items()})
        for name in _COUNTS:
            total[name] += getattr(account, name)
        total["undecided"] += undecided
        total["queue_capacity"] += pipeline.intake.store.queue_capacity
        total["queued_bytes"] += pipeline.intake.store.held_bytes
        healthy = healthy and pipeline.exporter_healthy
        lossy = lossy or pipeline.shutdown_was_lossy
    if control is not None:
        total |= _of_control(control, flows, samplers)
    return Stats(
        **total,
        dropped=dict(dropped),
        started=sum(sampler.started for sampler in samplers),
        sampled_out=sum(sampler.sampled_out for sampler in samplers),
        exporter_healthy=healthy,
        shutdown_was_lossy=lossy,
    )


def _account_of(pipeline: Pipeline) -> tuple[Account, int]:
    return pipeline.ledger.account(), pipeline.intake.store.undecided_spans


def _of_control(control: OverloadControl, flows: Sequence[Flow], samplers: Sequence[AdaptiveSampler]) -> dict[str, Any]:
    brownout = control.snapshot()
    ceilings = [sampler.ceiling_probability for sampler in samplers]
    policies = [flow.policy.probability for flow in flows if flow.policy is not None and control.holds_traces()]
    errors: Counter[str] = Counter()
    for flow in flows:
        errors.update({error.value: count for error, count in flow.exports.errors.items()})
    budgets = [budget for flow in flows if (budget := flow.state.spans_per_second) is not None]
    return {
        "phase": brownout.phase,
        "pressure": brownout.pressure,
        "reasons": brownout.reasons,
        "sample_probability": min([control.threshold().probability, *ceilings, *policies]),
        "budget_spans_per_second": sum(budgets) if budgets else None,
        "export_errors": dict(errors),
        "oldest_seconds": max((flow.oldest_seconds for flow in flows), default=0.0),
        "summary": control.summary.snapshot(),
    }
