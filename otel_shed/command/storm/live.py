"""What is seen while a storm runs: a row of both sides' counts, kept up as spans arrive.

Called by the demo's main thread. The rules: each look counts only what has come since the last one; what is counted is
what the figures count (figures.py), so that the last row has the same numbers as the table below it.
"""

from __future__ import annotations

from otel_shed.command.storm.run import Outcome

HEADING = (
    "               stock: traces delivered   otel-shed: traces delivered\n"
    "  time  load    whole in part   failed    whole in part   failed  phase"
)


class Tally:
    """One side's traces so far, of those that count.

    whole: of which every span has arrived. failed_whole, failed: the same of those that fail, and how many fail.
    seconds: since the storm began. load, phase: now.
    """

    def __init__(self) -> None:
        self._started = self._arrived = 0
        self._sizes: dict[str, int] = {}
        self._failed: set[str] = set()
        self._parts: dict[str, set[str]] = {}
        self._early: dict[str, set[str]] = {}  # spans of traces that have not been told of yet
        self._done: set[str] = set()  # traces that are whole, or do not count
        self.whole = self.failed_whole = 0
        self.seconds = 0.0
        self.load = self.phase = ""

    @property
    def in_part(self) -> int:
        """Traces of which some spans have arrived."""
        return len(self._parts)

    @property
    def failed(self) -> int:
        return len(self._failed)

    def take(self, outcome: Outcome) -> None:
        """Count what has come."""
        window = outcome.window
        if window is None:
            return
        for trace in outcome.started[self._started :]:
            spans = self._early.pop(trace.trace_id, None)
            if not window.counts(trace):
                self._done.add(trace.trace_id)
                continue
            self._sizes[trace.trace_id] = trace.spans
            if trace.failed:
                self._failed.add(trace.trace_id)
            if spans:
                self._parts[trace.trace_id] = spans
                self._settle(trace.trace_id)
        for span in outcome.arrived[self._arrived :]:
            if span.trace_id not in self._done:
                parts = self._parts if span.trace_id in self._sizes else self._early
                parts.setdefault(span.trace_id, set()).add(span.span_id)
                self._settle(span.trace_id)
        self._started, self._arrived = len(outcome.started), len(outcome.arrived)
        last = outcome.readings[-1]
        self.seconds = last.at - window.began
        self.load = "storm" if last.is_storm else "calm"
        self.phase = last.phase

    def _settle(self, trace_id: str) -> None:
        if len(self._parts.get(trace_id, ())) == self._sizes.get(trace_id):
            del self._parts[trace_id]
            self._done.add(trace_id)
            self.whole += 1
            self.failed_whole += trace_id in self._failed


def row(stock: Tally, ours: Tally) -> str:
    """Both sides, as in the heading; the time and the load are those of the side that runs."""
    now = ours if ours.load else stock
    return (
        f" {now.seconds:5.1f}  {now.load:<5} {_counts(stock)}  {_counts(ours)}  {ours.phase.replace('_', ' ')}"
    ).rstrip()


def _counts(tally: Tally) -> str:
    failed = f"{tally.failed_whole:,}/{tally.failed:,}"
    return f"{tally.whole:>7,} {tally.in_part:>7,} {failed:>8}" if tally.load else " " * 24
