"""The client: attempts, back-off and the collector's waits, on a scripted transport and a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.retry import Attempt, RetryPolicy, Verdict, grpc_failure, no_answer
from otel_shed.otlp.transport import MAX_REQUEST_BYTES
from otel_shed.outcome import DropReason, Outcome
from otel_shed.testing.answers import retry_info
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.transport import ACCEPTED, ScriptedTransport

BUDGET = 10.0
TIMEOUT = 4.0
SPANS = 5
BUSY = Attempt(Verdict.RETRYABLE, "503", "busy")
BAD = Attempt(Verdict.PERMANENT, "400", "bad data")
NOBODY = no_answer("connection refused")
MIDDLE = 0.5  # of the random numbers: back-off without jitter, and a throttle a twentieth over what was asked

Step = Attempt | Exception | Callable[[float], Attempt]


def asks(seconds: float) -> Attempt:
    """The answer that asks for a wait."""
    return grpc_failure("UNAVAILABLE", "later", retry_info(seconds))


class Sent:
    """A client with its transport and clock."""

    def __init__(self, clock: FakeClock, *script: Step, then: Attempt = ACCEPTED, **options: Any) -> None:
        self.clock = clock
        self.transport = ScriptedTransport(script, then=then)
        options = {"timeout": TIMEOUT, "random": lambda: MIDDLE} | options
        self.client = OTLPClient(self.transport, clock=clock, wait=clock.wait, **options)

    def __call__(self, payload: bytes = b"batch", budget: float = BUDGET, park: bool = True) -> Outcome:
        return self.client.send(payload, SPANS, budget=budget, park=park)

    @property
    def requests(self) -> int:
        return len(self.transport.payloads)


def takes(clock: FakeClock, seconds: float, attempt: Attempt) -> Step:
    """An attempt that lasts, but no longer than its time limit: then it is one that ran into it."""

    def send(timeout: float) -> Attempt:
        clock.advance(min(seconds, timeout))
        return attempt if seconds <= timeout else no_answer("timed out", timed_out=True)

    return send


@pytest.mark.parametrize(("rejected", "counted"), [(0, 0), (2, 2), (SPANS, SPANS), (SPANS + 1, SPANS)])
def test_accepted(clock: FakeClock, rejected: int, counted: int) -> None:
    """What the collector took is accepted but for what it rejected, which is at most what was sent."""
    sent = Sent(clock, Attempt(Verdict.ACCEPTED, "OK", "words", rejected=rejected))
    assert sent() == Outcome(SPANS - counted, counted, None, "words", attempts=1)
    assert clock.waits == []


def test_not_retryable(clock: FakeClock) -> None:
    """A final refusal is the end of the batch at once, in the server's words."""
    sent = Sent(clock, BAD)
    assert sent() == Outcome(0, 0, DropReason.NOT_RETRYABLE, "400: bad data", attempts=1)
    assert sent().accepted == SPANS
    assert clock.waits == []


def test_the_same_bytes_are_sent_again(clock: FakeClock) -> None:
    """A batch is tried again after waits that double, always as the same bytes."""
    sent = Sent(clock, BUSY, NOBODY, BUSY)
    payload = bytes(1000)
    assert sent(payload) == Outcome(SPANS, attempts=4, duration=7.0)
    assert all(each is payload for each in sent.transport.payloads)
    assert clock.waits == [1.0, 2.0, 4.0]


def test_the_back_off_begins_anew_with_each_batch(clock: FakeClock) -> None:
    """The next batch does not pay for the failures of the one before."""
    sent = Sent(clock, BUSY, BUSY, ACCEPTED, BUSY)
    assert [sent().duration, sent().duration] == [3.0, 1.0]


def test_retry_exhausted(clock: FakeClock) -> None:
    """When the budget has no room for another wait and attempt, the batch is given up, without that wait."""
    sent = Sent(clock, then=BUSY)
    assert sent() == Outcome(0, 0, DropReason.RETRY_EXHAUSTED, "503: busy", attempts=4, duration=7.0)
    assert clock.waits == [1.0, 2.0, 4.0]


def test_attempts_share_the_budget(clock: FakeClock) -> None:
    """An attempt may last its time limit or what is left of the budget; running into it is EXPORT_TIMEOUT."""
    sent = Sent(clock, *[takes(clock, 60.0, ACCEPTED)] * 9)
    outcome = sent()
    assert sent.transport.timeouts == [4.0, 4.0]  # 4 + 1 + 4 seconds, and no room for 2 more
    assert (outcome.reason, outcome.attempts, outcome.duration) == (DropReason.EXPORT_TIMEOUT, 2, 9.0)
    sent = Sent(clock, *[takes(clock, 60.0, ACCEPTED)] * 9)
    assert sent(budget=6.0).reason is DropReason.EXPORT_TIMEOUT
    assert sent.transport.timeouts == [4.0, 1.0]


def test_a_refusal_after_a_time_out(clock: FakeClock) -> None:
    """What the last attempt came to is the reason."""
    assert Sent(clock, takes(clock, 60.0, ACCEPTED), then=BUSY)().reason is DropReason.RETRY_EXHAUSTED


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_no_time_for_an_attempt(clock: FakeClock, budget: float) -> None:
    """Without a budget there is no request."""
    sent = Sent(clock)
    outcome = sent(budget=budget)
    assert (outcome.reason, outcome.attempts, sent.requests) == (DropReason.EXPORT_TIMEOUT, 0, 0)


def test_too_large(clock: FakeClock) -> None:
    """A request over 64 MiB is not made; one of just that size is."""
    sent = Sent(clock)
    outcome = sent(bytes(MAX_REQUEST_BYTES + 1))
    assert (outcome.accepted, outcome.reason, outcome.attempts) == (0, DropReason.TOO_LARGE, 0)
    assert sent.requests == 0
    assert sent(bytes(MAX_REQUEST_BYTES)).accepted == SPANS


def test_a_transport_that_raises(clock: FakeClock) -> None:
    """A fault in the transport loses that batch, with its name, and not the next one."""
    sent = Sent(clock, RuntimeError("oops"))
    outcome = sent()
    assert (outcome.reason, outcome.message) == (DropReason.EXPORTER_ERROR, "RuntimeError: oops")
    assert sent().accepted == SPANS


def test_on_attempt_is_told(clock: FakeClock) -> None:
    """Each attempt is told with what it came to and how long it took, and the last one can be asked for."""
    told: list[Attempt] = []
    sent = Sent(clock, takes(clock, 0.5, BUSY), takes(clock, 0.25, ACCEPTED), on_attempt=told.append)
    assert sent.client.last_attempt is None
    sent()
    assert [(each.code, each.duration) for each in told] == [("503", 0.5), ("OK", 0.25)]
    assert sent.client.last_attempt == told[-1]


def test_what_is_sent_is_not_traced(clock: FakeClock) -> None:
    """During the attempt instrumentation is suppressed, and afterwards it is as before."""
    seen: list[object] = []

    def look(_: float) -> Attempt:
        seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
        return ACCEPTED

    Sent(clock, look)()
    assert seen == [True]
    assert get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


def test_a_throttle_is_waited_out(clock: FakeClock) -> None:
    """The wait that the collector asks for is not of the budget, however much longer it is."""
    sent = Sent(clock, asks(100), BUSY, BUSY)
    assert sent() == Outcome(SPANS, attempts=4, duration=105.0 + 2.0 + 4.0)
    assert clock.waits == [pytest.approx(105.0), 2.0, 4.0]
    assert sent.client.throttled_until is None


def test_a_throttle_repeated(clock: FakeClock) -> None:
    """A collector that keeps asking for a short wait gets the growing back-off, and never less than it asked for."""
    sent = Sent(clock, *[asks(2)] * 4)
    assert sent().accepted == SPANS
    assert clock.waits == [pytest.approx(2.1), pytest.approx(2.1), 4.0, 8.0]


def test_a_throttle_outlives_its_batch(clock: FakeClock) -> None:
    """With park False a wait over what is left fails the batch at once; the next one keeps to it all the same."""
    sent = Sent(clock, asks(20))
    outcome = sent(park=False)
    assert (outcome.reason, outcome.message) == (DropReason.RETRY_EXHAUSTED, "UNAVAILABLE: later")
    assert outcome.throttled_until == sent.client.throttled_until == pytest.approx(1021.0)
    assert clock.waits == []
    again = sent(b"second", park=False)
    assert (again.reason, again.attempts, sent.requests) == (DropReason.RETRY_EXHAUSTED, 0, 1)
    assert again.throttled_until == outcome.throttled_until
    assert sent(b"third") == Outcome(SPANS, attempts=1, duration=pytest.approx(21.0))
    assert sent.transport.payloads == [b"batch", b"third"]


def test_a_throttle_within_the_budget(clock: FakeClock) -> None:
    """With park False a wait that there is time for is waited out, and is of the budget."""
    sent = Sent(clock, asks(4), asks(4), asks(4))
    outcome = sent(park=False)
    assert (outcome.reason, outcome.attempts) == (DropReason.RETRY_EXHAUSTED, 3)
    assert clock.waits == [pytest.approx(4.2)] * 2


def test_the_park_limit(clock: FakeClock) -> None:
    """One batch waits for the collector at most as long as the policy has it, in all; then it is given up."""
    sent = Sent(clock, asks(40), asks(80), policy=RetryPolicy(longest_park=100.0))
    outcome = sent()
    assert (outcome.reason, outcome.attempts) == (DropReason.RETRY_EXHAUSTED, 2)
    assert outcome.duration == pytest.approx(100.0)
    assert outcome.throttled_until == pytest.approx(1000.0 + 42.0 + 84.0)
    assert sent(b"second").accepted == SPANS
    assert clock() == pytest.approx(1126.0)


def test_hurry_with_nobody_there(clock: FakeClock) -> None:
    """After hurry there is one attempt; if nobody answers, it is the last for all further batches too."""
    sent = Sent(clock, then=NOBODY)
    sent.client.hurry()
    outcomes = [sent() for _ in range(3)]
    assert [(each.reason, each.attempts) for each in outcomes] == [(DropReason.SHUTDOWN, made) for made in (1, 0, 0)]
    assert (sent.requests, clock.waits) == (1, [])


def test_hurry_with_somebody_there(clock: FakeClock) -> None:
    """After hurry each batch has one attempt as long as a server answers, also if it refuses."""
    sent = Sent(clock, BUSY, ACCEPTED, BUSY)
    sent.client.hurry()
    outcomes = [sent() for _ in range(4)]
    assert [outcome.reason for outcome in outcomes] == [DropReason.SHUTDOWN, None, DropReason.SHUTDOWN, None]
    assert (sent.requests, clock.waits) == (4, [])


def test_hurry_ends_a_back_off(clock: FakeClock) -> None:
    """A batch that is backing off is tried once more at once."""
    sent = Sent(clock, BUSY)
    clock.after(0.25, sent.client.hurry)
    assert sent() == Outcome(SPANS, attempts=2, duration=0.25)


def test_hurry_during_an_attempt(clock: FakeClock) -> None:
    """An attempt that began before the hurry is followed by one more, and that is the last."""
    sent = Sent(clock, takes(clock, 2.0, NOBODY), then=NOBODY)
    clock.after(1.0, sent.client.hurry)
    assert (sent().reason, sent.requests) == (DropReason.SHUTDOWN, 2)
    assert (sent().reason, sent.requests) == (DropReason.SHUTDOWN, 2)


def test_hurry_respects_a_throttle(clock: FakeClock) -> None:
    """A collector that wants to be left alone is, also by a shutdown: what waits for it is lost, without a request."""
    sent = Sent(clock, asks(20))
    clock.after(5.0, sent.client.hurry)
    outcome = sent()
    assert (outcome.reason, outcome.attempts, outcome.duration) == (DropReason.SHUTDOWN, 1, 5.0)
    assert (sent().reason, sent.requests) == (DropReason.SHUTDOWN, 1)
    clock.advance(30.0)
    assert sent().accepted == SPANS


def test_hurry_keeps_to_a_throttle_that_ends_in_time(clock: FakeClock) -> None:
    """A wait that the collector asked for and that shutdown has time for is waited out, and the batch delivered."""
    sent = Sent(clock, asks(7))
    clock.after(5.0, lambda: sent.client.hurry(3.0))
    outcome = sent()
    assert (outcome.accepted, outcome.attempts) == (SPANS, 2)
    assert 7.0 <= outcome.duration <= 8.0


@pytest.mark.parametrize("budget", [BUDGET, 2.5])
def test_abort_interrupts(clock: FakeClock, budget: float) -> None:
    """Abort cancels the call under way, which loses its batch to the shutdown, and every further one fails at once."""
    sent = Sent(clock, takes(clock, 2.0, NOBODY))
    clock.after(1.0, sent.client.abort)
    assert (sent(budget=budget).reason, sent.requests) == (DropReason.SHUTDOWN, 1)
    assert sent.transport.cancelled
    assert (sent().reason, sent.requests) == (DropReason.SHUTDOWN, 1)


@pytest.mark.parametrize("answer", [BUSY, asks(20)])
def test_abort_ends_a_wait(clock: FakeClock, answer: Attempt) -> None:
    """Abort during a back-off or a throttle ends the batch then, without another request."""
    sent = Sent(clock, answer)
    clock.after(0.5, sent.client.abort)
    outcome = sent()
    assert (outcome.reason, outcome.attempts, outcome.duration) == (DropReason.SHUTDOWN, 1, 0.5)


def test_a_forked_child_begins_anew(clock: FakeClock) -> None:
    """A child is not shut down by its parent's hurry or abort, and its transport is told of the fork."""
    sent = Sent(clock, NOBODY)
    sent.client.hurry()
    sent()
    sent.client.abort()
    sent.client.after_fork_in_child()
    assert sent.transport.forks == 1
    assert sent().accepted == SPANS


def test_a_forked_child_keeps_to_the_throttle(clock: FakeClock) -> None:
    """What the collector asked of the parent holds for the child."""
    sent = Sent(clock, asks(20))
    sent(park=False)
    sent.client.after_fork_in_child()
    assert sent.client.throttled_until == pytest.approx(1021.0)
    sent()
    assert clock.waits == [pytest.approx(21.0)]
