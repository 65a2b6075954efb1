"""The intake: bounded in spans and bytes, oldest dropped, exact under threads, no lost wake-up."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline import way
from otel_shed.pipeline.intake import NEVER, Intake
from otel_shed.pipeline.ledger import Fate, Ledger
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
    return Intake(ledger=ledger, store=store, max_bytes=max_bytes, clock=lambda: 0.0, wake=wake), ledger


def offer(intake: Intake, *records: SpanRecord) -> None:
    """Offer, and have it swept."""
    for each in records:
        intake.offer(each)
    intake.settle_inbox()


def test_takes_in_the_order_in_which_spans_ended() -> None:
    """What comes out is what came in, oldest first."""
    intake, _ = make_intake()
    offer(intake, *map(record, range(5)))
    assert [each.span_id for each in intake.take(3).records] == [0, 1, 2]
    assert [each.span_id for each in intake.take(3).records] == [3, 4]


def test_full_drops_the_oldest() -> None:
    """The newest spans stay, and each one dropped is counted."""
    intake, ledger = make_intake(capacity=3)
    offer(intake, *map(record, range(10)))
    assert [each.span_id for each in intake.take(10).records] == [7, 8, 9]
    assert ledger.dropped[DropReason.QUEUE_FULL] == 7


def test_full_drops_the_oldest_of_the_lowest_priority() -> None:
    """What is worth least goes first, and what stays comes out in the order in which it ended."""
    intake, ledger = make_intake(capacity=4)
    low, normal, high = Priority.LOW, Priority.NORMAL, Priority.HIGH
    for number, priority in enumerate([high, low, normal, high, low, normal, high]):
        offer(intake, record(number, priority=priority))
    assert [each.span_id for each in intake.take(10).records] == [0, 3, 5, 6]
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


def test_closed_counts_what_still_ends() -> None:
    """After shutdown a span is dropped, and counted as such."""
    intake, ledger = make_intake()
    intake.offer(record(1))
    intake.close()
    intake.close()
    offer(intake, record(2))
    assert ledger.dropped[DropReason.ALREADY_SHUTDOWN] == 1
    assert ledger.queued == 1


def test_asks_for_a_wake_up_once() -> None:
    """Whoever sweeps what fills a batch wakes the worker; the following spans do not, until the worker has looked."""
    woken: list[int] = []
    intake, ledger = make_intake(capacity=8, wake=lambda: woken.append(ledger.queued))
    intake.waits(for_spans=3, for_bytes=NEVER, until=5.0, gather=NEVER)
    for number in range(5):
        offer(intake, record(number))
    assert woken == [3]
    assert intake.wake_at == NEVER


def test_asks_for_a_wake_up_by_bytes_too() -> None:
    """Few large spans wake the worker as many small ones do."""
    woken: list[int] = []
    intake, ledger = make_intake(capacity=100, wake=lambda: woken.append(ledger.queued))
    intake.waits(for_spans=50, for_bytes=1_000, until=5.0, gather=NEVER)
    for number in range(5):
        intake.offer(record(number, 400))
    assert woken == [2]


class Calls:
    """An intake whose worker and stand-in are told, and sweep only what they are waited for."""

    def __init__(self, *, capacity: int = 40) -> None:
        self.told: list[str] = []
        self.ledger = Ledger()
        self.clock = FakeClock()
        self.intake = Intake(
            ledger=self.ledger,
            store=streaming(capacity=capacity),
            max_bytes=1 << 25,
            clock=self.clock,
            wake=lambda: self.told.append("worker"),
            stand_in=self,
        )

    def call(self) -> None:
        self.told.append("stand-in")

    def run(self, job: Callable[[], object]) -> None:
        self.told.append("waited")
        job()

    def offer(self, count: int) -> list[str]:
        """Offer so many; who was told."""
        self.told.clear()
        for number in range(count):
            self.intake.offer(record(number))
        return list(self.told)

    def ways(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """For how long anybody gives way from now on, in which time the stand-in sweeps."""
        ways: list[float] = []

        def give_way(seconds: float) -> None:
            ways.append(seconds)
            self.clock.advance(1.01 * seconds)
            self.intake.sweep()

        monkeypatch.setattr("otel_shed.pipeline.intake.give_way", give_way)
        return ways


def test_the_first_span_wakes_an_idle_worker() -> None:
    """Which needs no timer; and nothing of it is done on the thread that ended the span."""
    calls = Calls()
    assert calls.offer(5) == ["worker"]
    assert (calls.ledger.queued, len(calls.intake.inbox)) == (0, 5)


def test_a_worker_that_waits_for_a_batch_is_woken_by_so_many() -> None:
    """What it has counts, and half the room of the inbox is always enough."""
    calls = Calls()
    calls.offer(1)
    calls.intake.settle_inbox()
    calls.intake.waits(for_spans=10, for_bytes=NEVER, until=5.0, gather=9)
    assert calls.offer(8) == []
    assert calls.offer(1) == ["worker"]
    calls.intake.settle_inbox()
    calls.intake.waits(for_spans=512, for_bytes=NEVER, until=5.0, gather=502)
    assert calls.offer(19) == []
    assert calls.offer(1) == ["worker"]


def test_while_the_worker_is_in_a_call_its_stand_in_is_told() -> None:
    """Once, until somebody has swept; and what it sweeps wakes nobody: the worker looks before it waits."""
    calls = Calls()
    calls.intake.goes()
    assert calls.offer(4) == []
    assert calls.offer(17) == ["stand-in"]
    calls.intake.settle_inbox()
    assert calls.ledger.queued == 21
    assert calls.offer(4) == []
    assert calls.offer(1) == ["stand-in"]


def test_a_job_has_its_place_among_the_spans() -> None:
    """It is done when all that was offered before is held, what comes after is not, and whoever waits is told."""
    calls, held = Calls(), []
    calls.offer(3)
    calls.intake.book(Fate.UNSAMPLED)
    calls.intake.do_next(lambda: held.append((calls.ledger.queued, calls.ledger.unsampled)))
    calls.offer(2)
    calls.intake.do_next(lambda: held.append((calls.ledger.queued, calls.ledger.unsampled)))
    assert held == []
    calls.told.clear()
    calls.intake.settle_inbox()
    assert held == [(3, 1), (5, 1)]
    assert calls.told == ["waited", "worker"]  # the worker, who may wait for spans, has something to look at


def test_a_job_while_the_worker_is_in_a_call_is_done_meanwhile() -> None:
    """By its stand-in, also where the intake is closed by then."""
    calls, done = Calls(), []
    calls.intake.goes()
    calls.told.clear()
    calls.intake.do_next(lambda: done.append(1))
    assert (calls.told, done) == (["stand-in"], [])
    calls.intake.close()
    assert done == [1]
    calls.intake.do_next(lambda: done.append(2))
    calls.intake.settle_inbox()
    assert done == [1, 2]


def test_who_comes_when_there_is_no_room_waits_until_there_is() -> None:
    """So the inbox is bounded where nobody else gets to it, and nobody but our threads moves what is held."""
    calls = Calls()
    calls.intake.goes()
    assert calls.offer(40) == ["stand-in"]
    assert calls.ledger.queued == 0
    assert calls.offer(1) == ["waited"]
    assert (len(calls.intake.inbox), calls.ledger.queued) == (0, 40)
    assert calls.offer(200).count("waited") <= 200 // 40
    assert len(calls.intake.inbox) <= 40
    calls.intake.settle_inbox()
    assert calls.ledger.queued == 40
    assert calls.ledger.ended == calls.ledger.queued + calls.ledger.dropped[DropReason.QUEUE_FULL]


def test_large_spans_do_not_wait_to_be_swept() -> None:
    """So what waits is bounded in bytes too: an eighth of what may be held, but for the last one."""
    calls = Calls()
    eighth = (1 << 25) // 8
    assert calls.intake.largest * 40 <= eighth // 2
    large = record(1, eighth // 8)
    for number in range(1, 6):
        calls.told.clear()
        calls.intake.offer(large)
        assert calls.told == (["worker"] if number == 1 else ["waited", "worker"] if number == 5 else [])
    assert calls.ledger.queued == 5


def test_takes_no_more_bytes_than_asked_for() -> None:
    """A batch ends before the record that does not fit."""
    intake, _ = make_intake(capacity=20)
    for number in range(10):
        offer(intake, record(number, 100))
    assert len(intake.take(10, 250).records) == 2
    assert len(intake.take(10, 100).records) == 1


def test_a_span_that_ends_in_the_middle_of_a_step_waits_for_its_end() -> None:
    """A signal handler or finalizer that ends spans while this thread is in the ledger changes nothing under it."""
    woken: list[int] = []
    intake, ledger = make_intake(capacity=20, wake=lambda: woken.append(1))
    with ledger.lock:
        before = (ledger.ended, ledger.queued, intake.store.ready_bytes)
        intake.offer(record(1))
        intake.book(Fate.UNSAMPLED)
        for number in range(100):
            intake.offer(record(number, 100))
        intake.settle_inbox()
        assert (ledger.ended, ledger.queued, intake.store.ready_bytes) == before
    assert woken
    intake.settle_inbox()
    assert (ledger.ended, ledger.queued, ledger.unsampled) == (102, 20, 1)


def test_another_thread_in_the_ledger_is_not_waited_for() -> None:
    """Who ends a span leaves it, and goes; the worker is woken for it."""
    woken = threading.Event()
    intake, ledger = make_intake(capacity=20, wake=woken.set)
    with ledger.lock:
        other = threading.Thread(target=intake.offer, args=(record(1),))
        other.start()
        other.join(10)
        assert not other.is_alive()
        assert woken.is_set()
        assert ledger.queued == 0
    intake.settle_inbox()
    assert ledger.queued == 1


def test_batches_are_dropped_whole() -> None:
    """A queue of batches drops the oldest batch, and takes one batch at a time."""
    ledger = Ledger()
    intake = Intake(ledger=ledger, store=batches(max_batches=2, max_bytes=10_000), max_bytes=10_000, clock=lambda: 0.0)
    for first in (0, 10, 20):
        intake.offer_batch([record(first + number) for number in range(5)])
    assert ledger.dropped[DropReason.QUEUE_FULL] == 5
    assert [each.span_id for each in intake.take(1).records] == [10, 11, 12, 13, 14]
    assert (ledger.queued, ledger.in_flight) == (5, 5)


def test_batches_are_bounded_in_bytes() -> None:
    """A batch that does not fit pushes older batches out."""
    ledger = Ledger()
    intake = Intake(ledger=ledger, store=batches(max_batches=10, max_bytes=100), max_bytes=100, clock=lambda: 0.0)
    for first in range(0, 30, 6):
        intake.offer_batch([record(first + number) for number in range(6)])
    assert intake.store.ready_bytes == 60
    assert ledger.dropped[DropReason.QUEUE_FULL] == 24


@pytest.mark.parametrize("threads", [8, 16])
def test_counts_are_exact_under_threads(threads: int) -> None:
    """Parity L16: 16 producers x 4,096 spans into 8 places; dropped + held = pushed, held <= capacity."""
    intake, ledger = make_intake(capacity=8)
    pushes = 4096
    interval = sys.getswitchinterval()
    start = threading.Barrier(threads)
    crowded: list[int] = []

    def produce(producer: int) -> None:
        start.wait()
        for number in range(pushes):
            intake.offer(record(producer * pushes + number))
            with ledger.lock:
                if ledger.queued > 8:
                    crowded.append(ledger.queued)

    workers = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    intake.settle_inbox()
    held = intake.take(1_000).records
    assert len(held) == 8
    assert ledger.dropped[DropReason.QUEUE_FULL] + len(held) == ledger.ended == threads * pushes
    assert crowded == []


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
        offer(self.intake, new)
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
        with self.ledger.lock:
            self.marks.append((self.intake.mark(), self.number))

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
        for mark, number in self.marks:
            assert self.intake.store.is_past(mark) == all(each.span_id > number for each in self.model)


TestIntakeAgainstAList = IntakeAgainstAList.TestCase
TestIntakeAgainstAList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_who_is_told_too_late_is_told_again() -> None:
    """Where the stand-in was told of what others had swept by then, it hears of the next spans all the same."""
    calls = Calls()
    calls.intake.goes()
    calls.intake.tell()
    calls.intake.settle_inbox()
    assert calls.offer(20) == ["stand-in"]


def test_a_handler_that_raises_while_the_worker_is_told_loses_no_wake_up() -> None:
    """The next span tells it."""
    told: list[int] = []

    def wake() -> None:
        told.append(1)
        if len(told) == 1:
            raise KeyboardInterrupt

    intake, _ = make_intake(wake=wake)
    with pytest.raises(KeyboardInterrupt):
        intake.offer(record(1))
    intake.offer(record(2))
    assert len(told) == 2


def test_who_fills_the_queue_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where much waits to go out, once in some spans; also while spans are decided on, not in between."""
    calls = Calls(capacity=80)
    ways = calls.ways(monkeypatch)
    calls.intake.goes()
    for _ in range(2):
        calls.offer(10)
        calls.intake.settle_inbox()
    assert (calls.ledger.queued, ways) == (20, [])
    calls.offer(1)
    calls.intake.settle_inbox()
    assert calls.offer(9) == []
    assert calls.offer(1) == ["stand-in"]
    assert len(ways) == 1
    assert calls.offer(9) == []
    assert calls.offer(1) == ["stand-in"]
    assert len(ways) == 2
    calls.intake.store.is_streaming = False
    assert calls.offer(10) == ["stand-in"]
    assert len(ways) == 3


def test_who_goes_on_ending_spans_meanwhile_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also once what he offered is swept; until the same time, and then no more often than before."""
    calls = Calls(capacity=80)
    ways: list[float] = []
    thread = 1

    def give_way(seconds: float) -> None:
        nonlocal thread
        ways.append(seconds)
        if len(ways) > 1:
            return
        thread = 2
        for _ in range(way.FEW_SPANS):
            calls.intake.sweep()
            calls.clock.advance(seconds / 10)
            assert calls.offer(1) == ["stand-in"]
        thread = 1
        calls.clock.advance(seconds)
        calls.intake.sweep()

    calls.intake.goes()
    calls.offer(40)
    calls.intake.settle_inbox()
    monkeypatch.setattr("otel_shed.pipeline.intake.give_way", give_way)
    monkeypatch.setattr("otel_shed.pipeline.intake.thread_id", lambda: thread)
    assert calls.offer(10)[:1] == ["stand-in"]
    assert ways == pytest.approx([ways[0], 0.6 * ways[0]])
    calls.offer(9)
    assert len(ways) == 2
    calls.offer(1)
    assert len(ways) == 3


def test_who_is_in_the_ledger_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer's span may end in the middle of a sweep, for which all others would wait."""
    calls = Calls(capacity=80)
    ways = calls.ways(monkeypatch)
    calls.intake.goes()
    calls.offer(30)
    calls.intake.settle_inbox()
    with calls.ledger.lock:
        assert calls.offer(10) == ["stand-in"]
    assert ways == []


def test_who_finds_no_room_gives_way_once_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the room would be full again before the worker has the interpreter."""
    calls = Calls(capacity=80)
    ways = calls.ways(monkeypatch)
    calls.intake.goes()
    assert calls.offer(40) == ["stand-in"]
    assert (calls.offer(40), ways) == ([], [])
    assert calls.offer(1) == ["waited"]
    assert len(ways) == 1


def test_who_fills_the_smallest_queue_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a quarter of it is less than a span, or little more, and for no longer than of any other."""
    given: list[float] = []
    for capacity in range(1, 12):
        calls = Calls(capacity=capacity)
        ways = calls.ways(monkeypatch)
        calls.intake.goes()
        for _ in range(3):
            calls.offer(capacity)
            calls.intake.settle_inbox()
        assert calls.ledger.queued == capacity
        given += ways
    assert max(given) < 0.0002


def test_who_fills_the_queue_does_not_wait_for_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the worker is in a call that lasts, to give way would make no room."""
    calls = Calls(capacity=80)
    ways = calls.ways(monkeypatch)
    calls.intake.goes()
    calls.offer(30)
    calls.intake.settle_inbox()
    calls.clock.advance(1.5 * way.PATIENCE_SECONDS)
    calls.offer(30)
    calls.intake.settle_inbox()
    calls.intake.goes(is_brief=False)
    calls.offer(30)
    assert ways == []
    calls.intake.settle_inbox()
    calls.intake.goes()
    calls.offer(10)
    assert len(ways) == 1
