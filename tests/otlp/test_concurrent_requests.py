"""Several requests at once, on scripted transports: each has its own outcome, and what is known is known to all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.native import Signal
from otel_shed.otlp import exporter as exporter_module
from otel_shed.otlp import lanes as lanes_module
from otel_shed.otlp.retry import Attempt, Verdict, grpc_failure, no_answer
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.sender import OTLPSender
from otel_shed.record import Priority, ScopeGroup, SpanRecord
from otel_shed.testing.answers import retry_info
from otel_shed.testing.transport import ACCEPTED

PATIENCE = 30.0
GROUP = ScopeGroup(b"\x0a\x00", b"\x0a\x00")
BUSY = Attempt(Verdict.RETRYABLE, "503", "busy")
BAD = Attempt(Verdict.PERMANENT, "400", "bad data")
LATE = no_answer("timed out", timed_out=True)

Answer = Callable[[int, float], Attempt]


def record(number: int) -> SpanRecord:
    """Its body tells its number."""
    body = b"%4d" % number
    return SpanRecord(1, 1, 0, 0, "", 0, 0, Priority.NORMAL, len(body), GROUP, body, None)


def pieces(count: int, size: int = 2) -> list[list[SpanRecord]]:
    return [[record(number)] * size for number in range(count)]


class Clock:
    """Goes on when somebody waits, of several that wait at once as far as the longest; keeps their waits."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.waiting = threading.Semaphore(0)
        self.holds = False  # waits last until the signal
        self._now = 1000.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            return self._now

    def wait(self, signal: Signal, seconds: float) -> bool:
        until = self() + seconds
        self.waiting.release()
        if self.holds and not signal.is_set():
            return signal.wait(PATIENCE)
        with self._lock:
            self.waits.append(seconds)
            self._now = max(self._now, until)
        return signal.is_set()


class Collector:
    """What all transports of an exporter send to: ``answer`` is given the request's number and the time."""

    def __init__(self, clock: Clock, answer: Answer) -> None:
        self.clock = clock
        self.answer = answer
        self.requests: list[tuple[int, float]] = []
        self.transports: list[Lane] = []
        self.lock = threading.Lock()

    def connect(self, *_: object) -> Lane:
        self.transports.append(Lane(self))
        return self.transports[-1]

    def numbers(self) -> list[int]:
        return [number for number, _ in self.requests]


class Lane:
    """One of its transports."""

    def __init__(self, collector: Collector) -> None:
        self.calls: list[str] = []
        self.cancelled = threading.Event()
        self._collector = collector
        self._thread: int | None = None

    def send(self, payload: bytes, timeout: float) -> Attempt:
        assert self._thread in (None, threading.get_ident()), "a transport is one thread's"
        self._thread = threading.get_ident()
        if self.cancelled.is_set():
            return no_answer("cancelled")
        number, now = int(payload[-4:]), self._collector.clock()
        with self._collector.lock:
            self._collector.requests.append((number, now))
        return self._collector.answer(number, now)

    def cancel(self) -> None:
        self.calls.append("cancel")
        self.cancelled.set()

    def close(self) -> None:
        self.calls.append("close")
        self.cancelled.set()

    def after_fork_in_child(self) -> None:
        self.calls.append("after_fork_in_child")
        self._thread = None


Made = Callable[..., tuple[OTLPSpanExporter, Collector]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    exporters: list[OTLPSpanExporter] = []

    def make(answer: Answer = lambda *_: ACCEPTED) -> tuple[OTLPSpanExporter, Collector]:
        clock = Clock()
        collector = Collector(clock, answer)
        monkeypatch.setattr(exporter_module, "_transport", collector.connect)
        exporter = OTLPSpanExporter(environ={}, clock=clock)
        exporter._client._wait = clock.wait
        exporter._client._random = lambda: 0.5
        exporters.append(exporter)
        return exporter, collector

    yield make
    for exporter in exporters:
        exporter.shutdown()


def sent(
    exporter: OTLPSpanExporter, batch: list[list[SpanRecord]], at_once: int, budget: float = 100.0
) -> list[Outcome]:
    return list(exporter.send_requests(batch, budget=lambda: budget, at_once=at_once))


def asks(seconds: float) -> Attempt:
    return grpc_failure("UNAVAILABLE", "later", retry_info(seconds))


def test_one_at_a_time_is_the_thread_that_sends(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting there is one connection, no further thread, and requests go in their order."""
    monkeypatch.setattr(lanes_module, "start_thread", lambda **_: pytest.fail("a thread"))
    exporter, collector = made()
    assert [outcome.accepted for outcome in sent(exporter, pieces(5), 1)] == [2] * 5
    assert collector.numbers() == [0, 1, 2, 3, 4]
    assert len(collector.transports) == 1


def test_one_at_a_time_begins_nothing_before_it_is_asked_for(made: Made) -> None:
    """Each request is made when the outcome of the one before has been dealt with."""
    exporter, collector = made()
    outcomes = exporter.send_requests(pieces(3), budget=lambda: 1.0)
    for number in range(3):
        assert next(outcomes).accepted == 2
        assert collector.numbers() == list(range(number + 1))


def test_one_request_needs_no_lane(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of one request is sent by the thread that has it, however many there may be."""
    monkeypatch.setattr(lanes_module, "start_thread", lambda **_: pytest.fail("a thread"))
    exporter, collector = made()
    assert sent(exporter, pieces(1), 64)[0].accepted == 2
    assert len(collector.transports) == 1


@pytest.mark.parametrize("at_once", [2, 3, 8])
def test_so_many_are_with_the_collector_at_once(made: Made, at_once: int) -> None:
    """None is answered before all have come; each over a transport of its own, which it keeps."""
    barrier = threading.Barrier(at_once)

    def answer(*_: object) -> Attempt:
        barrier.wait(PATIENCE)
        return ACCEPTED

    exporter, collector = made(answer)
    for _ in range(3):
        assert [outcome.accepted for outcome in sent(exporter, pieces(2 * at_once), at_once)] == [2] * 2 * at_once
    assert len(collector.transports) == at_once
    assert sorted(collector.numbers()) == sorted([*range(2 * at_once)] * 3)


def test_each_has_its_own_outcome(made: Made) -> None:
    """In the order of the batch, whatever order they are answered in."""
    answers = {
        0: ACCEPTED,
        1: BAD,
        2: Attempt(Verdict.ACCEPTED, "OK", "one too many", rejected=1),
        3: Attempt(Verdict.ACCEPTED, "OK"),
        4: Attempt(Verdict.PERMANENT, "413"),
    }
    last_is_in = threading.Event()

    def answer(number: int, _: float) -> Attempt:
        if number == 4:
            last_is_in.set()
        elif number < 2:
            assert last_is_in.wait(PATIENCE)
        return answers[number]

    exporter, _ = made(answer)
    assert [
        (outcome.accepted, outcome.rejected, outcome.reason, outcome.message, outcome.attempts)
        for outcome in sent(exporter, pieces(5), 3)
    ] == [
        (2, 0, None, "", 1),
        (0, 0, DropReason.NOT_RETRYABLE, "400: bad data", 1),
        (1, 1, None, "one too many", 1),
        (2, 0, None, "", 1),
        (0, 0, DropReason.NOT_RETRYABLE, "413", 1),
    ]


def test_each_is_tried_again_by_itself(made: Made) -> None:
    """A request that fails twice is sent three times, as the same bytes; the others once."""
    failures = {1: 2, 3: 1}

    def answer(number: int, _: float) -> Attempt:
        failures[number] = failures.get(number, 0) - 1
        return BUSY if failures[number] >= 0 else ACCEPTED

    exporter, collector = made(answer)
    outcomes = sent(exporter, pieces(5), 2)
    assert [(outcome.accepted, outcome.attempts) for outcome in outcomes] == [(2, 1), (2, 3), (2, 1), (2, 2), (2, 1)]
    assert [collector.numbers().count(number) for number in range(5)] == [1, 3, 1, 2, 1]


def test_each_has_the_time_that_one_has(made: Made) -> None:
    """What one uses up is not the others' loss, and the limit is asked for as each begins."""

    def answer(number: int, _: float) -> Attempt:
        return LATE if number == 1 else ACCEPTED

    exporter, _ = made(answer)
    budgets = iter([5.0, 5.0, 5.0])
    outcomes = list(exporter.send_requests(pieces(3), budget=lambda: next(budgets), at_once=2))
    assert [outcome.reason for outcome in outcomes] == [None, DropReason.EXPORT_TIMEOUT, None]
    assert next(budgets, None) is None


def throttled(exporter: OTLPSpanExporter) -> threading.Semaphore:
    """Released each time that the exporter has noted a wait."""
    noted = threading.Semaphore(0)
    throttle = exporter._client._throttle

    def throttle_and_tell(pause: float) -> None:
        throttle(pause)
        noted.release()

    exporter._client._throttle = throttle_and_tell  # type: ignore[method-assign]
    return noted


def test_a_wait_that_one_is_asked_for_holds_back_all(made: Made) -> None:
    """Nothing is sent until it is over: neither the one that was refused nor those that had not begun."""
    both = threading.Barrier(2)

    def answer(number: int, now: float) -> Attempt:
        if now >= 1020.0:
            return ACCEPTED
        both.wait(PATIENCE)
        if number == 0:
            return asks(20.0)
        assert noted.acquire(timeout=PATIENCE)
        return ACCEPTED

    exporter, collector = made(answer)
    noted = throttled(exporter)
    # Lane 1 has its first request when lane 0 is refused.
    assert [outcome.accepted for outcome in sent(exporter, pieces(6), 2)] == [2] * 6
    assert sorted(number for number, now in collector.requests if now < 1020.0) == [0, 1]
    assert sorted(collector.numbers()) == [0, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("longer_first", [True, False])
def test_of_two_waits_the_longer_one_is_kept(made: Made, longer_first: bool) -> None:
    """Two requests are refused at once, one for longer: it does not matter which is heard last."""
    both = threading.Barrier(2)

    def answer(number: int, _: float) -> Attempt:
        both.wait(PATIENCE)
        if number == 1:
            assert noted.acquire(timeout=PATIENCE)
        return asks(50.0 if longer_first == (number == 0) else 5.0)

    exporter, _ = made(answer)
    noted = throttled(exporter)
    client = exporter._client
    client.add_lane(exporter._new_transport())
    threads = [
        threading.Thread(
            target=client.deliver, args=(b"%4d" % lane, 2), kwargs={"budget": 1, "park": False, "lane": lane}
        )
        for lane in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert client.throttled_until == pytest.approx(1052.5)


def test_hurry_ends_every_wait(made: Made) -> None:
    """All that back off make one more attempt each, as soon as shutdown has begun, and those that wait one at most."""
    exporter, collector = made(lambda *_: BUSY)
    collector.clock.holds = True
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.extend(sent(exporter, pieces(5), 2)))
    thread.start()
    for _ in range(2):
        assert collector.clock.waiting.acquire(timeout=PATIENCE)
    exporter.hurry(10.0)
    thread.join(PATIENCE)
    assert [(outcome.reason, outcome.attempts) for outcome in results] == [
        (DropReason.SHUTDOWN, 2),
        (DropReason.SHUTDOWN, 2),
        *[(DropReason.SHUTDOWN, 1)] * 3,
    ]


def test_abort_interrupts_every_request(made: Made) -> None:
    """All that are with the collector are interrupted, none is begun, and each is settled."""
    inside = threading.Semaphore(0)

    def answer(*_: object) -> Attempt:
        inside.release()
        assert collector.transports[0].cancelled.wait(PATIENCE)
        return no_answer("cancelled")

    exporter, collector = made(answer)
    results: list[Outcome] = []
    thread = threading.Thread(target=lambda: results.extend(sent(exporter, pieces(7), 3)))
    thread.start()
    for _ in range(3):
        assert inside.acquire(timeout=PATIENCE)
    exporter.abort()
    thread.join(PATIENCE)
    assert [outcome.reason for outcome in results] == [DropReason.SHUTDOWN] * 7
    assert [transport.calls for transport in collector.transports] == [["cancel"]] * 3
    assert len(collector.requests) == 3


def test_what_comes_after_an_abort_is_not_sent(made: Made) -> None:
    """Transports that are made after it are cancelled as well."""
    exporter, collector = made()
    exporter.abort()
    assert [outcome.reason for outcome in sent(exporter, pieces(3), 3)] == [DropReason.SHUTDOWN] * 3
    assert collector.requests == []
    assert [transport.calls for transport in collector.transports] == [["cancel"]] * 3


def test_shutdown_closes_every_connection(made: Made) -> None:
    """Once, and what comes after is refused without an attempt."""
    exporter, collector = made()
    sent(exporter, pieces(6), 3)
    exporter.shutdown()
    exporter.shutdown()
    lanes = len(collector.transports)
    assert [transport.calls for transport in collector.transports] == [["close"]] * lanes
    assert [outcome.reason for outcome in sent(exporter, pieces(3), 3)] == [DropReason.ALREADY_SHUTDOWN] * 3
    assert len(collector.requests) == 6


def test_a_forked_child_begins_anew_in_every_lane(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection is left to the parent; threads are the child's own, and what was asked for still holds."""
    exporter, collector = made()
    sent(exporter, pieces(6), 3)
    abandoned = list(exporter._lanes._helpers)
    exporter._client._throttle(20.0)
    exporter.after_fork_in_child()
    assert [transport.calls for transport in collector.transports] == [["after_fork_in_child"]] * 3
    assert [outcome.accepted for outcome in sent(exporter, pieces(6), 3)] == [2] * 6
    assert all(now >= 1020.0 for _, now in collector.requests[6:])
    for helper in abandoned:
        helper.end()


def test_a_fault_is_one_requests_alone(made: Made) -> None:
    """Records that cannot be sent are lost and counted; the requests beside them are not."""
    exporter, collector = made()
    batch = pieces(4)
    batch[2][1].body = None
    outcomes = sent(exporter, batch, 2)
    assert [outcome.reason for outcome in outcomes] == [None, None, DropReason.EXPORTER_ERROR, None]
    assert outcomes[2].message.startswith("TypeError")
    assert sorted(collector.numbers()) == [0, 1, 3]


def test_metrics_count_every_span_once(made: Made) -> None:
    """Many requests in many lanes, of which some fail: taken and lost add up, and none is left in flight."""
    exporter, _ = made(lambda number, _: BAD if number % 3 == 0 else ACCEPTED)
    exporter._operations.publish(None)
    for _ in range(20):
        sent(exporter, pieces(30, size=3), 8)
    assert exporter._operations.exported == {None: 20 * 20 * 3, "400": 20 * 10 * 3}
    assert exporter._operations.in_flight == 0


def test_listeners_are_told_of_one_attempt_at_a_time(made: Made) -> None:
    """Whoever listens need not know of lanes."""
    exporter, _ = made()
    inside, heard = threading.Lock(), []

    def listener(attempt: Attempt) -> None:
        assert inside.acquire(blocking=False)
        heard.append(attempt)
        inside.release()

    exporter.on_attempt(listener)
    sent(exporter, pieces(100), 4)
    assert len(heard) == 100


@pytest.mark.parametrize(
    ("count", "spans", "size", "expected"),
    [
        (10, None, 10_000, [10]),
        (10, 4, 10_000, [4, 4, 2]),
        (8, 4, 10_000, [4, 4]),
        (3, 4, 10_000, [3]),
        (10, 4, 26, [3, 3, 3, 1]),
        (7, 3, 32, [3, 3, 1]),
        (0, 3, 30, []),
    ],
)
def test_a_request_has_so_many_spans_and_bytes_at_most(
    made: Made, count: int, spans: int | None, size: int, expected: list[int]
) -> None:
    """A batch of several requests is cut into them, in order."""
    exporter, _ = made()
    sender = OTLPSender(exporter, export_timeout=1.0, max_request_bytes=size, max_request_spans=spans, at_once=4)
    records = [record(number) for number in range(count)]
    cut: list[Any] = sender.split(records)
    assert [len(piece) for piece in cut] == expected
    assert [one for piece in cut for one in piece] == records


def test_the_sender_sends_as_many_at_once_as_it_is_told(made: Made) -> None:
    """With the time that an export may take, which shutdown shortens."""
    barrier = threading.Barrier(2)
    exporter, _ = made(lambda *_: (barrier.wait(PATIENCE), ACCEPTED)[1])
    sender = OTLPSender(exporter, export_timeout=1.0, max_request_bytes=10_000, at_once=2)
    assert [outcome.accepted for outcome in sender.send_all(pieces(4))] == [2] * 4
    assert sender.flush(1.0)
