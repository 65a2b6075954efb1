"""What a storm came to: from the traces that were started and the spans that arrived to the figures of one side.

Pure functions and values. One window of time holds for every figure, live and in the end: from ``settling_seconds``
after the storm's beginning to the storm's end. A trace counts if it starts in the window. Before the window, what
overflows is what was queued while nothing was known of the collector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from otel_shed.command.storm.testimony import Arrived, EndTimes, Started
from otel_shed.control.threshold import adjusted_count

_SETTLED_SECONDS = 5.0
# Every span has been delivered again only if that lasts for so long.
_LASTS_SECONDS = 1.0


def settling_seconds(storm_seconds: float) -> float:
    """Seconds at the beginning of a storm of this length that do not count: five, or half of a short storm."""
    return min(_SETTLED_SECONDS, storm_seconds / 2)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The storm, in seconds of ``time.monotonic``, and what its collector takes, in spans a second.

    settling: seconds at the storm's beginning that do not count.
    """

    began: float
    ended: float
    capacity: float
    settling: float = _SETTLED_SECONDS

    @property
    def settled(self) -> float:
        return self.began + self.settling

    @property
    def seconds(self) -> float:
        """How long the part of the storm that counts is; 0 if the storm ended before it began."""
        return max(0.0, self.ended - self.settled)

    def counts(self, trace: Started) -> bool:
        """Whether a trace is one of those that the figures are made of."""
        return trace.is_sampled and self.settled <= trace.at < self.ended


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that was started, and what came of it: the spans that arrived, and their thresholds; 0 for none."""

    started: Started
    arrived: int = 0
    thresholds: frozenset[int] = frozenset()

    @property
    def is_whole(self) -> bool:
        return self.arrived == self.started.spans

    @property
    def adjusted_count(self) -> float:
        """What it stands for; where two processes decided, something arrives if the one that keeps more keeps it."""
        return adjusted_count(min(self.thresholds)) if self.thresholds else 0.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Shares are 0..1, None where there is nothing to have a share in; seconds; spans and traces in numbers.

    settling: seconds at the storm's beginning that do not count. offered: spans a second that were really started.
    accepted: spans that arrived in the whole run. repeated: spans that arrived once more.
    traces, whole, failed, failed_whole: of the traces that count, those of which something arrived, the whole ones
    among them, those that failed, and those of them that arrived whole.
    whole_share, failed_whole_share: the same. estimate: traces by the adjusted counts of those that arrived, against
    their true number: 0 is right, -0.79 is 79 % too few; span_estimate: the same of spans. capacity_used: by spans
    accepted in the window.
    mixed: traces that count whose spans have different thresholds. orphans: spans of traces that count whose parent
    did not arrive. unwanted: spans that arrived though their trace's parent had decided not to sample.
    recovered_after: from the storm's end on until every span started is delivered; None if that was not seen.
    watched: for how long after the storm spans were started. unaccounted: by the library's account; None without one.
    ends: of the window. memory: bytes at most in the whole run. cpu: seconds of the process in the window.
    """

    settling: float
    offered: float | None
    accepted: int
    repeated: int
    traces: int
    whole: int
    failed: int
    failed_whole: int
    whole_share: float | None
    failed_whole_share: float | None
    estimate: float | None
    span_estimate: float | None
    capacity_used: float | None
    mixed: int
    orphans: int
    unwanted: int
    recovered_after: float | None
    watched: float
    unaccounted: int | None
    ends: EndTimes
    memory: int
    cpu: float


def traces_of(started: Iterable[Started], arrived: Iterable[Arrived]) -> dict[str, Trace]:
    """Each trace that was started, by its id, with what arrived of it; a span that arrives again counts once."""
    spans: dict[str, dict[str, int]] = {}
    for span in arrived:
        spans.setdefault(span.trace_id, {})[span.span_id] = span.threshold or 0
    return {
        each.trace_id: Trace(each, len(found := spans.get(each.trace_id, {})), frozenset(found.values()))
        for each in started
    }


def make_figures(
    started: Sequence[Started],
    arrived: Sequence[Arrived],
    window: Window,
    *,
    ends: EndTimes,
    unaccounted: int | None = None,
    memory: int = 0,
    cpu: float = 0.0,
) -> Figures:
    """The figures; what is not of traces and arrivals is passed through."""
    traces = traces_of(started, arrived)
    counting = [trace for trace in traces.values() if window.counts(trace.started)]
    delivered = [trace for trace in counting if trace.arrived]
    failed = [trace for trace in counting if trace.started.failed]
    whole = sum(trace.is_whole for trace in delivered)
    failed_whole = sum(trace.is_whole for trace in failed)
    first = {(span.trace_id, span.span_id): span for span in reversed(arrived)}
    offered = sum(trace.spans for trace in started if window.settled <= trace.at < window.ended)
    return Figures(
        settling=window.settling,
        offered=offered / window.seconds if window.seconds else None,
        accepted=len(first),
        repeated=len(arrived) - len(first),
        traces=len(delivered),
        whole=whole,
        failed=len(failed),
        failed_whole=failed_whole,
        whole_share=_share(whole, len(delivered)),
        failed_whole_share=_share(failed_whole, len(failed)),
        estimate=_off(sum(trace.adjusted_count for trace in delivered), len(counting)),
        span_estimate=_off(
            sum(trace.arrived * trace.adjusted_count for trace in delivered),
            sum(trace.started.spans for trace in counting),
        ),
        capacity_used=_capacity_used(first.values(), window),
        mixed=sum(len(trace.thresholds) > 1 for trace in delivered),
        orphans=_orphans(first.values(), traces, window),
        unwanted=sum(trace.arrived for trace in traces.values() if not trace.started.is_sampled),
        recovered_after=recovered_after(traces.values(), window),
        watched=max(0.0, max((trace.at for trace in started), default=window.ended) - window.ended),
        unaccounted=unaccounted,
        ends=ends,
        memory=memory,
        cpu=cpu,
    )


def recovered_after(traces: Iterable[Trace], window: Window) -> float | None:
    """Seconds from the storm's end to the start of the first trace from which on all are whole."""
    calm = sorted(
        (trace.started.at, trace.is_whole)
        for trace in traces
        if trace.started.is_sampled and trace.started.at >= window.ended
    )
    torn = max((at for at, is_whole in calm if not is_whole), default=window.ended)
    after = [at for at, is_whole in calm if is_whole and at >= torn]
    if not after or after[-1] - after[0] < _LASTS_SECONDS:
        return None
    return after[0] - window.ended if torn > window.ended else 0.0


def _off(estimate: float, true: int) -> float | None:
    return estimate / true - 1 if true else None


def _capacity_used(spans: Iterable[Arrived], window: Window) -> float | None:
    if not window.seconds:
        return None
    return sum(window.settled <= span.at < window.ended for span in spans) / (window.seconds * window.capacity)


def _orphans(spans: Iterable[Arrived], traces: Mapping[str, Trace], window: Window) -> int:
    counting = [
        span
        for span in spans
        if (trace := traces.get(span.trace_id)) is not None and window.counts(trace.started) and span.parent_id
    ]
    ids = {span.span_id for span in spans}
    return sum(span.parent_id not in ids for span in counting)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
