"""The local traces on which there is no decision yet: by trace id, by age, and by what they are worth.

Owned by the Traces, called in the ledger. The rule: a trace is in here from its first span until it is decided, and
what it owes for having been here while others had to go is its ``floor`` by then.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from otel_shed.pipeline.held import HeldTrace
from otel_shed.pipeline.ranked import Ranked
from otel_shed.record import Priority, SpanRecord


class Undecided:
    """traces: by trace id, the oldest first. ranked: the same. expires: when the oldest is to be decided, or before."""

    def __init__(self, *, timeout: float) -> None:
        """``timeout``: seconds after its first span at which a trace is to be decided."""
        self._timeout = timeout
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.traces: OrderedDict[int, HeldTrace] = OrderedDict()
        self.ranked = Ranked()
        self.expires = math.inf

    def begin(self, record: SpanRecord, now: float) -> HeldTrace:
        """A new trace, which does not have its first span yet."""
        trace = HeldTrace(record, now)
        if not self.traces:
            self.expires = now + self._timeout
        self.traces[trace.trace_id] = trace
        self.ranked.add(trace)
        return trace

    def add(self, trace: HeldTrace, record: SpanRecord) -> None:
        """One more span of a trace."""
        if (rank := trace.add(record)) > trace.rank:
            self.ranked.raise_rank(trace, rank)

    def remove(self, trace: HeldTrace) -> None:
        """It is decided."""
        del self.traces[trace.trace_id]
        self.ranked.remove(trace)

    @property
    def due_at(self) -> float:
        """As ``expires``; infinite where there is nothing to decide on."""
        return self.expires if self.traces else math.inf

    @property
    def oldest(self) -> HeldTrace | None:
        return next(iter(self.traces.values()), None)

    def expired(self, now: float, before: int) -> HeldTrace | None:
        """A trace whose time is over, or whose first span has an order below ``before``; None if there is none.

        Where it is None, ``expires`` says until when.
        """
        oldest = self.oldest
        self.expires = math.inf if oldest is None else oldest.began + self._timeout
        return oldest if oldest is not None and (self.expires <= now or oldest.order < before) else None

    def sweep(self, rank: Priority) -> tuple[list[HeldTrace], int]:
        """Let go of those of a rank, which must have any, that stand lowest; and what the others reach."""
        traces, edge = self.ranked.sweep(rank)
        for trace in traces:
            del self.traces[trace.trace_id]
        return traces, edge
