"""The queue: what it holds, evicts and counts, whatever comes in between; the plain class and the compiled one."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

from otel_shed.control.threshold import randomness_of, read_ot
from otel_shed.native import allocate_rlock, call_if_free
from otel_shed.otlp.encode import wrap_span
from otel_shed.otlp.encode_compiled import wrap_compiled
from otel_shed.pipeline import queue as module
from otel_shed.pipeline.queue import NEVER, PlainQueue
from otel_shed.record import Priority, SpanRecord
from tests.interpreter import IS_FREE_THREADED
from tests.otlp.encoders import ENCODERS
from tests.otlp.made_spans import made_span

# What is counted without being held; ``OTHER`` is whatever a caller books.
FULL, REFUSED, CLOSED, FAILED, OTHER, KINDS = range(6)
QUEUES: dict[str, type[PlainQueue]] = {"plain": PlainQueue}
if module.Queue is not PlainQueue:
    QUEUES["compiled"] = module.Queue
either = pytest.mark.parametrize("make", QUEUES.values(), ids=QUEUES)
plain_only = pytest.mark.parametrize("make", [PlainQueue], ids=["plain"])


def queue_of(make: type[PlainQueue], max_records: int = NEVER, max_bytes: int = NEVER) -> PlainQueue:
    queue = make(kinds=KINDS, full=FULL, refused=REFUSED, closed=CLOSED, failed=FAILED)
    queue.resize(max_records, max_bytes)
    return queue


def record(
    number: int = 1,
    length: int = 10,
    priority: Any = Priority.NORMAL,
    *,
    trace_id: int = 1,
    trace_state: Mapping[str, str] | None = None,
    span: Any = None,
) -> SpanRecord:
    return SpanRecord(trace_id, number, 0, 1, "work", 0, 0, priority, length, None, b"", span, trace_state=trace_state)


def numbers(popped: tuple[list[SpanRecord], int]) -> list[int]:
    return [each.span_id for each in popped[0]]


def ended(queue: PlainQueue) -> int:
    """All that any count has."""
    popped, waiting, _, kinds = queue.counts()
    return popped + waiting + sum(kinds)


# -- against a list ------------------------------------------------------------------------------------------------


class Hostile(dict[str, str]):
    """A tracestate that breaks when it is read."""

    def get(self, key: str, default: Any = None) -> Any:
        raise ZeroDivisionError


RV = 1 << 55
TRACE_STATES: list[Mapping[str, Any] | None] = [
    None,
    {},
    {"other": "1"},
    {"ot": f"rv:{RV:014x}"},
    {"ot": f"th:8;rv:{RV - 1:014x};x:1"},
    {"other": "rv:00000000000000", "ot": f"rv:{RV + 1:014x}"},
    {"ot": f"rv:{RV:014x};rv:{0:014x}"},
    {"ot": f"rv:{RV:014x};rv"},
    {"ot": f"rv:{RV:014x};rvx:{0:014x}"},
    {"ot": "rv:8000000000000"},
    {"ot": "rv:8000000000000G"},
    {"ot": f"é:1;rv:{RV:014x}"},
    {"ot": ""},
    {"ot": 7},
    TraceState([("ot", f"rv:{RV:014x}")]),
    TraceState([("other", "1")]),
    Hostile(ot=f"rv:{RV:014x}"),
]
THRESHOLDS = [0, 1, RV - 1, RV, RV + 1, (1 << 56) - 1]


def randomness(trace_id: int, trace_state: Mapping[str, Any] | None) -> int:
    try:
        return randomness_of(trace_id, read_ot(trace_state))
    except Exception:
        return randomness_of(trace_id)


class QueuesAgainstAList(RuleBasedStateMachine):
    """Each class does, step by step, what a list does, and so the same as the other."""

    @initialize(max_records=st.sampled_from([0, 1, 3, 8, 10**6]), max_bytes=st.sampled_from([0, 50, 200, NEVER]))
    def begin(self, max_records: int, max_bytes: int) -> None:
        self.queues = [queue_of(make, max_records, max_bytes) for make in (PlainQueue, *QUEUES.values())]
        self.max_records, self.max_bytes = max_records, max_bytes
        self._forget()
        self.is_closed = False

    def _forget(self) -> None:
        self.model: list[SpanRecord] = []
        self.admitted = self.popped = self.number = self.admission = 0
        self.kinds = [0] * KINDS
        self.wake: tuple[int, int] = (NEVER, NEVER)

    def both(self, call: Callable[[PlainQueue], Any]) -> Any:
        """What comes of it, which is the same for each."""
        results = [call(queue) for queue in self.queues]
        assert all(result == results[0] for result in results)
        return results[0]

    @property
    def length(self) -> int:
        return sum(each.length for each in self.model)

    @property
    def wakes(self) -> bool:
        return len(self.model) >= self.wake[0] or self.length >= self.wake[1]

    def _evict(self) -> None:
        while self.model and (len(self.model) > self.max_records or self.length > self.max_bytes):
            self.model.remove(min(self.model, key=lambda each: (each.priority, each.order)))
            self.kinds[FULL] += 1

    @rule(
        length=st.sampled_from([0, 1, 10, 49, 50, 51, 199, 500]),
        priority=st.sampled_from([*Priority, 1, True]),
        trace_id=st.sampled_from([0, RV - 1, RV, (1 << 127) + RV]),
        trace_state=st.sampled_from(TRACE_STATES),
    )
    def push(self, length: int, priority: int, trace_id: int, trace_state: Any) -> None:
        self.number += 1

        def new() -> SpanRecord:
            return record(self.number, length, priority, trace_id=trace_id, trace_state=trace_state)

        wakes = self.both(lambda queue: queue.push(new()))
        admission = self.admission if priority < Priority.HIGH else 0
        beside = [each for each in self.model if each.priority > priority]
        if self.is_closed:
            self.kinds[CLOSED] += 1
        elif admission and randomness(trace_id, trace_state) < admission:
            self.kinds[REFUSED] += 1
        elif len(beside) >= self.max_records or sum(each.length for each in beside) + length > self.max_bytes:
            self.kinds[FULL] += 1
        else:
            mine = new()
            mine.order, mine.admission = self.admitted, admission
            self.admitted += 1
            self.model.append(mine)
            self._evict()
            assert self.model[-1] is mine
        assert wakes is self.wakes

    @rule(priority=st.sampled_from([-1, 4, None, "high", 1.5]))
    def push_nonsense(self, priority: Any) -> None:
        self.both(lambda queue: queue.push(record(priority=priority)))
        self.kinds[FAILED] += 1

    @rule(most=st.integers(0, 5), most_bytes=st.sampled_from([0, 10, 60, 200, NEVER]))
    def pop(self, most: int, most_bytes: int) -> None:
        taken: list[SpanRecord] = []
        while self.model and len(taken) < most and sum(e.length for e in taken) + self.model[0].length <= most_bytes:
            taken.append(self.model.pop(0))
        self.popped += len(taken)

        def look(queue: PlainQueue) -> Any:
            popped, length = queue.pop(most, most_bytes)
            return [(e.span_id, e.length, e.priority, e.order, e.admission) for e in popped], length

        wanted = [(e.span_id, e.length, e.priority, e.order, e.admission) for e in taken]
        assert self.both(look) == (wanted, sum(e.length for e in taken))

    @rule(max_records=st.integers(-1, 8), max_bytes=st.sampled_from([-1, 0, 50, 200, NEVER]))
    def resize(self, max_records: int, max_bytes: int) -> None:
        self.both(lambda queue: queue.resize(max_records, max_bytes))
        self.max_records, self.max_bytes = max(0, max_records), max(0, max_bytes)
        self._evict()

    @rule(kind=st.integers(0, KINDS - 1), count=st.integers(0, 3))
    def book(self, kind: int, count: int) -> None:
        self.both(lambda queue: queue.book(kind, count))
        self.kinds[kind] += count

    @rule(kind=st.sampled_from([-1, KINDS, 10**6]))
    def book_what_there_is_not(self, kind: int) -> None:
        for queue in self.queues:
            with pytest.raises(IndexError):
                queue.book(kind)

    @rule(records=st.integers(0, 5), length=st.sampled_from([0, 20, NEVER]))
    def wake_when(self, records: int, length: int) -> None:
        self.wake = records, length
        assert self.both(lambda queue: queue.wake_when(records, length)) is self.wakes

    @rule(threshold=st.sampled_from(THRESHOLDS))
    def admit_from(self, threshold: int) -> None:
        self.both(lambda queue: queue.admit_from(threshold))
        self.admission = threshold

    @rule(is_rare=st.integers(0, 9))
    def close(self, is_rare: int) -> None:
        if not is_rare:
            self.both(lambda queue: queue.close())
            self.is_closed = True

    @rule(kind=st.integers(0, KINDS - 1))
    def clear(self, kind: int) -> None:
        self.both(lambda queue: queue.clear(kind))
        self.kinds[kind] += len(self.model)
        self.model.clear()

    @rule(is_rare=st.integers(0, 4))
    def restart(self, is_rare: int) -> None:
        if not is_rare:
            self.both(lambda queue: queue.restart())
            self._forget()

    @invariant()
    def reads_like_the_list(self) -> None:
        assert self.both(lambda queue: queue.counts()) == (self.popped, len(self.model), self.length, self.kinds)
        assert self.both(lambda queue: (queue.records, queue.length)) == (len(self.model), self.length)
        assert self.both(lambda queue: (queue.admitted, queue.mark())) == (self.admitted, self.admitted)
        assert self.both(lambda queue: (queue.admission, queue.is_closed)) == (self.admission, self.is_closed)
        assert self.both(lambda queue: queue.oldest) == (self.model[0].order if self.model else self.admitted)
        assert not self.both(lambda queue: queue.is_held_here)
        assert len(self.model) <= self.max_records
        assert self.length <= self.max_bytes


TestQueuesAgainstAList = QueuesAgainstAList.TestCase
TestQueuesAgainstAList.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# -- bounds --------------------------------------------------------------------------------------------------------


@either
def test_a_record_larger_than_the_bound_costs_no_other_its_place(make: type[PlainQueue]) -> None:
    """It is evicted itself, whatever its priority; and so is one that has no room beside those above it."""
    queue = queue_of(make, 100, 1_000)
    for number in range(10):
        queue.push(record(number, 50))
    queue.push(record(10, 300, Priority.HIGH))
    for priority in Priority:
        queue.push(record(99, 1_001, priority))
    queue.push(record(98, 701))
    assert queue.counts() == (0, 11, 800, [5, 0, 0, 0, 0])
    queue.push(record(11, 700))
    assert numbers(queue.pop(100)) == [10, 11]
    assert queue.counts() == (2, 0, 0, [15, 0, 0, 0, 0])


@either
def test_a_large_record_evicts_many_and_never_is_there_too_much(make: type[PlainQueue]) -> None:
    """Room is made before the record is queued: whoever looks in the middle of it finds the bounds kept."""
    queue = queue_of(make, NEVER, 1_000)
    seen: list[tuple[int, int]] = []

    class Looks:
        def __del__(self) -> None:
            seen.append((queue.records, queue.length))

    for number in range(100):
        queue.push(record(number, 10, span=Looks()))
    queue.push(record(100, 995))
    assert queue.counts() == (0, 1, 995, [100, 0, 0, 0, 0])
    assert len(seen) >= 99
    assert all(length <= 1_000 and records <= 100 for records, length in seen)


@either
@pytest.mark.parametrize("capacity", [1, 8, 10**6])
def test_holds_the_newest_of_the_highest_priority(make: type[PlainQueue], capacity: int) -> None:
    """Of more than it holds, those worth least went first, the oldest of them before the others; in their order."""
    queue, chance, pushed = queue_of(make, capacity), random.Random(1), []
    for number in range(min(3 * capacity, 30_000)):
        pushed.append((chance.choice(list(Priority)), number))
        queue.push(record(number, priority=pushed[-1][0]))
        assert queue.records == min(number + 1, capacity)
    if capacity > len(pushed):
        kept = pushed
    else:
        model: list[tuple[Priority, int]] = []
        for each in pushed:
            model.append(each)
            if len(model) > capacity:
                model.remove(min(model))
        kept = sorted(model, key=lambda each: each[1])
    assert numbers(queue.pop(10**6)) == [number for _, number in kept]
    assert ended(queue) == len(pushed)


# -- refused by their randomness -----------------------------------------------------------------------------------

WRAPS: dict[str, Callable[..., SpanRecord]] = {"wrap": wrap_span}
if wrap_compiled is not None:
    WRAPS["wrap compiled"] = wrap_compiled


@either
@pytest.mark.parametrize("encode", [*ENCODERS.values(), *WRAPS.values()], ids=[*ENCODERS, *WRAPS])
@pytest.mark.parametrize("parent", [None, SpanContext(1, 7, is_remote=True)], ids=["root", "child"])
def test_an_encoded_record_goes_by_the_rv_of_its_tracestate(
    make: type[PlainQueue], encode: Callable[..., SpanRecord], parent: SpanContext | None
) -> None:
    """All spans of a trace are held against the threshold alike, whoever has encoded them, children too."""
    for trace_id, rv, is_kept in ((RV - 1, RV, True), (RV, RV - 1, False), (RV, None, True), (RV - 1, None, False)):
        ot = [] if rv is None else [("ot", f"th:4;rv:{rv:014x}")]
        state = TraceState([("vendor", "rv:00000000000000"), *ot])
        context = SpanContext(trace_id, 2, is_remote=False, trace_flags=TraceFlags(1), trace_state=state)
        queue = queue_of(make)
        queue.admit_from(RV)
        queue.push(encode(made_span(context=context, parent=parent)))
        assert queue.counts()[1] == is_kept
        assert queue.counts()[3][REFUSED] == (not is_kept)
        assert [each.admission for each in queue.pop(1)[0]] == [RV] * is_kept


# -- threads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@either
@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("threads", [8, 16])
@pytest.mark.parametrize("capacity", [1, 8, 10**6])
def test_threads_lose_nothing(make: type[PlainQueue], threads: int, capacity: int) -> None:
    """Each record is popped or counted, once; those of a thread come in its order; the bounds hold at each reading."""
    queue, pushes, popped, wrong = queue_of(make, capacity, 40 * capacity), 1_000, list[SpanRecord](), list[Any]()
    start, over = threading.Barrier(threads + 2), threading.Event()

    def produce(thread: int) -> None:
        start.wait()
        for number in range(pushes):
            queue.push(record(thread * pushes + number, number % 60, Priority.HIGH if thread % 4 else Priority.LOW))
            if number % 7 == 0:
                queue.book(OTHER, 2)

    def consume() -> None:
        start.wait()
        while not over.is_set():
            popped.extend(queue.pop(5, 200)[0])
            queue.resize(capacity, 40 * capacity)
            queue.wake_when(3)
            if queue.oldest > queue.mark():
                wrong.append("an oldest that has not come")

    def watch() -> None:
        start.wait()
        before = 0
        while not over.is_set():
            gone, waiting, length, kinds = queue.counts()
            if waiting > capacity or length > 40 * capacity or queue.records > capacity or queue.length > 40 * capacity:
                wrong.append((waiting, length))
            if gone + waiting + sum(kinds) < before:
                wrong.append("counted, and no longer")
            before = gone + waiting + sum(kinds)

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(threads)]
    others = [threading.Thread(target=consume), threading.Thread(target=watch)]
    for thread in (*producers, *others):
        thread.start()
    for thread in producers:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    popped.extend(queue.pop(NEVER)[0])
    assert wrong == []
    gone, waiting, length, kinds = queue.counts()
    assert (gone, waiting, length) == (len(popped), 0, 0)
    assert kinds[OTHER] == 2 * threads * len(range(0, pushes, 7))
    assert gone + kinds[FULL] == threads * pushes
    seen = [each.span_id for each in popped]
    assert len(set(seen)) == len(seen)
    of_thread: dict[int, list[int]] = {}
    for number in seen:
        of_thread.setdefault(number // pushes, []).append(number)
    assert all(each == sorted(each) for each in of_thread.values())


@plain_only
def test_what_another_thread_has_no_time_for_wakes_all_the_same(make: type[PlainQueue]) -> None:
    """A push that finds another thread at it leaves its record; it is there to be woken for, and to be waited for."""
    queue = queue_of(make)
    queue.wake_when(1)
    has_lock, lets_go = threading.Event(), threading.Event()

    def holds() -> None:
        with queue._lock:
            has_lock.set()
            lets_go.wait(10)

    holder = threading.Thread(target=holds)
    holder.start()
    has_lock.wait(10)
    assert queue.push(record(1))
    assert queue.wake_when(1)
    assert queue.records == 0
    lets_go.set()
    holder.join()
    assert numbers(queue.pop(1)) == [1]


# -- in the middle of a push ---------------------------------------------------------------------------------------

timers_only = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")


class Interrupted(BaseException):
    """What the handler of a time limit may raise."""


class Interrupting:
    """Calls ``handler`` on this thread, in the middle of whatever it does, a thousand times a second."""

    def __init__(self, handler: Callable[[], None]) -> None:
        self._handler, self._is_in = handler, False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_in:  # handlers that interrupt each other are tested in tests/faults
            self._is_in = True
            try:
                self._handler()
            finally:
                self._is_in = False

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What a handler raises in a callback of the garbage collector, as Hypothesis has one, gets nowhere."""
    gc.disable()
    yield
    gc.enable()


def _tally(queue: PlainQueue, popped: list[SpanRecord]) -> tuple[Counter[int], int]:
    """How often each record was popped, and how many were counted instead."""
    popped.extend(queue.pop(NEVER)[0])
    gone, waiting, length, kinds = queue.counts()
    assert (waiting, length) == (0, 0)
    assert gone == len(popped)
    return Counter(each.span_id for each in popped), sum(kinds)


@timers_only
@either
@pytest.mark.parametrize("capacity", [1, 8, 10**6])
def test_a_handler_that_pushes_in_the_middle_of_a_push(make: type[PlainQueue], capacity: int) -> None:
    """It waits for nobody, and what it pushes is counted once, as what it interrupts is; what it reads adds up."""
    queue, popped, handled, mine, unlike = queue_of(make, capacity), list[SpanRecord](), 0, 0, list[Any]()

    def handler() -> None:
        nonlocal handled
        before = ended(queue)
        for _ in range(2):
            handled += 1
            queue.push(record(-handled % 2**32, 7, Priority(handled % 4)))
        queue.resize(capacity, NEVER)
        queue.wake_when(3)
        popped.extend(queue.pop(1)[0])
        if not before <= ended(queue) <= mine + 1 + handled or queue.records > capacity or queue.oldest > queue.mark():
            unlike.append((before, ended(queue), mine, handled))

    until = time.monotonic() + 10
    with Interrupting(handler):
        while handled < 600 and time.monotonic() < until:
            mine += 1
            queue.push(record(mine, 13, Priority(mine % 4)))
            if mine % 10 == 0:
                popped += queue.pop(3)[0]
    assert handled > 50
    assert unlike == []
    often, counted = _tally(queue, popped)
    assert set(often.values()) <= {1}
    assert sum(often.values()) + counted == mine + handled


@timers_only
@either
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("capacity", [1, 8, 10**6])
def test_a_handler_that_raises_in_the_middle_of_a_push(make: type[PlainQueue], capacity: int) -> None:
    """What the interrupted call was given is queued or counted at most once, all others once; and nothing is stuck."""
    queue, popped, mine, raised, booked = queue_of(make, capacity), list[SpanRecord](), 0, 0, 0
    is_armed = False

    def handler() -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise Interrupted

    until = time.monotonic() + 10
    with Interrupting(handler):
        while raised < 300 and time.monotonic() < until:
            mine += 1
            new = record(mine, 13, Priority(mine % 4))
            try:
                is_armed = True
                queue.push(new)
                queue.book(OTHER)
                is_armed = False
                booked += 1
            except Interrupted:
                raised += 1
            is_armed = False
            if mine % 10 == 0:
                popped += queue.pop(3)[0]
    assert raised > 20
    often, _ = _tally(queue, popped)
    assert set(often.values()) <= {1}
    kinds = queue.counts()[3]
    assert mine - raised <= sum(often.values()) + kinds[FULL] <= mine
    assert booked <= kinds[OTHER] <= mine
    # Whoever comes now finds it as it should be.
    queue.push(record(mine + 1, 5))
    assert numbers(queue.pop(NEVER)) == [mine + 1]
    another = threading.Thread(target=queue.push, args=(record(mine + 2, 5),))
    another.start()
    another.join()
    assert queue.counts()[1:3] == (1, 5)


@timers_only
@either
@pytest.mark.usefixtures("no_collector")
def test_a_handler_that_raises_in_the_middle_of_a_reading(make: type[PlainQueue]) -> None:
    """Nothing is moved or counted by halves by a call that is broken off, and the queue goes on."""
    queue, mine, raised = queue_of(make, 1_000), 0, 0
    is_armed = False

    def handler() -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise Interrupted

    until = time.monotonic() + 10
    with Interrupting(handler):
        while raised < 200 and time.monotonic() < until:
            mine += 1
            queue.push(record(mine))
            try:
                is_armed = True
                queue.counts()
                queue.mark()
                queue.resize(1_000, NEVER)
                queue.wake_when(NEVER)
                _ = queue.oldest
                is_armed = False
            except Interrupted:
                raised += 1
            is_armed = False
            assert not queue.is_held_here
            assert ended(queue) == mine
    assert raised > 20


@plain_only
def test_a_handler_in_the_middle_of_a_pop_finds_all_of_it(make: type[PlainQueue]) -> None:
    """Until a pop is at its end, what it has taken waits; where it is broken off, that is back in its place."""
    queue, seen = queue_of(make), list[Any]()
    for number in range(6):
        queue.push(record(number, 10, Priority(number % 4)))

    class Breaks:
        """A number of bytes that raises as it is compared for the third time."""

        asked = 0

        def __lt__(self, other: object) -> bool:
            self.asked += 1
            seen.append((ended(queue), queue.counts()[:3], queue.oldest))
            queue.clear(OTHER)
            queue.push(record(100 + self.asked))
            assert queue.pop(1) == ([], 0)
            if self.asked == 3:
                raise Interrupted
            return False

    with pytest.raises(Interrupted):
        queue.pop(10, Breaks())  # type: ignore[arg-type]
    assert seen == [(6, (0, 6, 60), 0)] * 3
    assert numbers(queue.pop(10)) == [0, 1, 2, 3, 4, 5, 101, 102, 103]


def test_a_lock_is_let_go_however_it_was_come_by() -> None:
    """A handler that raises as soon as the lock is had, or is not, leaves it as it was."""

    class Raising:
        """Raises what a handler does between a call and what comes next."""

        def __init__(self) -> None:
            self.lock = allocate_rlock()

        def acquire(self, *given: Any) -> bool:
            self.lock.acquire(*given)
            raise Interrupted

        def release(self) -> None:
            self.lock.release()

    raising = Raising()
    with pytest.raises(Interrupted):
        call_if_free(raising, list)
    assert not raising.lock._is_owned()
    holder = threading.Thread(target=raising.lock.acquire)
    holder.start()
    holder.join()
    with pytest.raises(Interrupted):
        call_if_free(raising, list)
    assert call_if_free(raising.lock, list) == []
    lock = allocate_rlock()
    assert call_if_free(lock, lambda: 7) == [7]
    assert not lock._is_owned()


# -- finalizers ----------------------------------------------------------------------------------------------------


@either
def test_finalizers_that_push_and_read(make: type[PlainQueue]) -> None:
    """What is evicted, cleared, refused or popped may end spans as it is let go of: all are counted, none twice."""
    queue, finalized = queue_of(make, 8), 0

    class Ends:
        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            if finalized % 3:
                queue.push(record(finalized))
            else:
                queue.book(OTHER)
            queue.counts()
            queue.resize(8, NEVER)

    for _ in range(300):
        queue.push(record(span=Ends()))
    queue.resize(2, NEVER)
    queue.pop(1)
    queue.clear(OTHER)
    queue.close()
    queue.push(record(span=Ends()))
    deque(maxlen=0).extend(iter(lambda: queue.pop(8)[0], []))
    assert finalized == 301
    assert ended(queue) == 301 + 301
    assert queue.records == 0


@either
def test_records_that_are_gone_are_let_go_of(make: type[PlainQueue]) -> None:
    """The queue keeps nothing of what it has given away, evicted, refused or cleared."""
    queue, gone = queue_of(make, 4), 0

    class Gone:
        def __del__(self) -> None:
            nonlocal gone
            gone += 1

    for _ in range(10):
        queue.push(record(span=Gone()))
    assert gone == 6
    queue.pop(1)
    assert gone == 7
    queue.clear(OTHER)
    assert gone == 10
    queue.push(record(5, 10, span=Gone()))
    queue.restart()
    assert gone == 11


# -- forks ---------------------------------------------------------------------------------------------------------

forks_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")


def _in_child(check: Callable[[], object]) -> int:
    """0 if it is true in a forked child."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@forks_only
@either
def test_a_forked_child_starts_empty_with_its_own_counts(make: type[PlainQueue]) -> None:
    """Even while other threads push; the parent's go on, and each has only its own."""
    queue, over = queue_of(make, 100), threading.Event()
    pushed = [0, 0, 0, 0]

    def produce(place: int) -> None:
        while not over.is_set():
            queue.push(record())
            queue.book(OTHER)
            pushed[place] += 2

    def begins_anew() -> bool:
        queue.restart()
        is_empty = queue.counts() == (0, 0, 0, [0] * KINDS) and queue.admitted == queue.mark() == queue.oldest == 0
        for number in range(200):
            queue.push(record(number))
        return is_empty and queue.counts() == (0, 100, 1_000, [100, 0, 0, 0, 0]) and len(queue.pop(200)[0]) == 100

    threads = [threading.Thread(target=produce, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert [_in_child(begins_anew) for _ in range(10)] == [0] * 10
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert ended(queue) == sum(pushed)


@forks_only
@timers_only
@either
def test_a_handler_that_forks_in_the_middle_of_a_push(make: type[PlainQueue]) -> None:
    """The child goes on with the push that was the parent's, and nothing of it is the child's."""
    queue, children, is_child, mine = queue_of(make, 8), 0, False, 0

    def handler() -> None:
        nonlocal children, is_child
        if children < 40 and not is_child:
            children += 1
            if os.fork() == 0:
                is_child = True
                queue.restart()

    until = time.monotonic() + 5
    codes = []
    with Interrupting(handler):
        while time.monotonic() < until and children < 40 and not is_child:
            mine += 1
            queue.push(record(mine, priority=Priority(mine % 4)))
            if mine % 3 == 0:
                queue.pop(2)
    if is_child:
        signal.setitimer(signal.ITIMER_REAL, 0)
        # The loop's last steps may have been the child's own: of one push at most, and of nothing before.
        popped, waiting, _, kinds = queue.counts()
        is_right = popped + waiting + sum(kinds) <= 1
        queue.push(record(5))
        os._exit(0 if is_right and numbers(queue.pop(9))[-1:] == [5] else 3)
    while children:
        children -= 1
        codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
    assert set(codes) == {0}
    assert ended(queue) == mine


# -- no stack, no memory -------------------------------------------------------------------------------------------


FRAMES = 50


def _down(frames: int, call: Callable[[], object]) -> object:
    return call() if frames == 0 else _down(frames - 1, call)


def _with_frames(left: int, call: Callable[[], object]) -> object:
    """What comes of the call with about so many frames left."""
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1  # type: ignore[assignment]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(used + FRAMES)
    try:
        return _down(FRAMES - left, call)
    except RecursionError as error:
        return type(error)
    finally:
        sys.setrecursionlimit(limit)


@either
@pytest.mark.parametrize("is_full", [False, True])
def test_a_push_with_a_few_frames_left(make: type[PlainQueue], is_full: bool) -> None:
    """It raises RecursionError only where the record is in no count; and what it has left undone, the next one does."""
    raised = 0
    for left in range(FRAMES):
        queue = queue_of(make, 3 if is_full else NEVER)
        queue.admit_from(1)
        for number in range(3):
            queue.push(record(number))
        before = ended(queue)
        for call in (
            lambda queue=queue: queue.push(record(9, trace_state=TraceState([("ot", f"rv:{RV:014x}")]))),
            lambda queue=queue: queue.push(record(9, priority=None)),
            lambda queue=queue: queue.book(OTHER),
        ):
            before += (came := _with_frames(left, call)) is not RecursionError
            raised += came is RecursionError
            assert ended(queue) == before
        _with_frames(left, lambda queue=queue: queue.resize(3, NEVER))
        _with_frames(left, lambda queue=queue: queue.counts())
        popped = _with_frames(left, lambda queue=queue: queue.pop(2))
        popped = popped if isinstance(popped, tuple) else queue.pop(2)
        assert len(popped[0]) == 2
        assert ended(queue) == before
        assert not queue.is_held_here
    assert raised > 0


@pytest.mark.skipif(IS_FREE_THREADED, reason="failing allocations crash the interpreter (3.13.5), whatever it runs")
@either
@pytest.mark.parametrize("is_full", [False, True])
def test_a_push_without_memory(make: type[PlainQueue], is_full: bool) -> None:
    """It raises MemoryError only where the record is in no count, the compiled one never; a pop takes all or none."""
    testing = pytest.importorskip("_testcapi")
    if not hasattr(testing, "set_nomemory"):
        pytest.skip("no failing allocations here")

    def failing(first: int, last: int, call: Callable[[], object]) -> object:
        try:
            testing.set_nomemory(first, last)
            return call()
        except MemoryError:
            return MemoryError
        finally:
            testing.remove_mem_hooks()

    raised = 0
    for first in range(40):
        for last in (first + 1, 0):
            queue = queue_of(make, 64 if is_full else NEVER)
            for number in range(64):
                queue.push(record(number))
            before, new = ended(queue), record(99)
            came = failing(first, last, lambda queue=queue, new=new: queue.push(new))
            raised += came is MemoryError
            before += came is not MemoryError
            assert ended(queue) == before
            before += failing(first, last, lambda queue=queue: queue.book(OTHER)) is not MemoryError
            assert ended(queue) == before
            failing(first, last, lambda queue=queue: queue.resize(32, NEVER))
            failing(first, last, lambda queue=queue: queue.counts())
            waiting = queue.counts()[1]
            popped = failing(first, last, lambda queue=queue: queue.pop(10))
            assert queue.counts()[1] == waiting - (0 if popped is MemoryError else 10)
            assert ended(queue) == before
            assert not queue.is_held_here
            rest = queue.pop(NEVER)[0]
            assert len(rest) == len(set(map(id, rest))) == waiting - (0 if popped is MemoryError else 10)
    assert raised == 0 or make is PlainQueue
