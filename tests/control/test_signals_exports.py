"""Signals of the collector's: throttling, failures and time-outs, latency against its own baseline."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from otel_shed.control.brownout import Brownout
from otel_shed.control.phase import Phase
from otel_shed.control.pressure import PressureReading
from otel_shed.control.signals.exports import ExportFailures, ExportLatency, Exports, Throttling
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import DropReason, Outcome
from otel_shed.testing.clock import FakeClock


@dataclass
class Bench:
    """An exporter's record with its three signals, and what happens to it."""

    clock: FakeClock

    def __post_init__(self) -> None:
        self.exports = Exports(clock=self.clock)
        self.throttling = Throttling(self.exports)
        self.failures = ExportFailures(self.exports)
        self.latency = ExportLatency(self.exports)

    def call(self, outcome: Outcome) -> None:
        """An exporter that does not tell of single requests is called."""
        self.exports.began()
        self.clock.advance(outcome.duration)
        self.exports.ended(outcome)

    def accept(self, seconds: float = 0.05) -> None:
        self.call(Outcome(accepted=1, duration=seconds))

    def fail(self, reason: DropReason = DropReason.RETRY_EXHAUSTED) -> None:
        self.call(Outcome(accepted=0, reason=reason, duration=0.05))

    def attempt(self, code: str, retry_after: float | None = None) -> None:
        """One request of an export call under way is refused."""
        self.exports.attempted(Attempt(Verdict.RETRYABLE, code, retry_after=retry_after, duration=0.05))

    def throttled(self) -> PressureReading:
        return self.throttling.read(self.clock())

    def failing(self) -> PressureReading:
        return self.failures.read(self.clock())

    def slow(self) -> float:
        return self.latency.read(self.clock()).pressure


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def test_nothing_was_sent_yet(bench: Bench) -> None:
    """Before the first export nothing is known, and nothing presses."""
    assert bench.throttled().pressure == bench.failing().pressure == bench.slow() == 0.0


@pytest.mark.parametrize("code", ["429", "503", "RESOURCE_EXHAUSTED"])
def test_a_throttling_collector_begins_shedding(bench: Bench, code: str) -> None:
    """OTLP's words for 'less' are enough for DEGRADE, with or without a time."""
    bench.exports.began()
    bench.attempt(code)
    reading = bench.throttled()
    assert (reading.reason, 0.75 <= reading.pressure < 0.95) == ("throttled", True)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "502", "504"])
def test_other_codes_throttle_when_they_name_a_wait(bench: Bench, code: str) -> None:
    """A Retry-After or a RetryInfo throttles whatever it comes with; without one these are failures."""
    bench.exports.began()
    bench.attempt(code)
    assert (bench.throttled().pressure, bench.failing().pressure) == (0.0, 0.5)
    bench.attempt(code, retry_after=4.0)
    assert bench.throttled().pressure > 0.75


def test_throttling_lasts_as_long_as_asked(bench: Bench) -> None:
    """Until the time is over, held while the next answer is out, gone with the first batch that gets through."""
    bench.exports.began()
    bench.attempt("503", retry_after=30.0)
    bench.clock.advance(29)
    assert bench.throttled().pressure > 0.75
    bench.clock.advance(2)
    assert bench.throttled().pressure == 0.5
    bench.exports.attempted(Attempt(Verdict.ACCEPTED, "200", duration=0.05))
    assert bench.throttled().pressure == 0.0


def test_throttling_does_not_count_as_failure(bench: Bench) -> None:
    """A collector that throttles is there; that wait is not held against its latency either."""
    bench.accept()
    bench.exports.began()
    for _ in range(5):
        bench.attempt("429", retry_after=10.0)
        bench.clock.advance(10)
    assert bench.failing().pressure == 0.0
    assert bench.slow() == 0.0


def test_refusals_are_told_from_failures(bench: Bench) -> None:
    """Who asks for less is counted, request by request; who is not there, or fails, or is out for long, is not."""
    bench.exports.began()
    bench.attempt("429")
    bench.attempt("UNAVAILABLE")
    bench.attempt("UNAVAILABLE", retry_after=1.0)
    bench.exports.attempted(Attempt(Verdict.ACCEPTED, "200", duration=0.05))
    bench.exports.ended(Outcome(accepted=1, attempts=4))
    bench.fail()
    assert bench.exports.refusals == 2
    bench.call(Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED, throttled_until=bench.clock() + 60))
    assert bench.exports.refusals == 2, "who asks for a minute does not take less: it is out"
    assert bench.exports.is_parked(bench.clock())
    bench.call(Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED, throttled_until=bench.clock() + 2))
    assert bench.exports.refusals == 3
    assert not bench.exports.is_parked(bench.clock())


def test_throttled_before_the_first_request(bench: Bench) -> None:
    """A call that begins by waiting for the collector's time is not slow while it does."""
    bench.accept()
    bench.call(Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED, throttled_until=bench.clock() + 60))
    bench.exports.began()
    bench.clock.advance(59)
    assert bench.slow() == 0.0
    assert bench.throttled().pressure > 0.75


def test_failures_in_a_row(bench: Bench) -> None:
    """One failure holds a phase, two begin DEGRADE, five SHED_OPTIONAL; one success lets go of it all."""
    said = []
    for _ in range(5):
        bench.fail()
        said.append(bench.failing())
    assert [round(reading.pressure, 2) for reading in said] == [0.50, 0.75, 0.88, 0.94, 0.97]
    assert {reading.reason for reading in said} == {"export_failures"}
    bench.accept()
    assert bench.failing().pressure < 0.5


def test_a_collector_that_fails_mostly(bench: Bench) -> None:
    """Two failures out of three begin shedding, one out of ten never does."""
    worst = 0.0
    for number in range(60):
        bench.fail() if number % 3 else bench.accept()
        worst = max(worst, bench.failing().pressure)
    assert worst > 0.75
    fresh = Bench(bench.clock)
    for number in range(60):
        fresh.accept() if number % 10 else fresh.fail()
        assert fresh.failing().pressure < 0.75


def test_time_outs_have_their_own_reason(bench: Bench) -> None:
    """Where requests run out of time, the reason says so."""
    bench.fail(DropReason.EXPORT_TIMEOUT)
    assert bench.failing().reason == "export_timeouts"


def test_requests_of_one_call_count_once(bench: Bench) -> None:
    """An exporter that tells of its requests is not judged again by the call's outcome."""
    bench.exports.began()
    bench.attempt("UNAVAILABLE")
    bench.exports.attempted(Attempt(Verdict.ACCEPTED, "0", duration=0.05))
    bench.exports.ended(Outcome(accepted=1, attempts=2, duration=9.0))
    assert bench.failing().pressure == 0.25
    assert bench.slow() == 0.0


@pytest.mark.parametrize("reason", [DropReason.TOO_LARGE, DropReason.SHUTDOWN])
def test_what_is_not_the_collectors_fault(bench: Bench, reason: DropReason) -> None:
    """A batch that is too large, or that shutdown gave up, says nothing of the collector."""
    for _ in range(5):
        bench.fail(reason)
    assert bench.failing().pressure == 0.0


def test_a_request_that_is_refused_for_its_size_presses_nothing(bench: Bench) -> None:
    """RESOURCE_EXHAUSTED or 413 for that is no wish for less: the same spans go in smaller requests."""
    for code in ("RESOURCE_EXHAUSTED", "413", "413"):
        bench.exports.began()
        bench.exports.attempted(Attempt(Verdict.PERMANENT, code, too_large=True))
        bench.exports.ended(Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE))
    assert bench.failing().pressure == 0.0
    assert bench.exports.throttled_until is None
    assert bench.exports.refusals == 0


def test_old_news_is_no_news(bench: Bench) -> None:
    """What failed before a silence presses no more, and the next failure is the first; while a call lasts it counts."""
    for _ in range(4):
        bench.fail()
    bench.exports.began()
    bench.clock.advance(60)
    assert bench.failing().pressure > 0.9
    bench.exports.ended(Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED))
    bench.clock.advance(5.1)
    assert bench.failing().pressure == 0.0
    bench.fail()
    assert bench.failing().pressure == 0.5


def test_latency_against_its_own_baseline(bench: Bench) -> None:
    """A collector that took 0.2 s presses when it takes 4 s; one that always took 2 s does not."""
    for _ in range(50):
        bench.accept(0.2)
    assert bench.slow() == 0.0
    for _ in range(3):
        bench.accept(4.0)
    assert bench.slow() > 0.75
    bench.accept(0.2)
    assert bench.slow() == 0.0
    slow = Bench(bench.clock)
    for _ in range(50):
        slow.accept(2.0)
        assert slow.slow() < 0.5


def test_a_single_slow_answer_begins_nothing(bench: Bench) -> None:
    """One answer ten times as slow as usual is not a storm."""
    for _ in range(50):
        bench.accept(0.2)
    bench.accept(2.0)
    assert bench.slow() < 0.75


def test_quick_is_quick_enough(bench: Bench) -> None:
    """From one millisecond to a hundred is a hundred times as slow, and nobody's trouble."""
    for _ in range(50):
        bench.accept(0.001)
    for _ in range(10):
        bench.accept(0.1)
    assert bench.slow() == 0.0


def test_a_call_that_hangs_counts_while_it_does(bench: Bench) -> None:
    """An exporter that does not return presses without an outcome: DEGRADE within a second, then SHED_OPTIONAL."""
    for _ in range(50):
        bench.accept(0.05)
    bench.exports.began()
    brownout = Brownout(signals=[bench.latency], clock=bench.clock)
    bench.clock.advance(0.15)
    assert brownout.row().phase is Phase.NORMAL
    bench.clock.advance(0.75)
    assert brownout.row().phase is Phase.DEGRADE
    bench.clock.advance(4)
    assert brownout.row().phase is Phase.SHED_OPTIONAL


def test_the_first_connection_may_take_its_time(bench: Bench) -> None:
    """Before anything was answered, a second to resolve, connect and shake hands is no pressure."""
    bench.exports.began()
    bench.clock.advance(2.0)
    assert bench.slow() == 0.0
    bench.clock.advance(8.0)
    assert bench.slow() > 0.75


def test_slow_for_good_is_the_new_normal(bench: Bench) -> None:
    """A collector that moved further away presses for some minutes, not for ever."""
    for _ in range(50):
        bench.accept(0.1)
    for _ in range(200):
        bench.accept(1.0)
    assert bench.slow() < 0.5


def test_a_fork_ends_the_call_under_way(bench: Bench) -> None:
    """The child does not wait for the parent's request."""
    bench.exports.began()
    bench.exports.after_fork_in_child()
    bench.clock.advance(60)
    assert bench.slow() == 0.0


def test_a_storms_end_is_seen_with_the_first_batch(bench: Bench) -> None:
    """An outage of a minute is SHED_OPTIONAL; less than 10 s after the collector is back, all is NORMAL."""
    brownout = Brownout(signals=[bench.throttling, bench.failures, bench.latency], clock=bench.clock)
    for _ in range(20):
        bench.fail()
        bench.clock.advance(3)
    assert brownout.row().phase is Phase.SHED_OPTIONAL
    for _ in range(98):
        bench.accept(0.05)
        bench.clock.advance(0.05)
        brownout.row()
    assert brownout.row().phase is Phase.NORMAL


def test_errors_are_counted_by_kind(bench: Bench) -> None:
    """Of an exporter that tells of requests each one, of another the call; a success is none."""
    bench.exports.began()
    bench.attempt("429")
    bench.attempt("429", 2.0)
    bench.attempt("503")
    bench.exports.ended(Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED))
    bench.accept()
    bench.fail(DropReason.EXPORTER_ERROR)
    bench.fail(DropReason.EXPORT_TIMEOUT)
    assert bench.exports.errors == {"rate_limited": 2, "unavailable": 1, "other": 1, "timeout": 1}
    bench.exports.after_fork_in_child()
    assert bench.exports.errors == {}
