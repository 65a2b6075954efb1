"""Any interleaving of spans, time, phases, bounds, flushes and takes: one decision a trace, and all is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_shed.control.threshold import NEVER
from otel_shed.outcome import DropReason
from otel_shed.pipeline.store import Change
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import TraceView, Verdict
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.made_records import made_record, randomness_in
from tests.pipeline.test_traces import undecided

TIMEOUT = 30.0
MAX_SPANS, MAX_BYTES = 40, 4_000
# So that a local trace has a few spans: each but the first has the one of half its number for a parent.
MOST_SPANS = 24


@dataclass
class Known:
    """What happened to one trace, for as long as it must be remembered."""

    randomness: int
    came_with: int | None
    ended: set[int] = field(default_factory=set)
    touched: float = 0.0
    verdicts: int = 0
    taken: list[tuple[SpanRecord, Change | None]] = field(default_factory=list)
    shed: list[tuple[SpanRecord, DropReason]] = field(default_factory=list)


class TracesMachine(RuleBasedStateMachine):
    """Traces under a policy of a threshold, claims and a lowest priority, all of which change."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threshold = 0
        self.min_priority = Priority.LOW
        self.known: dict[int, Known] = {}
        self.order: dict[SpanRecord, int] = {}
        self.held: dict[SpanRecord, None] = {}
        self.in_flight: list[SpanRecord] = []
        self.flushes: list[tuple[int, set[SpanRecord]]] = []
        self.released = Counter[str]()
        self.reasons = Counter[DropReason]()
        self.wanted = False
        self.traces = Traces(
            policy=self.decide,
            shed=self.shed,
            holds=lambda: self.wanted,
            capacity=MAX_SPANS,
            max_spans=MAX_SPANS,
            max_bytes=MAX_BYTES,
            trace_timeout=TIMEOUT,
            stale=5.0,
        )

    # -- what the traces call ------------------------------------------------------------------------------------

    def decide(self, trace: TraceView) -> Verdict:
        known = self.known[trace.trace_id]
        known.verdicts += 1
        assert known.verdicts == 1
        assert not known.taken
        assert trace.now == self.now
        assert trace.ready == self.traces.ready_spans
        if trace.failed:
            return Verdict(min_priority=self.min_priority, rank=Priority.HIGH)
        if trace.priority < self.min_priority:
            return Verdict(DropReason.LOW_PRIORITY)
        if trace.randomness < self.threshold:
            return Verdict(DropReason.OVER_BUDGET, self.threshold)
        return Verdict(threshold=self.threshold, min_priority=self.min_priority)

    def shed(self, records: Sequence[SpanRecord], reason: DropReason) -> None:
        for record in records:
            del self.held[record]
            self.reasons[reason] += 1
            known = self.known[record.trace_id]
            known.shed.append((record, reason))
            known.touched = self.now

    # -- what happens --------------------------------------------------------------------------------------------

    @rule(
        number=st.integers(1, 12),
        span_id=st.integers(1, MOST_SPANS),
        priority=st.sampled_from(Priority),
        failed=st.sampled_from([False, False, False, True]),
        length=st.sampled_from([10, 100, 600]),
        is_remote=st.booleans(),
    )
    def span_ends(
        self, number: int, span_id: int, priority: Priority, failed: bool, length: int, is_remote: bool
    ) -> None:
        # Spread over all of the randomness, half of them close to its end.
        randomness = NEVER - (NEVER >> number) if number % 2 else number * (NEVER // 13)
        known = self.known.setdefault(number, Known(randomness, randomness // 2 if number % 3 == 0 else None))
        if span_id in known.ended:
            return
        known.ended.add(span_id)
        if self.is_forgotten(known):
            self.known[number] = known = Known(known.randomness, known.came_with, ended=known.ended)
        known.touched = self.now
        record = made_record(
            number,
            span_id,
            99 if span_id == 1 and is_remote else span_id // 2,
            is_remote=span_id == 1 and is_remote,
            priority=priority,
            failed=failed,
            length=length,
            randomness=known.randomness,
            threshold=known.came_with,
        )
        self.order[record] = len(self.order)
        self.held[record] = None
        self.traces.add_all([record], self.now)

    @rule(
        number=st.integers(1, 12),
        span_ids=st.lists(st.integers(1, MOST_SPANS), max_size=MOST_SPANS, unique=True),
        priorities=st.lists(st.sampled_from(Priority), min_size=1, max_size=3),
    )
    def spans_end(self, number: int, span_ids: list[int], priorities: list[Priority]) -> None:
        for place, span_id in enumerate(span_ids):
            self.span_ends(number, span_id, priorities[place % len(priorities)], False, 100, False)

    def is_forgotten(self, known: Known) -> bool:
        """Whether it may be, because nothing was seen of it for a lifetime, and nothing of it waits."""
        return self.now - known.touched >= TIMEOUT and not self.waits(known)

    def waits(self, known: Known) -> bool:
        """Whether a span of it is held that the worker has not taken."""
        waiting = set(self.held) - set(self.in_flight)
        return any(randomness_in(record) == known.randomness for record in waiting)

    @rule(seconds=st.sampled_from([0.125, 1.0, 6.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def worker_looks(self) -> None:
        due = self.traces.look(self.now)
        assert due is None or 0.0 <= due <= TIMEOUT
        assert (due is None) == (undecided(self.traces) == 0)

    @rule(is_wanted=st.booleans())
    def phase_changes(self, is_wanted: bool) -> None:
        self.wanted = is_wanted
        self.traces.hold(is_wanted, self.now)

    @rule(share=st.sampled_from([0.0, 0.3, 0.9, 0.99]), min_priority=st.sampled_from([Priority.LOW, Priority.NORMAL]))
    def policy_changes(self, share: float, min_priority: Priority) -> None:
        self.threshold, self.min_priority = int(share * NEVER), min_priority

    @rule(most=st.sampled_from([1, 3, 8, 30]), most_bytes=st.sampled_from([200, 100_000]))
    def worker_takes(self, most: int, most_bytes: int) -> None:
        before = self.traces.ready_spans
        batch = self.traces.take(most, most_bytes)
        assert len(batch.records) <= most
        assert len(batch.records) == before - self.traces.ready_spans
        assert batch.records or not before
        assert set(batch.changes) <= set(batch.records)
        assert batch.length == sum(record.length for record in batch.records)
        for record in batch.records:
            known = self.known[record.trace_id]
            known.taken.append((record, batch.changes.get(record)))
            known.touched = self.now
        self.in_flight += batch.records

    @rule()
    def batch_is_done(self) -> None:
        self.traces.release(len(self.in_flight), sum(record.length for record in self.in_flight))
        for record in self.in_flight:
            del self.held[record]
        self.in_flight = []

    @rule()
    def flush_is_asked_for(self) -> None:
        ticket = self.traces.mark(self.now)
        assert undecided(self.traces) == 0
        self.flushes.append((ticket, set(self.held) - set(self.in_flight)))

    @precondition(lambda self: self.flushes)
    @rule()
    def flush_is_looked_at(self) -> None:
        for flush in list(self.flushes):
            waits = flush[1] & (set(self.held) - set(self.in_flight))
            assert self.traces.is_past(flush[0]) <= (not waits)
            if self.traces.is_past(flush[0]):
                self.flushes.remove(flush)

    @rule()
    def process_forks(self) -> None:
        self.traces.restart()
        self.forget_held()
        self.in_flight, self.flushes = [], []
        assert self.traces.bounds.spans == self.traces.held_bytes == 0

    @rule()
    def shutdown_gives_up(self) -> None:
        self.traces.clear()
        self.forget_held()
        self.flushes = []

    def forget_held(self) -> None:
        """What a child or the end of everything begins with."""
        self.held = dict.fromkeys(self.in_flight) if self.traces.bounds.taken_spans else {}
        for number, known in self.known.items():
            self.known[number] = Known(known.randomness, known.came_with, ended=known.ended, touched=self.now)

    # -- what must stay true -------------------------------------------------------------------------------------

    @invariant()
    def all_is_counted(self) -> None:
        traces = self.traces
        assert traces.bounds.spans == len(self.held)
        assert traces.held_bytes == sum(record.length for record in self.held)
        assert traces.bounds.taken_spans == len(self.in_flight)
        assert undecided(traces) >= 0
        # What the policy above finds wrong shows here.
        assert traces.judge.last_fault is None
        assert 0 <= traces.ready_spans <= traces.bounds.spans
        assert (traces.ready_bytes > 0) == (traces.ready_spans > 0)

    @invariant()
    def held_is_bounded(self) -> None:
        traces = self.traces
        if traces.bounds.spans > traces.bounds.taken_spans:
            assert traces.bounds.spans <= MAX_SPANS
            assert traces.held_bytes <= MAX_BYTES

    @invariant()
    def all_of_a_trace_goes_out_or_nothing(self) -> None:
        for known in self.known.values():
            reasons = {reason for _, reason in known.shed}
            if known.taken:
                # Left out of a trace that is kept, or cut for want of room while it was going out.
                assert reasons <= {DropReason.LOW_PRIORITY, DropReason.QUEUE_FULL}
                left_out = [record for record, reason in known.shed if reason is DropReason.LOW_PRIORITY]
                assert all(record.priority is Priority.LOW and record.span_id != 1 for record in left_out)
                assert not any(record.failed for record in left_out)

    @invariant()
    def thresholds_are_right(self) -> None:
        for known in self.known.values():
            said = {change.threshold for _, change in known.taken if change and change.threshold is not None}
            assert len(said) <= 1
            for threshold in said:
                assert (known.came_with or 0) < threshold <= known.randomness
                assert all(change and change.threshold == threshold for _, change in known.taken)

    @invariant()
    def spans_of_a_trace_stay_in_order(self) -> None:
        for known in self.known.values():
            orders = [self.order[record] for record, _ in known.taken]
            assert orders == sorted(orders)

    @invariant()
    def no_kept_span_is_an_orphan(self) -> None:
        for known in self.known.values():
            records = [record for record, _ in known.taken] + [record for record, _ in known.shed]
            ended = {record.span_id for record in records}
            is_cut = any(reason is DropReason.QUEUE_FULL for _, reason in known.shed)
            is_whole = all(record.span_id == 1 or record.parent_span_id in ended for record in records)
            if is_cut or not is_whole or self.waits(known):
                continue
            taken = {record.span_id for record, _ in known.taken}
            for record, change in known.taken:
                parent = change.parent_span_id if change and change.parent_span_id is not None else None
                assert record.span_id == 1 or (record.parent_span_id if parent is None else parent) in taken

    def teardown(self) -> None:
        """In the end nothing is left behind."""
        self.batch_is_done()
        ticket = self.traces.mark(self.now)
        while self.traces.ready_spans:
            self.worker_takes(8, 100_000)
            self.all_of_a_trace_goes_out_or_nothing()
        self.batch_is_done()
        assert self.traces.is_past(ticket)
        assert self.traces.bounds.spans == self.traces.held_bytes == 0
        self.thresholds_are_right()
        self.no_kept_span_is_an_orphan()
        super().teardown()


TestTraces = TracesMachine.TestCase
TestTraces.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
