"""Spans, time, phases, bounds, admission, flushes and takes in any order: one decision a trace, and all is counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_shed.control.threshold import NEVER
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import KIND, Ledger
from otel_shed.pipeline.store import Change
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import TraceView, Verdict
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.made_records import made_record, randomness_in
from tests.pipeline.test_traces import undecided

TIMEOUT = 30.0
MAX_SPANS, MAX_BYTES, MAX_QUEUE_SIZE = 40, 4_000, 38
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
    # Whether the queue has evicted or refused something of it.
    is_torn: bool = False


@dataclass
class Asked:
    """A flush, what it waits for, and its mark once there is one."""

    order: int
    waits_for: set[SpanRecord]
    mark: int | None = None


def number_of(trace_id: int) -> int:
    return trace_id >> 56


class TracesMachine(RuleBasedStateMachine):
    """Traces under a policy of a threshold, claims and a lowest priority, all of which change."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threshold = int(0.3 * NEVER)
        self.min_priority = Priority.LOW
        self.known: dict[int, Known] = {}
        self.order: dict[SpanRecord, int] = {}
        # What waits in the queue, in its order; what was popped; and what of that the worker has.
        self.queued: list[SpanRecord] = []
        self.held: dict[SpanRecord, None] = {}
        self.in_flight: list[SpanRecord] = []
        self.flushes: list[Asked] = []
        self.evicted = self.refused = 0
        self.room = MAX_QUEUE_SIZE, MAX_BYTES
        self.released = Counter[str]()
        self.reasons = Counter[DropReason]()
        self.wanted = False
        self.ledger = Ledger()
        self.queue = self.ledger.queue
        self.traces = Traces(
            policy=self.decide,
            shed=self.shed,
            queue=self.queue,
            holds=lambda: self.wanted,
            capacity=MAX_SPANS,
            max_spans=MAX_SPANS,
            max_bytes=MAX_BYTES,
            max_queue_size=MAX_QUEUE_SIZE,
            trace_timeout=TIMEOUT,
            stale=5.0,
        )

    # -- what the traces call ------------------------------------------------------------------------------------

    def decide(self, trace: TraceView) -> Verdict:
        known = self.known[number_of(trace.trace_id)]
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
            known = self.known[number_of(record.trace_id)]
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
        record = made_record(
            number << 56 | randomness,
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
        self.queue.push(record)
        higher = [each for each in self.queued if each.priority > priority]
        if priority < Priority.HIGH and randomness < self.queue.admission:
            self.refused += 1
            known.is_torn = True
        elif not self.is_room_for([*higher, record]):
            self.evicted += 1
            known.is_torn = True
        else:
            while not self.is_room_for([*self.queued, record]):
                self.evict()
            self.queued.append(record)

    def is_room_for(self, records: list[SpanRecord]) -> bool:
        most, most_bytes = self.room
        return len(records) <= most and sum(record.length for record in records) <= most_bytes

    def evict(self) -> None:
        """The oldest of the lowest priority goes."""
        lowest = min(self.queued, key=lambda record: record.priority)
        self.queued.remove(lowest)
        self.evicted += 1
        self.known[number_of(lowest.trace_id)].is_torn = True

    def queue_is_resized(self) -> None:
        """As the intake has it done after each step."""
        self.traces.resize_queue()
        bounds = self.traces.bounds
        self.room = MAX_QUEUE_SIZE - bounds.waiting, MAX_BYTES - bounds.length
        while not self.is_room_for(self.queued):
            self.evict()

    @rule(share=st.sampled_from([0.0, 0.0, 0.3, 0.8]))
    def admission_changes(self, share: float) -> None:
        self.traces.admit_from(int(share * NEVER))

    @rule(most=st.sampled_from([1, 4, 1000]))
    def queue_is_drained(self, most: int) -> None:
        if self.traces.follow(self.now):
            while most > 0 and self.traces.takes_in and (popped := self.queue.pop(1)[0]):
                most -= 1
                self.came_out(popped)
                self.traces.add_all(popped, self.now)
            assert self.traces.look(self.now)
            self.queue_is_resized()

    def came_out(self, popped: list[SpanRecord]) -> None:
        """The queue has given these away: from now on they are known of."""
        assert popped == self.queued[: len(popped)]
        del self.queued[: len(popped)]
        for record in popped:
            number = number_of(record.trace_id)
            known = self.known[number]
            if self.is_forgotten(known):
                self.known[number] = known = Known(
                    known.randomness, known.came_with, ended=known.ended, is_torn=known.is_torn
                )
            known.touched = self.now
            self.held[record] = None

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
        """Whether a span of it was popped that the worker has not taken."""
        waiting = set(self.held) - set(self.in_flight)
        return any(randomness_in(record) == known.randomness for record in waiting)

    @rule(seconds=st.sampled_from([0.125, 1.0, 6.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def worker_looks(self) -> None:
        assert self.traces.look(self.now)
        assert not self.traces.due_at < self.now
        assert (self.traces.due_at == math.inf) == (undecided(self.traces) == 0)

    @rule(most=st.integers(1, 3))
    def worker_looks_for_a_moment(self, most: int) -> None:
        before = len(self.traces._undecided.traces)
        is_all = self.traces.look(self.now, most)
        assert before - len(self.traces._undecided.traces) <= most
        assert is_all or self.traces.due_at <= self.now or self.traces.is_due

    @rule(is_wanted=st.booleans())
    def phase_changes(self, is_wanted: bool) -> None:
        self.wanted = is_wanted

    @rule(share=st.sampled_from([0.0, 0.3, 0.9, 0.99]), min_priority=st.sampled_from([Priority.LOW, Priority.NORMAL]))
    def policy_changes(self, share: float, min_priority: Priority) -> None:
        self.threshold, self.min_priority = int(share * NEVER), min_priority

    @rule(most=st.sampled_from([1, 3, 8, 30]), most_bytes=st.sampled_from([200, 100_000]))
    def worker_takes(self, most: int, most_bytes: int) -> None:
        before = self.traces.ready_spans
        batch = self.traces.take(most, most_bytes)
        assert batch.popped <= len(batch.records) <= most
        self.came_out(batch.records[len(batch.records) - batch.popped :])
        assert len(batch.records) == before - self.traces.ready_spans
        assert batch.records or not before or not most
        assert set(batch.changes) <= set(batch.records)
        assert batch.length == sum(record.length for record in batch.records)
        for record in batch.records:
            known = self.known[number_of(record.trace_id)]
            known.taken.append((record, batch.changes.get(record)))
            known.touched = self.now
        self.in_flight += batch.records
        self.queue_is_resized()

    @rule()
    def batch_is_done(self) -> None:
        self.traces.release(len(self.in_flight), sum(record.length for record in self.in_flight))
        for record in self.in_flight:
            del self.held[record]
        self.in_flight = []
        self.queue_is_resized()

    @rule(most=st.sampled_from([0, 3, 30]), number=st.integers(1, 12), others=st.integers(0, 2))
    def a_trace_ends_and_goes_on(self, most: int, number: int, others: int) -> None:
        """Its local root ends, a batch goes, and then some spans that come late."""
        self.span_ends(number, 1, Priority.NORMAL, False, 10, False)
        self.queue_is_drained(1000)
        self.worker_takes(most, 100_000)
        self.batch_is_done()
        self.spans_end(number, list(range(2, 3 + others)), [Priority.NORMAL])

    @rule()
    def flush_is_asked_for(self) -> None:
        order = self.queue.mark()
        self.traces.decide_before(order)
        self.flushes.append(Asked(order, {*self.queued} | set(self.held) - set(self.in_flight)))

    @precondition(lambda self: self.flushes)
    @rule()
    def flush_is_looked_at(self) -> None:
        for flush in list(self.flushes):
            flush.mark = self.traces.mark(flush.order) if flush.mark is None else flush.mark
            if flush.mark is not None and self.traces.is_past(flush.mark):
                assert not flush.waits_for & ({*self.queued} | set(self.held) - set(self.in_flight))
                self.flushes.remove(flush)

    @rule()
    def process_forks(self) -> None:
        self.queue.restart()
        self.traces.restart()
        self.forget_held()
        self.in_flight, self.flushes = [], []
        self.evicted = self.refused = 0
        self.queue_is_resized()
        assert self.traces.bounds.spans == self.traces.held_bytes == 0

    @rule()
    def shutdown_gives_up(self) -> None:
        self.queue.clear(KIND[DropReason.SHUTDOWN])
        self.traces.clear()
        self.forget_held()
        self.queue_is_resized()
        self.traces.admit_from(self.queue.admission)
        self.flushes = []

    def forget_held(self) -> None:
        """What a child or the end of everything begins with."""
        self.held = dict.fromkeys(self.in_flight) if self.traces.bounds.taken_spans else {}
        self.queued = []
        for number, known in self.known.items():
            self.known[number] = Known(
                known.randomness, known.came_with, ended=known.ended, touched=self.now, is_torn=known.is_torn
            )

    # -- what must stay true -------------------------------------------------------------------------------------

    @invariant()
    def all_is_counted(self) -> None:
        traces = self.traces
        assert traces.bounds.spans == len(self.held)
        assert traces.held_bytes == sum(record.length for record in [*self.held, *self.queued])
        assert self.queue.records == len(self.queued)
        dropped = self.ledger.dropped
        assert (dropped[DropReason.QUEUE_FULL], dropped[DropReason.OVER_BUDGET]) == (self.evicted, self.refused)
        assert traces.bounds.taken_spans == len(self.in_flight)
        assert undecided(traces) >= 0
        # What the policy above finds wrong shows here.
        assert traces.judge.last_fault is None
        assert 0 <= traces.ready_spans <= traces.bounds.spans + self.queue.records
        assert (traces.ready_bytes > 0) == (traces.ready_spans > 0)

    @invariant()
    def held_is_bounded(self) -> None:
        traces = self.traces
        assert traces.held_bytes <= MAX_BYTES
        assert traces.bounds.waiting + self.queue.records <= MAX_QUEUE_SIZE
        if traces.bounds.waiting:
            assert traces.bounds.spans <= MAX_SPANS
            assert traces.bounds.length <= MAX_BYTES * 7 / 8

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
            came_with = known.came_with or 0
            said = [(record, (change and change.threshold) or 0) for record, change in known.taken]
            # One for all of them, that of the decision, and for each its own that it was admitted by.
            of_all = {threshold for record, threshold in said if threshold > record.admission}
            assert len(of_all) <= 1
            decided = max(of_all, default=0)
            for record, threshold in said:
                assert not (record.admission and record.priority >= Priority.HIGH)
                right = max(decided, record.admission)
                assert threshold == (right if right > came_with else 0)
                assert threshold <= known.randomness

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
            if is_cut or known.is_torn or not is_whole or self.waits(known):
                continue
            taken = {record.span_id for record, _ in known.taken}
            for record, change in known.taken:
                parent = change.parent_span_id if change and change.parent_span_id is not None else None
                assert record.span_id == 1 or (record.parent_span_id if parent is None else parent) in taken

    def teardown(self) -> None:
        """In the end nothing is left behind."""
        self.flush_is_asked_for()
        for _ in range(100):
            self.batch_is_done()
            self.queue_is_drained(1000)
            if self.flushes:
                self.flush_is_looked_at()
            if not self.flushes:
                break
            self.worker_takes(8, 100_000)
            self.all_of_a_trace_goes_out_or_nothing()
        assert not self.flushes
        assert self.queue.records == 0
        assert self.traces.bounds.spans == self.traces.held_bytes == 0
        self.thresholds_are_right()
        self.no_kept_span_is_an_orphan()
        super().teardown()


TestTraces = TracesMachine.TestCase
TestTraces.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
