"""The intake: bounded, the least worth goes first, exact under threads, no lost wake-up, work behind it in slices."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.admission_threshold import TICK_SECONDS
from otel_shed.pipeline.intake import DRAIN_SECONDS, NEVER, SLICE_SECONDS, STEP, WORTH_A_LOOK, Intake
from otel_shed.pipeline.ledger import Fate, Ledger
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict, keep_all
from otel_shed.record import Priority, SpanRecord
from otel_shed.testing.clock import FakeClock
from tests.pipeline.stores import batches, streaming


def record(number: int, length: int = 10, priority: Priority = Priority.NORMAL) -> SpanRecord:
    return SpanRecord(1, number, 0, 1, f"span-{number}", 0, 0, priority, length, None, b"", None)


def make_intake(
    *, capacity: int = 8, max_bytes: int = 10_000, wake: Callable[[], None] | None = None
) -> tuple[Intake, Ledger]:
    ledger = Ledger()
    store = streaming(capacity=capacity, max_bytes=max_bytes)
    return Intake(ledger=ledger, store=store, clock=lambda: 0.0, wake=wake), ledger


def offer(intake: Intake, *records: SpanRecord) -> None:
    for each in records:
        intake.offer(each)


def numbers(intake: Intake, most: int = 1_000) -> list[int]:
    return [each.span_id for each in intake.take(most).records]


# -- the way through ---------------------------------------------------------------------------------------------


def test_takes_in_the_order_in_which_spans_ended() -> None:
    """What comes out is what came in, oldest first."""
    intake, _ = make_intake()
    offer(intake, *map(record, range(5)))
    assert numbers(intake, 3) == [0, 1, 2]
    assert numbers(intake, 3) == [3, 4]


def test_full_drops_the_oldest() -> None:
    """The newest spans stay, and each one dropped is counted."""
    intake, ledger = make_intake(capacity=3)
    offer(intake, *map(record, range(10)))
    assert numbers(intake) == [7, 8, 9]
    assert ledger.dropped[DropReason.QUEUE_FULL] == 7


def test_full_drops_the_oldest_of_the_lowest_priority() -> None:
    """What is worth least goes first, and what stays comes out in the order in which it ended."""
    intake, ledger = make_intake(capacity=4)
    low, normal, high = Priority.LOW, Priority.NORMAL, Priority.HIGH
    for number, priority in enumerate([high, low, normal, high, low, normal, high]):
        offer(intake, record(number, priority=priority))
    assert numbers(intake) == [0, 3, 5, 6]
    assert ledger.dropped[DropReason.QUEUE_FULL] == 3


def test_bytes_taken_count_until_they_are_released() -> None:
    """Bytes in flight keep their room: what is queued gives way, and comes to an end when the batch does."""
    intake, ledger = make_intake(capacity=20, max_bytes=100)
    offer(intake, *map(record, range(10)))
    in_flight = intake.take(8).records
    offer(intake, record(10))
    assert ledger.dropped[DropReason.QUEUE_FULL] == 1
    intake.release(len(in_flight), sum(each.length for each in in_flight))
    ledger.settle(len(in_flight), Outcome(accepted=8))
    offer(intake, *map(record, range(11, 18)))
    assert ledger.dropped[DropReason.QUEUE_FULL] == 1
    assert intake.store.ready_bytes == 90


def test_takes_no_more_bytes_than_asked_for() -> None:
    """A batch ends before the record that does not fit."""
    intake, _ = make_intake(capacity=20)
    for number in range(10):
        offer(intake, record(number, 100))
    assert len(intake.take(10, 250).records) == 2
    assert len(intake.take(10, 100).records) == 1


def test_closed_counts_what_still_ends() -> None:
    """After shutdown a span is dropped, counted as such, and wakes nobody."""
    woken: list[int] = []
    intake, ledger = make_intake(wake=lambda: woken.append(1))
    intake.offer(record(1))
    intake.close()
    intake.close()
    woken.clear()
    offer(intake, *map(record, range(2, 600)))
    assert (ledger.dropped[DropReason.ALREADY_SHUTDOWN], ledger.queued, woken) == (598, 1, [])


def test_what_ends_in_the_middle_of_a_step_is_held_at_once() -> None:
    """A signal handler or finalizer that ends spans while this thread is in the ledger waits for nothing."""
    woken: list[int] = []
    intake, ledger = make_intake(capacity=20, wake=lambda: woken.append(1))
    with ledger.lock:
        offer(intake, record(1))
        intake.book(Fate.UNSAMPLED)
        offer(intake, *map(record, range(100)))
        account = ledger.account()
    assert woken == [1]
    assert (account.ended, account.queued, account.unsampled) == (102, 20, 1)
    assert account.dropped == {DropReason.QUEUE_FULL: 81}


def test_another_thread_in_the_ledger_is_not_waited_for() -> None:
    """Who ends or counts a span goes on whatever our threads are at, and the span is in the account."""
    intake, ledger = make_intake(capacity=20)
    with ledger.lock:
        other = threading.Thread(target=lambda: (intake.offer(record(1)), intake.book(Fate.UNSAMPLED)))
        other.start()
        other.join(10)
        assert not other.is_alive()
        account = ledger.account()
    assert (account.queued, account.unsampled) == (1, 1)


# -- batches -----------------------------------------------------------------------------------------------------


def batch_intake(*, max_batches: int, max_bytes: int = 10_000) -> tuple[Intake, Ledger, list[str]]:
    ledger, woken = Ledger(), []
    store = batches(max_batches=max_batches, max_bytes=max_bytes)
    return Intake(ledger=ledger, store=store, clock=lambda: 0.0, wake=lambda: woken.append("worker")), ledger, woken


def batch(first: int, size: int = 5) -> list[SpanRecord]:
    return [record(first + number) for number in range(size)]


def test_batches_are_dropped_whole() -> None:
    """A queue of batches drops the oldest batch, and takes one batch at a time."""
    intake, ledger, _ = batch_intake(max_batches=2)
    for first in (0, 10, 20):
        intake.offer_batch(batch(first))
    assert ledger.dropped[DropReason.QUEUE_FULL] == 5
    assert numbers(intake, 1) == [10, 11, 12, 13, 14]
    assert (ledger.queued, ledger.in_flight) == (5, 5)


def test_batches_are_bounded_in_bytes() -> None:
    """A batch that does not fit pushes older batches out."""
    intake, ledger, _ = batch_intake(max_batches=10, max_bytes=100)
    for first in range(0, 30, 6):
        intake.offer_batch(batch(first, 6))
    assert intake.store.ready_bytes == 60
    assert ledger.dropped[DropReason.QUEUE_FULL] == 24


def test_a_batch_wakes_a_worker_that_waits() -> None:
    """The first one an idle worker; one that gathers is woken by so many spans or bytes; each time once."""
    intake, _, woken = batch_intake(max_batches=100)
    for for_spans, for_bytes, until_woken in ((1, NEVER, 1), (12, NEVER, 3), (1_000, 120, 3)):
        intake.take(1_000)
        while intake.store.ready_spans:
            intake.take(1_000)
        woken.clear()
        assert not intake.waits(for_spans=for_spans, for_bytes=for_bytes)
        for number in range(1, 6):
            intake.offer_batch(batch(number))
            assert woken == (["worker"] if number >= until_woken else [])


def test_a_batch_that_comes_while_another_thread_is_in_the_ledger_wakes_the_worker() -> None:
    """That thread may be the worker, about to wait, which has looked already; the batch is held by then."""
    intake, ledger, woken = batch_intake(max_batches=10)
    intake.waits(for_spans=1, for_bytes=NEVER)
    with ledger.lock:
        other = threading.Thread(target=intake.offer_batch, args=(batch(1),))
        other.start()
        other.join(10)
        assert not other.is_alive()
        assert (intake.waiting_batches, ledger.queued, woken) == (5, 0, ["worker"])
    intake.decide()
    assert (intake.waiting_batches, ledger.queued) == (0, 5)


def test_a_batch_after_the_end_is_counted() -> None:
    """Also one that came before it, and that nobody had held by then."""
    intake, ledger, _ = batch_intake(max_batches=10)
    with ledger.lock:
        intake.offer_batch(batch(1))
        intake.close()
    intake.offer_batch(batch(2, 3))
    assert (ledger.queued, ledger.dropped[DropReason.ALREADY_SHUTDOWN]) == (5, 3)


# -- wake-ups ----------------------------------------------------------------------------------------------------


class Calls:
    """An intake whose threads are told, and do nothing; traces are held while ``holds`` is set.

    cpu: what each look at the processor's time adds to it, in seconds.
    """

    def __init__(self, *, capacity: int = 10_000, policy: Policy = keep_all, timeout: float = 30.0) -> None:
        self.told: list[str] = []
        self.ledger, self.clock = Ledger(), FakeClock()
        self.holds = False
        self.cpu = FakeClock()
        self.cpu_step = 0.0

        def store(shed: Shed, queue: Queue) -> Store:
            return Traces(
                policy=policy,
                shed=shed,
                queue=queue,
                holds=lambda: self.holds,
                capacity=capacity,
                max_queue_size=capacity,
                max_spans=2 * capacity,
                max_bytes=1 << 25,
                trace_timeout=timeout,
            )

        self.intake = Intake(
            ledger=self.ledger,
            store=store,
            clock=self.clock,
            cpu_clock=self.cpu_time,
            wake=lambda: self.told.append("worker"),
            decisions=self,
        )
        self.number = 0

    def cpu_time(self) -> float:
        self.cpu.advance(self.cpu_step)
        return self.cpu()

    def call(self) -> None:
        self.told.append("decisions")

    def end(self, count: int = 1, *, root: bool = True) -> list[str]:
        """End so many spans, each of a trace of its own; who was told."""
        self.told.clear()
        for _ in range(count):
            self.number += 1
            parent = 0 if root else 7
            self.intake.offer(
                SpanRecord(self.number, self.number, parent, 1, "work", 0, 0, Priority.NORMAL, 10, None, b"", None)
            )
        return list(self.told)

    def goes(self) -> None:
        with self.ledger.lock:
            self.intake.goes()

    def waits(self, for_spans: int = 1, for_bytes: int = NEVER) -> bool:
        with self.ledger.lock:
            return self.intake.waits(for_spans=for_spans, for_bytes=for_bytes)


def test_the_first_span_wakes_an_idle_worker() -> None:
    """Which needs no timer; the following spans do not, until it has looked."""
    calls = Calls()
    assert calls.end(5) == ["worker"]
    assert calls.ledger.queued == 5
    calls.intake.take(10)
    assert not calls.waits()
    assert calls.end(5) == ["worker"]


def test_a_worker_that_waits_for_a_batch_is_woken_by_so_many() -> None:
    """What waits already counts."""
    calls = Calls()
    calls.end(1)
    assert not calls.waits(10)
    assert calls.end(8) == []
    assert calls.end(1) == ["worker"]
    assert calls.end(30) == []


def test_what_came_before_it_waits_is_not_waited_for() -> None:
    """Whatever comes between the worker's look and its wait: it is told that it need not wait."""
    calls = Calls()
    calls.end(3)
    assert calls.waits(3)
    assert not calls.waits(4)


def test_asks_for_a_wake_up_by_bytes_too() -> None:
    """Few large spans wake the worker as many small ones do."""
    woken: list[int] = []
    intake, ledger = make_intake(capacity=100, wake=lambda: woken.append(ledger.queued))
    intake.waits(for_spans=50, for_bytes=1_000)
    for number in range(5):
        intake.offer(record(number, 400))
    assert woken == [3]


def test_what_may_wait_in_the_queue_is_not_pushed_out_behind_it() -> None:
    """Once traces are held no more, those of late spans still remembered: as many wait as may, and none is dropped."""
    calls = Calls(capacity=2, policy=shed_all)
    calls.holds = True
    calls.end(1)
    calls.intake.decide()
    calls.holds = False
    calls.end(2)
    calls.intake.decide()
    assert not calls.intake.store.is_streaming
    account = calls.ledger.account()
    assert (account.queued, account.dropped) == (2, {DropReason.OVER_BUDGET: 1})


def test_what_is_behind_the_queue_fills_a_batch_too() -> None:
    """Spans that were drained before traces went straight through again count for the batch that is waited for."""
    calls = Calls()
    calls.holds = True
    calls.end(3)
    calls.intake.decide()
    late = [SpanRecord(1, 70 + n, 7, 1, "late", 0, 0, Priority.NORMAL, 10, None, b"", None) for n in range(4)]
    calls.intake.take(10)  # their trace has begun to go out
    offer(calls.intake, *late)
    calls.intake.decide()
    calls.holds = False
    assert calls.intake.decide() is None
    assert calls.intake.store.is_streaming
    assert (calls.ledger.pending, calls.ledger.queue.records) == (4, 0)
    assert not calls.waits(6)
    assert calls.end(1) == []
    assert calls.end(1) == ["worker"]
    assert calls.waits(6)


def test_while_the_worker_is_in_a_call_the_decision_thread_looks() -> None:
    """Not for each span while none is held; then for the first, and again once it has looked."""
    calls = Calls()
    calls.end(1)
    calls.goes()
    assert calls.end(WORTH_A_LOOK - 1) == []
    assert calls.end(1) == ["decisions"]
    assert calls.intake.decide_while_away() is None
    assert calls.end(WORTH_A_LOOK - 1) == []
    assert calls.end(1) == ["decisions"]
    calls.holds = True
    assert calls.intake.decide_while_away() == DRAIN_SECONDS
    assert calls.ledger.queue.records == 0
    assert calls.end(1) == []
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide_while_away() == DRAIN_SECONDS
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide_while_away() is None
    assert calls.end(2) == ["decisions"]


def test_a_queue_that_is_full_is_looked_at_now_and_then() -> None:
    """However small it is, and without a call for each span that pushes another one out."""
    calls = Calls(capacity=20)
    calls.goes()
    assert calls.end(19) == []
    assert calls.end(1) == ["decisions"]
    assert calls.intake.decide_while_away() == TICK_SECONDS
    assert calls.end(100) == []
    calls.holds = True
    calls.intake.decide_while_away()
    assert calls.ledger.queue.records == 0


def test_where_traces_are_held_a_worker_that_goes_has_the_first_span_decided_on() -> None:
    """By the decision thread, which goes on where the worker has left off."""
    calls = Calls()
    calls.holds = True
    calls.intake.decide()
    calls.goes()
    assert calls.end(3) == ["decisions"]


def test_the_decision_thread_does_nothing_while_the_worker_is_there() -> None:
    """Whatever it was called for: the worker looks before it waits."""
    calls = Calls()
    calls.holds = True
    calls.goes()
    calls.end(3)
    calls.intake.decide()
    calls.end(3)
    assert calls.intake.decide_while_away() is None
    assert calls.ledger.queue.records == 3


def test_traces_that_come_to_be_held_behind_the_workers_back_are_not_forgotten() -> None:
    """Where the mode changes between the worker's look and its wait, nobody else decides meanwhile."""
    calls = Calls()
    calls.goes()
    calls.end(WORTH_A_LOOK)
    assert calls.intake.decide() is None  # the worker is back
    calls.holds = True
    calls.intake.decide_while_away()  # the decision thread, called just before
    calls.intake.take(WORTH_A_LOOK)
    assert not calls.waits()
    assert calls.end(1) == ["worker"]


def test_while_spans_come_the_queue_is_drained_now_and_then() -> None:
    """No wake-up for each: twenty times a second; and where nothing has come the first one wakes."""
    calls = Calls()
    calls.holds = True
    calls.end(3)
    assert calls.intake.decide() == DRAIN_SECONDS
    assert not calls.waits(100)
    assert calls.end(5) == []
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide() == DRAIN_SECONDS
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide() == math.inf
    assert not calls.waits(100)
    assert calls.end(5) == ["worker"]


def test_a_trace_that_waits_for_its_time_is_looked_at_then() -> None:
    """The pause is as long as until its timeout, and does not become none at all while time passes meanwhile."""
    calls = Calls(timeout=30.0)
    calls.holds = True
    calls.end(1, root=False)
    calls.intake.decide()
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide() == pytest.approx(30.0 - DRAIN_SECONDS)
    calls.clock.advance(0.001)
    assert not calls.waits(100)
    calls.clock.advance(30.0)
    assert calls.intake.store.ready_spans == 0
    calls.intake.decide()
    assert calls.intake.store.ready_spans == 1


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_a_handler_that_raises_while_somebody_is_told_loses_no_wake_up(
    away: bool, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next span tells, at whichever step the exception came, and it is the program's."""
    calls = Calls()
    if away:
        calls.holds = True
        calls.intake.decide()
        calls.goes()
    name = "_call_decisions" if away else "_call_worker"

    def raising() -> None:
        raise kind

    with monkeypatch.context() as patched:
        patched.setattr(calls.intake, name, raising)
        with pytest.raises(kind):
            calls.intake.offer(record(1))
    assert calls.end(1) == ["decisions" if away else "worker"]
    assert calls.ledger.queued == 2

    class Interrupted:
        """A queue in whose ``wake_when`` a signal arrives."""

        def __getattr__(self, name: str) -> object:
            return getattr(calls.ledger.queue, name)

        def wake_when(self, *bounds: int) -> bool:
            calls.ledger.queue.wake_when(*bounds)
            if bounds == (NEVER,):
                raise kind
            return False

    calls.ledger.queue.wake_when(1)
    with monkeypatch.context() as patched:
        patched.setattr(calls.intake, "_queue", Interrupted())
        with pytest.raises(kind):
            calls.intake.tell()
    assert calls.end(1) == ["decisions" if away else "worker"]


# -- slices ------------------------------------------------------------------------------------------------------


def shed_all(trace: TraceView) -> Verdict:
    return Verdict(DropReason.OVER_BUDGET)


def test_a_slice_is_short() -> None:
    """Whatever waits, the ledger is free again after a millisecond of processor time, or after one step."""
    calls = Calls()
    calls.holds = True
    calls.end(1_000)
    calls.cpu_step = SLICE_SECONDS / 4
    calls.intake.decide()
    assert calls.ledger.queue.records == 1_000 - 4 * STEP
    calls.cpu_step = 10 * SLICE_SECONDS
    calls.clock.advance(1.0)
    calls.intake.decide()
    assert calls.ledger.queue.records == 1_000 - 5 * STEP


def test_traces_whose_time_is_over_are_decided_on_in_slices_too() -> None:
    """Not all at once, however many began at the same time."""
    calls = Calls(timeout=5.0)
    calls.holds = True
    calls.end(1_000, root=False)
    while calls.ledger.queue.records:
        calls.intake.decide()
    calls.clock.advance(10.0)
    calls.cpu_step = SLICE_SECONDS / 4
    calls.intake.decide()
    assert calls.intake.store.ready_spans == 4 * STEP


def test_a_change_of_phase_decides_on_no_more_than_a_slice() -> None:
    """Though the time of all that was held is over by then."""
    calls = Calls(timeout=5.0)
    calls.holds = True
    calls.end(1_000, root=False)
    while calls.ledger.queue.records:
        calls.intake.decide()
    calls.clock.advance(10.0)
    calls.holds = False
    calls.cpu_step = SLICE_SECONDS / 4
    calls.intake.decide()
    assert calls.intake.store.ready_spans == 4 * STEP
    for _ in range(1_000 // STEP):
        calls.clock.advance(1.0)
        calls.intake.decide()
    assert calls.intake.store.ready_spans == 1_000


@pytest.mark.parametrize("away", [False, True])
def test_decisions_for_which_nothing_is_sent_take_a_tenth_of_a_processor(away: bool) -> None:
    """What a slice took is rested nine times as long; who comes meanwhile is told for how long, and does nothing."""
    calls = Calls(policy=shed_all)
    calls.holds = True
    calls.end(10_000)
    if away:
        calls.goes()
    calls.cpu_step = 0.51 * SLICE_SECONDS
    decide = calls.intake.decide_while_away if away else calls.intake.decide
    began = calls.cpu()
    for _ in range(20):
        pause = decide()
        assert pause == pytest.approx(9 * 1.02 * SLICE_SECONDS)
        calls.clock.advance(pause / 3)
        before = calls.ledger.queue.records
        left = decide()
        assert left == pytest.approx(6 * 1.02 * SLICE_SECONDS)
        assert calls.ledger.queue.records == before
        calls.clock.advance(left)
    elapsed = calls.clock() - 1000.0
    assert (calls.cpu() - began) / elapsed == pytest.approx(0.11, abs=0.06)


def test_decisions_for_which_most_is_sent_need_no_rest() -> None:
    """While the worker decides between two calls, and keeps what it decides on, it goes on at once."""
    calls = Calls()
    calls.holds = True
    calls.end(1_000)
    calls.cpu_step = 0.51 * SLICE_SECONDS
    assert calls.intake.decide() == 0.0
    before = calls.ledger.queue.records
    calls.intake.decide()
    assert calls.ledger.queue.records < before


@pytest.mark.parametrize("asked", ["flush", "close"])
@pytest.mark.parametrize("away", [False, True])
def test_who_is_waited_for_does_not_rest(asked: str, away: bool) -> None:
    """A flush and a shutdown have all that ended before them decided on without a pause."""
    calls = Calls(policy=shed_all)
    calls.holds = True
    calls.end(500)
    calls.goes()
    decide = calls.intake.decide_while_away if away else calls.intake.decide
    calls.cpu_step = 0.51 * SLICE_SECONDS
    assert decide() == pytest.approx(9 * 1.02 * SLICE_SECONDS)
    calls.intake.barrier() if asked == "flush" else calls.intake.close()
    for _ in range(500 // STEP):
        if not calls.ledger.queue.records:
            break
        assert decide() == 0.0 or not calls.ledger.queue.records
    assert calls.ledger.queue.records == 0
    if asked == "flush":
        calls.end(500)
        decide()
        assert decide() == pytest.approx(9 * 1.02 * SLICE_SECONDS)


def test_what_cannot_be_followed_is_refused_as_it_is_pushed() -> None:
    """By whole traces, counted, and HIGH ones are not; who was let in says against what it was held."""
    calls = Calls(capacity=2_000, policy=shed_all)
    calls.holds = True
    calls.cpu_step = 2 * SLICE_SECONDS
    calls.end(1)
    calls.intake.decide()
    calls.goes()
    for _ in range(4):
        calls.end(1_500)
        calls.clock.advance(TICK_SECONDS)
        calls.intake.decide_while_away()
    threshold = calls.ledger.queue.admission
    assert threshold > 0
    before = calls.ledger.dropped[DropReason.OVER_BUDGET]
    refused = SpanRecord(threshold - 1, 1, 0, 1, "work", 0, 0, Priority.NORMAL, 10, None, b"", None)
    admitted = SpanRecord(threshold, 1, 0, 1, "work", 0, 0, Priority.NORMAL, 10, None, b"", None)
    high = SpanRecord(1, 1, 0, 1, "work", 0, 0, Priority.HIGH, 10, None, b"", None)
    offer(calls.intake, refused)
    assert calls.ledger.dropped[DropReason.OVER_BUDGET] == before + 1
    offer(calls.intake, admitted, high)
    assert calls.ledger.dropped[DropReason.OVER_BUDGET] == before + 1
    assert (admitted.admission, high.admission) == (threshold, 0)


def test_what_is_refused_is_admitted_again_though_it_wakes_nobody() -> None:
    """Until nothing is refused any more, somebody comes back to look by himself."""
    calls = Calls(capacity=100, policy=shed_all)
    calls.holds = True
    calls.cpu_step = 4 * SLICE_SECONDS
    calls.end(1)
    calls.intake.decide()
    calls.end(100)
    calls.clock.advance(TICK_SECONDS)
    calls.intake.decide()
    assert calls.ledger.queue.admission > 0
    calls.cpu_step = 0.0
    for _ in range(10):
        calls.clock.advance(0.01)
        pause = calls.intake.decide()
        assert pause is not None
        assert pause <= TICK_SECONDS
    for _ in range(3):
        calls.clock.advance(TICK_SECONDS)
        calls.intake.decide()
    assert calls.ledger.queue.admission == 0
    calls.clock.advance(DRAIN_SECONDS)
    assert calls.intake.decide() in (None, math.inf)


# -- barrier, close, fork ----------------------------------------------------------------------------------------


def test_a_barrier_stands_behind_what_has_ended() -> None:
    """In the queue and behind it; what comes later does not keep it."""
    calls = Calls()
    calls.holds = True
    calls.end(3, root=False)
    calls.intake.decide()
    calls.end(2, root=False)
    order = calls.intake.barrier()
    calls.end(2, root=False)
    store = calls.intake.store
    assert store.mark(order) is None
    calls.intake.decide()
    mark = store.mark(order)
    assert mark is not None
    assert not store.is_past(mark)
    taken = calls.intake.take(100).records
    assert [each.span_id for each in taken] == [1, 2, 3, 4, 5]
    assert store.is_past(mark)


def test_a_barrier_is_hastened_wherever_the_worker_is() -> None:
    """It is woken; and where it is in a call, the decision thread decides meanwhile."""
    calls = Calls()
    calls.told.clear()
    calls.intake.hasten()
    assert calls.told == ["worker"]
    calls.goes()
    calls.intake.hasten()
    assert calls.told == ["worker", "worker", "decisions"]


def test_close_has_all_decided_on() -> None:
    """What is held goes out, whether its trace has ended or not."""
    calls = Calls()
    calls.holds = True
    calls.end(5, root=False)
    calls.intake.decide()
    calls.end(5, root=False)
    calls.intake.close()
    assert calls.intake.decide() == DRAIN_SECONDS
    assert sorted(numbers(calls.intake)) == list(range(1, 11))


def test_a_forked_child_begins_anew() -> None:
    """It holds nothing, whoever was where in the parent, and its first span wakes its own worker."""
    calls = Calls()
    calls.holds = True
    calls.end(20)
    calls.intake.decide()
    calls.intake.barrier()
    calls.goes()
    calls.end(3)
    calls.ledger.restart()
    calls.intake.restart()
    account = calls.ledger.account()
    assert (account.ended, account.queued, calls.intake.store.held_bytes) == (0, 0, 0)
    assert calls.end(2) == ["worker"]
    assert calls.ledger.account().queued == 2


# -- all of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [8, 16])
def test_counts_are_exact_under_threads(threads: int) -> None:
    """Parity L16: 16 producers x 4,096 spans into 8 places; dropped + held = pushed, held <= capacity."""
    intake, ledger = make_intake(capacity=8)
    pushes = 4096
    interval = sys.getswitchinterval()
    start = threading.Barrier(threads)
    wrong: list[object] = []

    def produce(producer: int) -> None:
        start.wait()
        for number in range(pushes):
            intake.offer(record(producer * pushes + number))
            if number % 16 == 0:
                account = ledger.account()
                if account.queued > 8 or account.ended != account.queued + account.dropped.get(
                    DropReason.QUEUE_FULL, 0
                ):
                    wrong.append(account)

    workers = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    held = intake.take(1_000).records
    assert len(held) == 8
    assert ledger.dropped[DropReason.QUEUE_FULL] + len(held) == ledger.ended == threads * pushes


class IntakeAgainstAList(RuleBasedStateMachine):
    """The intake does what a list would."""

    @initialize(capacity=st.integers(1, 6), max_bytes=st.integers(10, 80))
    def begin(self, capacity: int, max_bytes: int) -> None:
        self.intake, self.ledger = make_intake(capacity=capacity, max_bytes=max_bytes)
        self.capacity, self.max_bytes = capacity, max_bytes
        self.model: deque[SpanRecord] = deque()
        self.taken: list[list[SpanRecord]] = []
        self.number = 0
        self.marks: list[tuple[int, int]] = []

    def in_flight_bytes(self) -> int:
        return sum(each.length for batch in self.taken for each in batch)

    @rule(length=st.integers(0, 30), priority=st.sampled_from(Priority))
    def offer(self, length: int, priority: Priority) -> None:
        self.number += 1
        new = record(self.number, length, priority)
        self.intake.offer(new)
        beside = [each for each in self.model if each.priority > priority]
        if (
            len(beside) >= self.capacity
            or sum(each.length for each in (*beside, new)) + self.in_flight_bytes() > self.max_bytes
        ):
            return  # it is evicted itself, and costs no other its place
        self.model.append(new)
        while self.model and (
            len(self.model) > self.capacity
            or sum(each.length for each in self.model) + self.in_flight_bytes() > self.max_bytes
        ):
            self.model.remove(min(self.model, key=lambda each: (each.priority, each.span_id)))

    @rule(most=st.integers(1, 4))
    def take(self, most: int) -> None:
        taken = self.intake.take(most).records
        assert taken == [self.model.popleft() for _ in range(min(most, len(self.model)))]
        self.taken.append(taken)

    @rule()
    def mark(self) -> None:
        order = self.intake.barrier()
        self.marks.append((order, self.number))

    @rule()
    def release(self) -> None:
        if self.taken:
            batch = self.taken.pop(0)
            self.intake.release(len(batch), sum(each.length for each in batch))
            self.ledger.settle(len(batch), Outcome(accepted=len(batch)))

    @invariant()
    def balances(self) -> None:
        ledger = self.ledger
        assert ledger.queued == len(self.model)
        assert self.intake.store.ready_bytes == sum(each.length for each in self.model)
        assert self.intake.store.held_bytes == self.intake.store.ready_bytes + self.in_flight_bytes()
        assert ledger.ended == ledger.queued + ledger.in_flight + ledger.exported + sum(ledger.dropped.values())
        for order, number in self.marks:
            mark = self.intake.store.mark(order)
            is_past = mark is not None and self.intake.store.is_past(mark)
            assert is_past == all(each.span_id > number for each in self.model)


TestIntakeAgainstAList = IntakeAgainstAList.TestCase
TestIntakeAgainstAList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
