"""A storm on a clock that only the simulation moves: interleaved traces, those that are held, and a slow collector.

The queue, the traces held and the policy are the real ones. The worker is a loop that takes a batch when the collector
has worked through the one before; the phase follows from what is ready, and what the collector takes is known from when
it sheds.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from otel_shed.control.policy import BudgetPolicy, Conditions
from otel_shed.control.threshold import adjusted_count
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.queue import NEVER
from otel_shed.pipeline.traces import Traces
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.made_records import made_record

BATCH = 512
# Five eighths of the stock queue begin to hold, three quarters begin to shed, as the brownout's levels have it.
HOLDS_AT, SHEDS_AT = 1280, 1536
STEP = 0.01
MANY = 1 << 40

Load = Callable[[float], float]


@dataclass
class Offered:
    """One trace: when it began, how many of its spans have come through, when the last of those, and what they said."""

    began: float
    failed: bool
    delivered: int = 0
    at: float = 0.0
    threshold: int = 0


@dataclass
class Counts:
    """Of some traces: all, those of which something was delivered, and those delivered whole."""

    all: int
    delivered: int
    whole: int
    estimated: float
    slowest: float


@dataclass
class Storm:
    """Traces of ``size`` spans over ``duration`` seconds, evenly begun.

    capacity: spans a second that the collector takes; it answers nobody while it is ``down``. offered: spans a second,
    by time. failing: share of the traces.
    """

    offered: Load
    capacity: float = 500.0
    size: int = 10
    duration: float = 2.0
    failing: float = 0.01
    max_spans: int = 16_384
    budget: Callable[[float], float | None] | None = None
    down: Callable[[float], bool] = lambda now: False
    seed: int = 1

    now: float = 0.0
    spans: int = 0
    most_held: int = 0
    found: dict[int, Offered] = field(default_factory=dict)
    shed: Counter[DropReason] = field(default_factory=Counter)
    taken: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._sheds = False
        self._due = 0.0
        self._ends: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._in_flight: list[SpanRecord] = []
        self._free_at = 0.0
        self.holds = False
        self.queue = Ledger().queue
        self.traces = Traces(
            policy=BudgetPolicy(conditions=self._conditions),
            shed=self._count,
            queue=self.queue,
            holds=lambda: self.holds,
            capacity=2048,
            max_spans=self.max_spans,
            max_bytes=MANY,
            trace_timeout=30.0,
        )

    def _conditions(self, now: float) -> Conditions:
        known = self.budget(now) if self.budget else self.capacity
        return Conditions(spans_per_second=known, min_priority=Priority.NORMAL) if self._sheds else Conditions()

    def _count(self, records: Sequence[SpanRecord], reason: DropReason) -> None:
        self.shed[reason] += len(records)

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            self._begin()
            self._end()
            self._watch()
            self._work()

    def _begin(self) -> None:
        self._due += self.offered(self.now) / self.size * STEP
        while self._due >= 1.0:
            self._due -= 1.0
            trace_id = self._rng.getrandbits(128)
            self.found[trace_id] = Offered(self.now, self._rng.random() < self.failing)
            part = self._rng.random()
            for number in range(self.size, 0, -1):
                after = self.duration * (self.size - number + part) / self.size
                self._ends[round((self.now + after) / STEP) + 1].append((trace_id, number))

    def _end(self) -> None:
        for trace_id, number in self._ends.pop(round(self.now / STEP), ()):
            failed = number == 1 and self.found[trace_id].failed
            self.spans += 1
            self.queue.push(made_record(trace_id, number, number // 2, failed=failed))
            self._decide()
            self.most_held = max(self.most_held, self.traces.bounds.spans)

    def _decide(self) -> None:
        if self.traces.follow(self.now):
            while self.traces.takes_in and (records := self.queue.pop(BATCH, NEVER)[0]):
                self.traces.add_all(records, self.now)

    def _watch(self) -> None:
        ready = self.traces.ready_spans
        if ready >= HOLDS_AT and not self.traces.is_holding:
            self.holds = True
        self._sheds = self._sheds or ready >= SHEDS_AT

    def _work(self) -> None:
        self._decide()
        self.traces.look(self.now)
        while self.now >= self._free_at:
            if self._in_flight and self.down(self.now):
                self._free_at = self.now + 1.0
                return
            self._deliver()
            batch = self.traces.take(BATCH, MANY)
            if not batch.records:
                return
            for record in batch.records:
                change = batch.changes.get(record)
                offered = self.found[record.trace_id]
                offered.threshold = max(offered.threshold, (change.threshold if change else None) or 0)
            self._in_flight = batch.records
            self._free_at = max(self._free_at, self.now - STEP) + len(batch.records) / self.capacity

    def _deliver(self) -> None:
        for record in self._in_flight:
            offered = self.found[record.trace_id]
            offered.delivered += 1
            offered.at = self.now
        self.traces.release(len(self._in_flight), sum(record.length for record in self._in_flight))
        self.taken[int(self.now)] += len(self._in_flight)
        self._in_flight = []

    # -- what came of it -----------------------------------------------------------------------------------------

    def counts(self, since: float, until: float, *, failed: bool | None = None) -> Counts:
        """Of the traces begun in a time; ``failed``: those that did, or did not."""
        traces = [
            trace
            for trace in self.found.values()
            if since <= trace.began < until and (failed is None or trace.failed is failed)
        ]
        delivered = [trace for trace in traces if trace.delivered]
        return Counts(
            len(traces),
            len(delivered),
            sum(trace.delivered == self.size for trace in delivered),
            sum(adjusted_count(trace.threshold) for trace in delivered),
            max((trace.at - trace.began for trace in delivered), default=0.0),
        )

    def used(self, since: int, until: int) -> float:
        """The share of the capacity that was used."""
        return sum(self.taken[second] for second in range(since, until)) / (until - since) / self.capacity

    @property
    def delivered_spans(self) -> int:
        return sum(trace.delivered for trace in self.found.values())
