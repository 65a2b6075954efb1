"""Local traces: held until they can be decided on whole, and what becomes of each of their spans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import FrozenInstanceError, replace

import pytest

from otel_shed.control.threshold import NEVER, format_ot, threshold_of
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.store import Change
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict, view_of
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.made_records import made_record, owe

HALF = NEVER // 2
MANY = 1 << 40
KEEP = Verdict()
OVER_BUDGET = Verdict(DropReason.OVER_BUDGET)


def undecided(traces: Traces) -> int:
    """Spans of traces on which there is no decision yet."""
    return sum(len(trace.records) for trace in traces._undecided.traces.values())


class Held:
    """Traces under test behind a queue that is drained as an intake does it, with what they told."""

    def __init__(self, policy: Policy | Verdict = KEEP, *, holding: bool = True, **settings: float) -> None:
        self.views: list[TraceView] = []
        self.shed: list[tuple[SpanRecord, DropReason]] = []
        self.policy = policy
        how: dict[str, float] = {"max_spans": 1000, "max_bytes": MANY, "trace_timeout": 30.0} | settings
        self.wanted = False
        self.ledger = Ledger()
        self.queue = self.ledger.queue
        self.traces = Traces(
            policy=self._decide,
            shed=lambda records, reason: self.shed.extend((record, reason) for record in records),  # type: ignore[arg-type, misc]
            queue=self.queue,
            holds=lambda: self.wanted,
            capacity=MANY,
            **how,  # type: ignore[arg-type]
        )
        self.hold(holding, 0.0)

    def hold(self, wanted: bool, now: float) -> None:
        self.wanted = wanted
        self.drain(now)

    def _decide(self, trace: TraceView) -> Verdict:
        self.views.append(trace)
        return self.policy if isinstance(self.policy, Verdict) else self.policy(trace)

    def add(self, *records: SpanRecord, now: float = 0.0) -> None:
        for record in records:
            assert not self.queue.push(record)
            self.drain(now)

    def drain(self, now: float) -> None:
        if self.traces.follow(now):
            while self.traces.takes_in and (records := self.queue.pop(16)[0]):
                self.traces.add_all(records, now)
            self.traces.look(now)
            self.traces.resize_queue()

    def flush(self, now: float) -> int:
        """Have all that has ended decided on; the mark to ask by, of a flush that is asked for now."""
        order = self.queue.mark()
        self.traces.decide_before(order)
        self.drain(now)
        mark = self.traces.mark(order)
        assert mark is not None
        return mark

    def take(self, most: int = 1000) -> list[SpanRecord]:
        """What the worker gets, which it is done with at once."""
        batch = self.traces.take(most, MANY)
        self.traces.release(len(batch.records), batch.length)
        self.traces.resize_queue()
        self.changes = batch.changes
        return batch.records

    def shed_for(self, reason: DropReason) -> list[SpanRecord]:
        return [record for record, why in self.shed if why is reason]


def trace(number: int, *, spans: int = 3, randomness: int | None = None, **root: object) -> list[SpanRecord]:
    """The spans of a local trace as they end: the root, which has the others for children, last."""
    ids = range(spans, 0, -1)
    records = [made_record(number, each, int(each > 1), randomness=randomness) for each in ids]
    for name, value in root.items():
        setattr(records[-1], name, value)
    return records


def by_threshold(share: float) -> Callable[[TraceView], Verdict]:
    """The policy that keeps this share."""
    threshold = threshold_of(share)

    def decide(trace: TraceView) -> Verdict:
        return Verdict(None if trace.randomness >= threshold else DropReason.OVER_BUDGET, threshold)

    return decide


def ids(records: Iterable[SpanRecord]) -> list[tuple[int, int]]:
    return [(record.trace_id, record.span_id) for record in records]


# -- two ways through -----------------------------------------------------------------------------------------------


def test_spans_stream_while_nothing_is_held() -> None:
    """In the order in which they ended, at once, and nobody is asked."""
    held = Held(OVER_BUDGET, holding=False)
    records = trace(1) + trace(2)
    held.add(*records)
    assert held.take() == records
    assert held.views == held.shed == []


def test_a_trace_is_held_until_its_local_root_ends() -> None:
    """Then it goes, whole."""
    held = Held()
    *children, root = trace(1)
    held.add(*children)
    assert held.take() == []
    assert undecided(held.traces) == 2
    held.add(root)
    assert held.take() == [*children, root]


def test_a_parent_in_another_process_makes_a_local_root() -> None:
    """The local trace is complete with it."""
    held = Held()
    held.add(made_record(1, 2, 1), made_record(1, 1, 77, is_remote=True))
    assert len(held.take()) == 2


def test_the_policy_sees_the_whole_trace() -> None:
    """What it decides by is that of all of its spans."""
    held = Held()
    records = trace(5, randomness=HALF, duration_ns=2_000_000_000)
    records[0].priority, records[1].failed = Priority.HIGH, True
    owe(records[1], 7)
    held.add(*records, now=3.0)
    assert held.views == [TraceView(5, HALF, 7, Priority.HIGH, True, 2.0, 3, 300, 3.0, 0, 0)]
    held.add(*trace(6), now=4.0)
    assert held.views[1] == TraceView(6, 6, None, Priority.NORMAL, False, 0.0, 3, 300, 4.0, 3, 3)


def test_a_trace_without_local_root_is_decided_when_its_time_is_over() -> None:
    """A leaked root, or a consumer that runs for a week: the timeout counts from the first span."""
    held = Held(trace_timeout=30.0)
    held.add(made_record(1, 2, 1), now=10.0)
    held.add(made_record(1, 3, 1), now=35.0)
    assert held.traces.due_at == 40.0
    assert held.traces.look(39.0)
    assert held.take() == []
    assert held.traces.look(40.0)
    assert held.traces.due_at == math.inf
    assert ids(held.take()) == [(1, 2), (1, 3)]
    assert held.views[0].duration is None


def test_a_look_decides_on_no_more_than_it_may() -> None:
    """The oldest first; it says whether that was all, and the rest stays due."""
    held = Held(OVER_BUDGET, trace_timeout=30.0)
    held.add(*[made_record(number, 2, 1) for number in range(5)])
    assert not held.traces.look(31.0, 2)
    assert ids(held.shed_for(DropReason.OVER_BUDGET)) == [(0, 2), (1, 2)]
    assert not held.traces.look(31.0, 2)
    assert held.traces.due_at == 30.0
    assert held.traces.look(31.0, 2)
    assert len(held.shed) == 5


def test_late_spans_follow_the_decision() -> None:
    """Whether the trace has gone, waits, or was shed; the policy is asked once."""
    held = Held(by_threshold(0.5))
    gone, waits, shed = trace(1, randomness=HALF), trace(2, randomness=HALF), trace(3, randomness=0)
    held.add(*gone[1:])
    held.take()
    held.add(*waits[1:], *shed[1:])
    held.add(gone[0], waits[0], shed[0])
    assert held.take() == [*waits[1:], waits[0], gone[0]]
    assert {change.threshold for change in held.changes.values()} == {HALF}
    assert len(held.changes) == 4
    assert [record for record, _ in held.shed] == [*shed[1:], shed[0]]
    assert len(held.views) == 3


def test_a_trace_that_has_begun_to_go_out_goes_to_its_end() -> None:
    """When spans are held from now on, those of a trace of which something was sent still go as they come."""
    held = Held(OVER_BUDGET, holding=False)
    records = trace(1)
    held.add(records[0])
    held.take()
    held.hold(True, 1.0)
    held.add(*records[1:])
    assert held.take() == records[1:]


def test_what_has_not_gone_is_put_together_again() -> None:
    """When spans are held from now on, those that wait to go out are held with the others of their trace."""
    held = Held(by_threshold(0.5), holding=False)
    kept, shed = trace(1, randomness=HALF), trace(2, randomness=0)
    held.add(kept[0], shed[0], kept[1], shed[1])
    held.hold(True, 1.0)
    assert held.take() == []
    held.add(kept[2], shed[2])
    assert held.take() == kept
    assert [record for record, _ in held.shed] == shed


def test_what_is_put_together_again_is_decided_once() -> None:
    """Also where the local root ended before its children, so that they are late by then."""
    held = Held(OVER_BUDGET, holding=False)
    records = [made_record(1, 1), made_record(1, 2, 1), made_record(1, 3, 1)]
    held.add(*records)
    held.hold(True, 1.0)
    assert [record for record, _ in held.shed] == records
    assert held.views[0].spans == 1


def test_a_trace_that_is_held_is_decided_in_its_time() -> None:
    """When spans are no longer held, those of a held trace still are; new ones are not."""
    held = Held(OVER_BUDGET)
    old, new = trace(1), trace(2)
    held.add(old[0])
    held.hold(False, 1.0)
    held.add(old[1], new[0])
    assert held.take() == [new[0]]
    held.add(old[2])
    assert [record for record, _ in held.shed] == old


def test_late_spans_join_a_trace_that_waits_after_holding_has_ended() -> None:
    """They say the same threshold."""
    held = Held(by_threshold(0.5))
    records = trace(1, randomness=HALF)
    held.add(*records[1:])
    held.hold(False, 1.0)
    held.add(records[0])
    assert held.take() == [*records[1:], records[0]]
    assert [change.threshold for change in held.changes.values()] == [HALF] * 3


def test_late_spans_of_a_shed_trace_are_shed_after_holding_has_ended() -> None:
    """For as long as it is remembered: from one trace timeout to two."""
    held = Held(OVER_BUDGET, trace_timeout=30.0)
    late = trace(1, spans=5)
    held.add(*late[2:])
    held.hold(False, 1.0)
    held.add(late[0], now=20.0)
    assert len(held.shed) == 4
    for now in (31.0, 62.0, 93.0):
        held.traces.look(now)
    held.add(late[1], now=93.0)
    assert held.take() == [late[1]]


def test_decisions_are_remembered_as_long_as_spans_keep_coming() -> None:
    """Each late span that follows one has it remembered anew."""
    held = Held(OVER_BUDGET, trace_timeout=30.0)
    held.add(*trace(1))
    for number in range(10):
        now = 20.0 * number
        held.traces.look(now)
        held.add(made_record(1, 100 + number, 1), now=now)
    assert len(held.views) == 1
    assert len(held.shed) == 13


# -- honest counts --------------------------------------------------------------------------------------------------


def test_each_kept_span_says_the_threshold_in_force() -> None:
    """It is raised where it was lower or there was none, and never lowered."""
    held = Held(by_threshold(0.5))
    records = trace(1, spans=4, randomness=NEVER - 1)
    for record, threshold in zip(records, [None, 5, HALF, HALF + 5], strict=True):
        owe(record, threshold)
    held.add(*records)
    held.take()
    assert held.changes == {records[0]: Change(None, HALF), records[1]: Change(None, HALF)}


def test_what_is_kept_for_what_it_is_stays_as_it_came() -> None:
    """No threshold was in the way."""
    held = Held(KEEP)
    held.add(*trace(1, trace_state={"ot": format_ot(HALF)}))
    held.take()
    assert held.changes == {}


def test_what_survives_the_want_of_room_says_so() -> None:
    """Traces that had to go because they stood lowest would have taken the others with them, had these stood there."""
    held = Held(max_spans=20)
    for number in range(6):
        held.add(*trace(number, randomness=number * (NEVER // 6)))
    assert held.traces.bounds.spans == 18
    held.add(made_record(7, 2, 1, randomness=NEVER - 1), made_record(8, 2, 1, randomness=NEVER - 1))
    held.add(made_record(9, 2, 1, randomness=NEVER - 1))
    survivors = {record.trace_id: record for record in held.take()}
    assert sorted(survivors) == [1, 2, 3, 4, 5]
    said = {change.threshold for change in held.changes.values()}
    assert said == {NEVER // 16}
    assert ids(held.shed_for(DropReason.OVER_BUDGET)) == [(0, 3), (0, 2), (0, 1)]


def test_without_room_what_stands_lowest_goes_whatever_its_threshold() -> None:
    """Kept by a threshold of now, it would count for others that are held against a later one."""
    held = Held(by_threshold(1.0), max_spans=8)
    low = [made_record(number, 2, 1, randomness=number) for number in range(3)]
    failed = made_record(3, 2, 1, randomness=0, failed=True)
    high = [made_record(number, 2, 1, randomness=NEVER - 1) for number in range(4, 9)]
    held.add(*low, failed, *high)
    assert held.shed_for(DropReason.OVER_BUDGET) == low
    held.flush(1.0)
    assert held.take() == [failed, *high]
    assert {change.threshold for change in held.changes.values()} == {NEVER // 16}
    assert failed not in held.changes


def test_early_decisions_bind_what_stays_undecided() -> None:
    """What was not yet decided, and would have been shed had it stood as low, is kept for that threshold later."""
    verdicts = [by_threshold(0.25)]
    held = Held(lambda trace: verdicts[0](trace), max_spans=8)
    low = [made_record(number, 2, 1, randomness=number) for number in range(8)]
    last = trace(99, spans=2, randomness=NEVER - 1)
    held.add(last[0], *low)
    assert len(held.shed) == 8
    verdicts[0] = by_threshold(1.0)
    held.add(last[1])
    held.take()
    assert [change.threshold for change in held.changes.values()] == [NEVER // 16] * 2


# -- worth too little -----------------------------------------------------------------------------------------------


def test_low_spans_are_left_out_and_their_children_attached_above() -> None:
    """Only of those that are kept, and never the root or what failed."""
    held = Held(Verdict(min_priority=Priority.NORMAL))
    low = Priority.LOW
    records = [
        made_record(1, 5, 4),
        made_record(1, 4, 3, priority=low),
        made_record(1, 3, 2, priority=low),
        made_record(1, 6, 2, priority=low, failed=True),
        made_record(1, 2, 1),
        made_record(1, 1, 0, priority=low),
    ]
    held.add(*records)
    assert ids(held.take()) == [(1, 5), (1, 6), (1, 2), (1, 1)]
    assert held.changes == {records[0]: Change(2, None)}
    assert ids(held.shed_for(DropReason.LOW_PRIORITY)) == [(1, 4), (1, 3)]
    late = made_record(1, 7, 3)
    held.add(late, made_record(1, 8, 1, priority=low))
    assert held.take() == [late]
    assert held.changes == {late: Change(2, None)}


def test_a_kept_trace_of_which_all_is_left_out_leaves_nothing_behind() -> None:
    """Whatever the policy says, nothing of it waits."""
    held = Held(Verdict(min_priority=Priority.CRITICAL), trace_timeout=1.0)
    held.add(made_record(1, 3, 2), now=0.0)
    held.traces.look(2.0)
    assert held.take() == []
    assert held.traces.bounds.spans == 0
    assert len(held.shed_for(DropReason.LOW_PRIORITY)) == 1


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_full_decides_the_lowest_priority_first_then_the_lowest_randomness() -> None:
    """What failed counts as HIGH, from then on."""
    held = Held(OVER_BUDGET, max_spans=8)
    held.add(
        *[made_record(number, 2, 1, priority=Priority.CRITICAL) for number in (10, 11, 12)],
        made_record(1, 2, 1, randomness=0),
        made_record(1, 3, 1, randomness=0, failed=True),
        made_record(2, 2, 1, randomness=HALF),
        made_record(3, 2, 1, randomness=0),
        made_record(4, 2, 1, randomness=NEVER - 1, priority=Priority.LOW),
    )
    for number, gone in ((5, 4), (6, 3), (7, 2), (8, 1)):
        held.add(made_record(number, 2, 1, priority=Priority.CRITICAL))
        assert held.views[-1].trace_id == gone


def test_of_those_that_stand_equal_the_oldest_is_decided_first() -> None:
    """They stand in one bucket, and are decided together."""
    held = Held(OVER_BUDGET, max_spans=3)
    held.add(*[made_record(number, 2, 1, randomness=0) for number in (3, 1, 2, 4)])
    assert [view.trace_id for view in held.views] == [3, 1, 2, 4]


def test_full_of_what_is_kept_lets_go_of_whole_traces() -> None:
    """What was kept and waits gives way to what is new, whole, for want of budget."""
    held = Held(max_spans=30)
    for number in range(20):
        held.add(*trace(number, randomness=number * (NEVER // 20)))
    assert held.traces.bounds.spans <= 30
    taken = held.take()
    assert len(taken) >= 24
    for number in range(20):
        assert sum(record.trace_id == number for record in taken) in (0, 3)
    assert len(held.shed_for(DropReason.OVER_BUDGET)) == 60 - len(taken)


def test_bytes_are_bounded_too() -> None:
    """Large spans make room as many small ones do."""
    held = Held(OVER_BUDGET, max_bytes=1000, max_queue_size=1000)
    for number in range(9):
        held.add(made_record(number, 2, 1, length=200))
        assert held.traces.held_bytes <= 800
    assert undecided(held.traces) == 4


def test_bytes_in_the_workers_hands_count() -> None:
    """Until it is done with them."""
    held = Held(max_spans=10)
    held.add(*[made_record(number) for number in range(8)])
    batch = held.traces.take(8, MANY)
    held.add(*[made_record(number, randomness=0) for number in range(100, 104)])
    assert held.traces.bounds.spans <= 10
    held.traces.release(len(batch.records), batch.length)
    assert held.traces.bounds.spans <= 2
    assert held.traces.bounds.taken_spans == 0


def test_what_goes_out_as_it_comes_drops_the_oldest_of_the_lowest_priority() -> None:
    """Nothing is put together there: the newest stay, in spans and in bytes."""
    held = Held(holding=False, max_bytes=1000, max_queue_size=8)
    held.add(made_record(1, 2, 1, priority=Priority.HIGH), *[made_record(number, 2, 1) for number in range(2, 12)])
    assert held.traces.is_streaming
    assert held.ledger.dropped[DropReason.QUEUE_FULL] == 3
    held.add(made_record(12, 2, 1, length=500))
    assert [record.trace_id for record in held.take()] == [1, 8, 9, 10, 11, 12]
    assert held.shed == []


def test_a_trace_larger_than_its_share_is_decided_at_once() -> None:
    """One of 100,000 spans must not push out all the others."""
    held = Held(by_threshold(0.5), max_spans=1000)
    other = made_record(2, 2, 1, randomness=0)
    held.add(other)
    for number in range(100_000):
        held.add(made_record(1, number + 2, 1, randomness=0, length=1))
    assert [view.trace_id for view in held.views] == [1]
    assert held.views[0].spans == 251
    assert len(held.shed) == 100_000
    assert undecided(held.traces) == 1


def test_a_trace_that_is_kept_and_larger_than_all_is_cut() -> None:
    """Nothing else can be done: what has begun to go out is cut at one place, and counted."""
    held = Held(KEEP, max_spans=1000)
    for number in range(100_000):
        held.add(made_record(1, number + 2, 1, length=1))
        if number == 500:
            assert len(held.take(100)) == 100
        assert held.traces.bounds.spans <= 1000
    cut = held.shed_for(DropReason.QUEUE_FULL)
    taken = held.take(100_000)
    assert len(held.views) == 1
    assert len(cut) + len(taken) + 100 == 100_000
    assert len(held.shed) == len(cut)


def test_traces_that_are_cut_lose_the_rest_and_the_others_nothing() -> None:
    """Of those that have begun to go out some give way, those of the lowest randomness."""

    def spans(span_id: int) -> list[SpanRecord]:
        return [made_record(number, span_id, 1, randomness=number * (NEVER // 60)) for number in range(60)]

    held = Held(holding=False, max_spans=100)
    held.add(*spans(2))
    assert len(held.take(60)) == 60
    held.hold(True, 0.0)
    held.add(*spans(3), *spans(4), *spans(5), *spans(6))
    assert held.traces.bounds.spans <= 100
    cut = {record.trace_id for record, _ in held.shed}
    whole = [number for number in range(60) if number not in cut]
    taken = ids(held.take())
    assert {why for _, why in held.shed} == {DropReason.QUEUE_FULL}
    held.add(made_record(min(cut), 7, 1))
    assert held.take() == []
    assert len(whole) >= 20
    assert min(whole) > max(cut)
    assert all((number, span_id) in taken for number in whole for span_id in (3, 4, 5, 6))


def test_a_flush_does_not_wait_for_what_is_cut() -> None:
    """Nor for as many others in its place."""
    held = Held(holding=False, max_spans=100)
    before, flushed, after = (
        [made_record(number, span_id, 1, randomness=number * (NEVER // 60)) for number in range(60)]
        for span_id in (2, 3, 4)
    )
    held.add(*before)
    held.take()
    held.hold(True, 0.0)
    held.add(*flushed)
    ticket = held.flush(0.0)
    held.add(*after)
    waits = {*flushed} - {record for record, _ in held.shed}
    assert 0 < len(waits) < 60
    while not held.traces.is_past(ticket):
        assert waits
        waits -= {*held.take(1)}
    assert not waits
    assert held.traces.ready_spans > 0


def test_a_hundred_thousand_open_traces() -> None:
    """Bounded, decided and counted."""
    held = Held(by_threshold(0.1), max_spans=5000)
    step = NEVER // 100_000
    for number in range(100_000):
        held.add(made_record(number, 2, 1, randomness=number * 7919 % 100_000 * step, length=1), now=number / 1000)
        assert held.traces.bounds.spans <= 5000
    held.flush(100.0)
    taken = held.take(100_000)
    assert len(held.views) == 100_000
    assert len(held.shed) + len(taken) == 100_000
    # Some went for want of room, and what is left counts for them.
    stand_for = [NEVER / (NEVER - (held.changes[record].threshold or 0)) for record in taken]
    assert sum(stand_for) == pytest.approx(100_000, rel=0.1)


def test_a_service_that_calls_itself_is_one_trace() -> None:
    """The first local root that ends decides, and the others follow."""
    held = Held()
    inner, outer = made_record(1, 3, 2, is_remote=True), made_record(1, 1, 0)
    held.add(inner, made_record(1, 2, 1), outer)
    assert len(held.take()) == 3
    assert len(held.views) == 1


# -- fresh first ----------------------------------------------------------------------------------------------------


def test_traces_go_in_the_order_in_which_they_were_decided() -> None:
    """As long as there is no backlog from before."""
    held = Held()
    for number in range(4):
        held.add(*trace(number), now=float(number))
    assert [record.trace_id for record in held.take()] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def test_after_an_outage_the_newest_go_first() -> None:
    """What waited too long goes after what is fresh, the newest of it first, and each trace in its order."""
    held = Held(stale=10.0)
    for number in range(3):
        held.add(*trace(number), now=float(number))
    held.traces.look(20.0)
    for number in (3, 4):
        held.add(*trace(number), now=20.0)
    taken = held.take()
    assert [record.trace_id for record in taken[::3]] == [3, 4, 2, 1, 0]
    assert [record.span_id for record in taken] == [3, 2, 1] * 5


def test_traces_are_not_parted_between_batches() -> None:
    """A batch that is lost takes as few traces with it as can be."""
    held = Held()
    for number in range(4):
        held.add(*trace(number))
    assert [len(held.take(7)) for _ in range(3)] == [6, 6, 0]


def test_a_trace_larger_than_a_batch_goes_in_pieces() -> None:
    """And half of each batch is left to the others."""
    held = Held()
    held.add(*trace(1, spans=20))
    for number in range(2, 10):
        held.add(*trace(number, spans=2))
    first = held.take(8)
    assert [record.trace_id for record in first].count(1) == 4
    taken = first
    while records := held.take(8):
        taken += records
    assert [record.span_id for record in taken if record.trace_id == 1] == list(range(20, 0, -1))
    assert len(taken) == 36


# -- flush, shutdown, fork ------------------------------------------------------------------------------------------


def test_a_flush_decides_on_everything_and_goes_first() -> None:
    """What is held when it is asked for goes before what comes then, and it is told when that is gone."""
    held = Held()
    waits, undecided = trace(1), trace(2)
    held.add(*waits, undecided[0])
    ticket = held.flush(1.0)
    held.add(*trace(3), now=1.0)
    assert [view.trace_id for view in held.views] == [1, 2, 3]
    assert held.take(3) == waits
    assert not held.traces.is_past(ticket)
    assert undecided[0] in held.take(3)
    assert held.traces.is_past(ticket)
    assert len(held.take()) == 3


def test_a_flush_waits_for_streaming_spans() -> None:
    """Those that ended before it, and no others."""
    held = Held(holding=False)
    held.add(*[made_record(number) for number in range(5)])
    order = held.queue.mark()
    held.add(*[made_record(number) for number in range(5, 9)])
    held.take(4)
    assert held.traces.mark(order) is None
    held.take(1)
    ticket = held.traces.mark(order)
    assert ticket is not None
    assert held.traces.is_past(ticket)


def test_a_flush_goes_on_when_traces_are_held_from_now_on() -> None:
    """What was queued before it is decided on at once, as far as it has come, and is waited for until it has gone."""
    held = Held(holding=False)
    before, after = trace(1), trace(2)
    held.add(*before[:2])
    order = held.queue.mark()
    held.traces.decide_before(order)
    held.add(after[0])
    held.hold(True, 0.0)
    assert ([view.trace_id for view in held.views], undecided(held.traces)) == ([1], 1)
    mark = held.traces.mark(order)
    assert mark is not None
    assert held.take(1) == before[:1]
    assert not held.traces.is_past(mark)
    held.add(before[2], *after[1:])
    assert held.take(1) == before[1:2]
    assert held.traces.is_past(mark)
    assert held.take() == [*after, before[2]]


def test_a_flush_goes_on_when_traces_are_no_longer_held() -> None:
    """It waits for what was held and for what has come since and is to be queued behind that."""
    held = Held(trace_timeout=5.0)
    first, second = trace(1), trace(2)
    held.add(*first, second[0])
    mark = held.flush(0.0)
    held.hold(False, 0.0)
    held.add(*second[1:], *trace(3))
    assert not held.traces.is_past(mark)
    assert held.take(3) == first
    assert not held.traces.is_past(mark)
    assert held.take(3) == second
    assert held.traces.is_past(mark)
    assert len(held.take()) == 3


def test_a_flush_does_not_decide_on_what_comes_after_it() -> None:
    """Whatever way the span has taken by then: it is the queue's number of it that tells."""
    held = Held(trace_timeout=5.0)
    held.add(*trace(1))
    held.flush(0.0)
    held.hold(False, 0.0)
    held.add(made_record(2, 2, 1))  # goes by itself, and is put back when traces are held again
    held.hold(True, 0.0)
    assert undecided(held.traces) == 1
    held.flush(0.0)
    assert undecided(held.traces) == 0


def test_a_fork_leaves_everything_to_the_parent() -> None:
    """The child begins anew, in the mode that was in force."""
    held = Held()
    held.add(*trace(1), made_record(2, 2, 1))
    held.traces.restart()
    assert held.traces.bounds.spans == held.traces.held_bytes == held.traces.ready_spans == 0
    assert held.traces.is_holding
    assert held.shed == []


def test_giving_up_forgets_all_but_what_is_taken() -> None:
    """The worker may still come to an end with its batch."""
    held = Held()
    held.add(*trace(1), *trace(2))
    batch = held.traces.take(3, MANY)
    held.traces.clear()
    assert held.traces.bounds.spans == 3
    held.traces.release(len(batch.records), batch.length)
    assert held.traces.bounds.spans == held.traces.held_bytes == 0
    assert held.take() == []


# -- refused at the queue ------------------------------------------------------------------------------------------


# Their randomness is in the trace id: the compiled queue looks for another one in the bytes of a record, of which these
# have none.
LAST = NEVER - 1


def changed(held: Held) -> dict[tuple[int, int], int | None]:
    """The thresholds that the spans taken last are to say, where they have to be told."""
    return {(record.trace_id, record.span_id): change.threshold for record, change in held.changes.items()}


def test_what_was_admitted_by_a_threshold_says_so() -> None:
    """Each span that was, and no other: none from before, and none that is HIGH or CRITICAL by itself."""
    held = Held()
    before = made_record(HALF, 4, 1)
    held.add(before)
    held.traces.admit_from(HALF)
    high, critical = [
        made_record(HALF, span_id, 1, priority=priority)
        for span_id, priority in ((3, Priority.HIGH), (2, Priority.CRITICAL))
    ]
    low, root = made_record(HALF, 5, 1, priority=Priority.LOW), made_record(HALF, 1)
    held.add(high, critical, low, root, *trace(HALF - 1))
    assert held.take() == [before, high, critical, low, root]
    assert changed(held) == {(HALF, 5): HALF, (HALF, 1): HALF}
    assert held.ledger.dropped[DropReason.OVER_BUDGET] == 3
    assert held.views[0].threshold == HALF


def test_a_threshold_is_raised_and_never_lowered() -> None:
    """The highest counts: that of the policy, the one that the span came with, and the one that admitted it."""
    held = Held(by_threshold(0.5))
    held.traces.admit_from(HALF // 2)
    records = trace(LAST, spans=4)
    for record, threshold in zip(records, [None, 5, HALF, HALF + 5], strict=True):
        owe(record, threshold)
    held.add(*records)
    held.take()
    assert changed(held) == {(LAST, 4): HALF, (LAST, 3): HALF}
    held.policy = KEEP
    records = trace(LAST - 1, spans=4)
    for record, threshold in zip(records, [None, 5, HALF // 2, HALF], strict=True):
        owe(record, threshold)
    held.add(*records)
    held.take()
    assert changed(held) == {(LAST - 1, 4): HALF // 2, (LAST - 1, 3): HALF // 2}


def test_late_spans_say_what_they_were_admitted_by() -> None:
    """Of a trace that went out before: each its own, or the decision's where that is higher."""
    held = Held(by_threshold(0.5))
    held.add(*trace(LAST))
    assert len(held.take()) == 3
    for span_id, threshold in ((10, HALF // 2), (11, HALF + 7), (12, 0)):
        held.traces.admit_from(threshold)
        held.add(made_record(LAST, span_id, 1))
    held.take()
    assert changed(held) == {(LAST, 10): HALF, (LAST, 11): HALF + 7, (LAST, 12): HALF}


def test_what_was_admitted_says_so_after_holding_has_ended() -> None:
    """Records are looked at one by one until none is queued that was held against a threshold."""
    held = Held(trace_timeout=1.0)
    held.traces.admit_from(HALF)
    held.wanted = False
    held.queue.push(made_record(HALF, 1))  # nobody has looked yet
    held.traces.admit_from(0)
    held.queue.push(made_record(2, 1))
    held.traces.hold(False, 10.0)
    assert not held.traces.is_streaming
    held.drain(10.0)
    assert held.traces.is_streaming
    held.add(made_record(3, 1))
    assert ids(held.take()) == [(HALF, 1), (2, 1), (3, 1)]
    assert changed(held) == {(HALF, 1): HALF}


def test_a_threshold_ends_the_straight_way() -> None:
    """Whenever it is set: a record that has to say it does not go straight from the queue."""
    held = Held(holding=False)
    held.drain(0.0)
    held.traces.admit_from(HALF)
    held.queue.push(made_record(HALF, 1))
    held.traces.admit_from(0)
    held.drain(0.0)
    held.take()
    assert changed(held) == {(HALF, 1): HALF}
    held.drain(0.0)
    assert held.traces.is_streaming


def test_what_is_put_together_again_says_what_it_did() -> None:
    """A late span that waits to go by itself when traces are held again: its decision's threshold, or its own."""
    held = Held(by_threshold(0.5), trace_timeout=100.0)
    held.add(*trace(LAST))
    held.take()
    held.hold(False, 0.0)
    held.traces.admit_from(HALF // 2)
    held.add(made_record(LAST, 10, 1), made_record(LAST - 1, 10, 1))
    held.hold(True, 0.0)
    held.policy = KEEP
    held.flush(0.0)
    assert ids(held.take()) == [(LAST - 1, 10), (LAST, 10)]
    assert changed(held) == {(LAST, 10): HALF, (LAST - 1, 10): HALF // 2}
    assert held.traces._ready._changes == {}


# -- the queue and the traces ---------------------------------------------------------------------------------------


def test_an_eighth_of_the_bytes_is_the_queues() -> None:
    """And what traces do not take of the rest; what the worker has in hands counts with them."""
    held = Held(max_bytes=1000, max_queue_size=1000)
    held.add(*[made_record(number, 2, 1, length=100) for number in range(7)])
    assert held.traces.bounds.length == 700
    records = [made_record(number, 2, 1, length=100) for number in range(10, 15)]
    for record in records:
        held.queue.push(record)
        assert held.traces.held_bytes <= 1000
    assert held.queue.records == 3
    assert held.ledger.dropped[DropReason.QUEUE_FULL] == 2
    held.drain(0.0)
    assert held.traces.bounds.length <= 875
    held.flush(0.0)
    batch = held.traces.take(100, MANY)
    held.traces.resize_queue()
    for record in records:
        held.queue.push(record)
        assert held.traces.held_bytes <= 1000
    held.traces.release(len(batch.records), batch.length)
    assert held.traces.held_bytes == held.queue.length > 0


@pytest.mark.parametrize("most", [1, 2, 8, 100])
@pytest.mark.parametrize("holding", [True, False])
def test_no_more_wait_than_the_queue_may_have(most: int, holding: bool) -> None:
    """In it and behind it together, also across a change of phase and while a batch is in the worker's hands."""
    held = Held(max_spans=1000, max_queue_size=most, holding=holding)

    def waiting() -> int:
        return held.queue.records + held.traces.bounds.waiting

    in_hands: list[tuple[int, int]] = []
    for number in range(600):
        held.queue.push(made_record(number // 3, 3 - number % 3, int(number % 3 < 2), randomness=number * 7 % 600))
        assert waiting() <= most
        if number % 50 == 49:
            held.wanted = not held.wanted
        if number % 7 == 0:
            held.drain(number / 10)
            assert waiting() <= most
        if number % 60 == 59:
            batch = held.traces.take(most, MANY)
            held.traces.resize_queue()
            in_hands.append((len(batch.records), batch.length))
            assert waiting() <= most
    for spans, length in in_hands:
        held.traces.release(spans, length)
    evicted = held.ledger.dropped[DropReason.QUEUE_FULL]
    assert evicted + len(held.shed) + sum(spans for spans, _ in in_hands) + waiting() == 600


def test_the_phase_changes_while_the_queue_is_full() -> None:
    """What is too much for the traces is decided on, by the policy; nothing of it is evicted or lost."""
    held = Held(by_threshold(0.5), holding=False, max_queue_size=400)
    step = -(-NEVER // 200)
    for number in range(200):
        held.add(*trace(number, spans=2, randomness=number * step))
    assert held.queue.records == 400
    held.hold(True, 0.0)
    assert held.queue.records == 0
    assert held.traces.bounds.waiting <= 350
    assert held.ledger.dropped[DropReason.QUEUE_FULL] == 0
    assert {why for _, why in held.shed} == {DropReason.OVER_BUDGET}
    taken = held.take()
    assert len(taken) + len(held.shed) == 400
    assert [record.trace_id for record in taken[::2]] == list(range(100, 200))


def test_what_is_too_much_stays_in_the_queue_while_nothing_new_is_held() -> None:
    """There the oldest of the lowest priority is evicted; no trace that has begun to go out is cut for it."""
    held = Held(max_queue_size=80, trace_timeout=1000.0)
    held.policy = OVER_BUDGET
    held.add(*trace(1))
    assert len(held.shed) == 3
    held.hold(False, 0.0)
    assert not held.traces.is_streaming  # there is a decision that late spans follow
    critical = made_record(2, 1, priority=Priority.CRITICAL)
    held.add(critical, *[made_record(number, 1) for number in range(3, 200)], made_record(1, 9, 1))
    assert held.traces.is_sated
    assert held.queue.records + held.traces.bounds.waiting == 80
    taken: list[SpanRecord] = []
    while records := held.take(10):
        held.drain(0.0)
        taken += records
    assert taken[0] is critical
    assert ids(taken[-40:]) == [(number, 1) for number in range(160, 200)]
    assert {why for _, why in held.shed} == {DropReason.OVER_BUDGET}
    assert len(held.shed) == 4
    assert held.ledger.dropped[DropReason.QUEUE_FULL] + len(taken) == 198


# -- the policy is the application's --------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [ValueError("no"), None, True, "keep"])
def test_a_policy_that_fails_keeps_the_trace(answer: object) -> None:
    """Nothing gets out of here, and it is counted."""

    def decide(trace: TraceView) -> Verdict:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    held = Held(decide)
    held.add(*trace(1))
    assert len(held.take()) == 3
    assert held.traces.judge.faults == 1
    assert isinstance(held.traces.judge.last_fault, (ValueError, TypeError))


def test_what_the_policy_sees_is_frozen() -> None:
    """It is made in a hurry, and is one all the same: as equal, as hashable, and as little to be changed."""
    view = view_of(1, HALF, None, Priority.LOW, True, 0.5, 3, 300, 2.0, 4, 5)
    same = TraceView(1, HALF, None, Priority.LOW, True, 0.5, 3, 300, 2.0, 4, 5)
    assert type(view) is TraceView
    assert (view, hash(view), repr(view)) == (same, hash(same), repr(same))
    assert replace(view, failed=False) == replace(same, failed=False)
    with pytest.raises(FrozenInstanceError):
        view.failed = False  # type: ignore[misc]


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": NEVER},
        {"threshold": -1},
        {"threshold": NEVER + 1, "reason": DropReason.OVER_BUDGET},
        {"reason": "whim"},
        {"rank": 9},
        {"min_priority": -1},
    ],
)
def test_a_verdict_says_what_can_be_done(fields: dict[str, object]) -> None:
    """What is out of range is the policy's fault, where it is made."""
    with pytest.raises(ValueError):
        Verdict(**fields)  # type: ignore[arg-type]
