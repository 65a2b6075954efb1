"""Signals of what the collector says, and of how long it takes to: throttling, failures, latency.

``Exports`` owns what is known of one exporter's requests; the thread that sends writes it, one call at a time, and the
three signals read it from any thread: each value is written as a whole. The rule: one answer that is good again lets
go, so that a storm's end is seen with the first batch that gets through.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from otel_shed.control.pressure import Levels, PressureReading
from otel_shed.control.signals.error_kinds import kind_of
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import DropReason, ExportError, Outcome

# OTLP's ways to say "less": the specification's throttling over HTTP and gRPC.
_THROTTLING_CODES = frozenset({"429", "503", "RESOURCE_EXHAUSTED"})
# A collector that throttles and does not say for how long; the first back-off of the stock exporters.
_UNSAID_WAIT_SECONDS = 1.0
# A collector that asks for less time than this is overloaded, one that asks for more is out.
_LONG_WAIT_SECONDS = 5.0
# What a call that came to this says nothing of the collector; it is ours or the batch's own.
_NOT_THE_COLLECTOR = frozenset(
    {DropReason.TOO_LARGE, DropReason.ENCODE_FAILED, DropReason.SHUTDOWN, DropReason.ALREADY_SHUTDOWN}
)
# What was said of failures and latency is out of date when nothing has been sent for so long.
_STALE_SECONDS = 5.0
# Weight of one request in what is thought of failures: two in a row, or two out of three for long, are 0.75.
_FAILURE_WEIGHT = 0.5
# An answer within this time hurts nobody, however quick the collector was before.
_QUICK_SECONDS = 0.1
# What a request is expected to take before any was answered: time enough to resolve, connect and shake hands.
_FIRST_SECONDS = 1.0
# The baseline learns in 4 requests that the collector is quicker, and in 64 that it is slower for good.
_QUICKER_WEIGHT = 1 / 4
_SLOWER_WEIGHT = 1 / 64
# Twice the baseline is noise; then 4 times it is 0.50, 8 times 0.75, 40 times 0.95.
_TOLERANCE = 2.0


class Exports:
    """What the requests of one exporter came to.

    ``began`` and ``ended`` go around each export call. An exporter that tells of single requests has ``attempted``
    called for each; of others the outcome of the call counts as one. errors: requests that failed, by how; it is
    replaced as a whole.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.baseline = _FIRST_SECONDS
        self.latency = 0.0
        self.failing = 0.0
        self.timed_out = False
        self.throttled_until: float | None = None
        self.asked_for = 0.0  # seconds, of the wait that ends then
        self.refusals = 0  # answers that asked for less, but for those of a collector that is out
        self.busy_since: float | None = None
        self.errors: Mapping[ExportError, int] = {}
        # Since when no request got through, of those that may be made again; what came instead, whether by an answer.
        self.failing_since: float | None = None
        self.failure, self.failure_is_answer = "", False
        self._last_answer = clock()
        self._throttled_at = -math.inf
        self._told = False

    def began(self) -> None:
        """An export call begins."""
        now = self._clock()
        if self.is_stale(now):
            self.failing = self.latency = 0.0
        self._told = False
        self.busy_since = now

    def attempted(self, attempt: Attempt) -> None:
        """One request was made and answered, or not."""
        self._told = True
        self._count(kind_of(attempt))
        if attempt.too_large:  # that says nothing of how much the collector can take in all
            self._last_answer = self._clock()
            return
        asked = attempt.retry_after is not None or attempt.code in _THROTTLING_CODES
        throttled = asked and not attempt.accepted
        if throttled:
            self._throttle(attempt.retry_after or _UNSAID_WAIT_SECONDS)
        self._answered(attempt.accepted, throttled, attempt.timed_out, attempt.duration)
        if throttled or attempt.verdict is not Verdict.RETRYABLE:
            self.failing_since = None
        else:
            if self.failing_since is None:
                self.failing_since = self._clock() - attempt.duration
            self.failure, self.failure_is_answer = attempt.words, attempt.answered

    def ended(self, outcome: Outcome) -> None:
        """The export call has come to its end."""
        if not self._told and outcome.reason not in _NOT_THE_COLLECTOR:
            throttled = outcome.throttled_until is not None
            if outcome.throttled_until is not None:
                self._throttle(outcome.throttled_until - self._clock())
            late = outcome.reason is DropReason.EXPORT_TIMEOUT
            if outcome.reason is not None:
                limited = ExportError.RATE_LIMITED if throttled else ExportError.OTHER
                self._count(ExportError.TIMEOUT if late else limited)
            self._answered(outcome.reason is None, throttled, late, outcome.duration)
        self._last_answer = self._clock()
        self.busy_since = None

    def after_fork_in_child(self) -> None:
        """The call under way, if there was one, is the parent's, and so are the errors."""
        self.busy_since = None
        self.errors = {}

    def _count(self, error: ExportError | None) -> None:
        if error is not None:
            self.errors = {**self.errors, error: self.errors.get(error, 0) + 1}

    def _answered(self, accepted: bool, throttled: bool, timed_out: bool, duration: float) -> None:
        # A collector that throttles is there, and says so: that is the other signal's to tell.
        failed = not accepted and not throttled
        self.failing += _FAILURE_WEIGHT * (failed - self.failing)
        self.timed_out = failed and timed_out
        if accepted:
            # Of requests that are made at once, one that was on its way by then says nothing of what was asked for.
            if self._clock() - duration >= self._throttled_at:
                self.throttled_until = None
            # Slow to blame, quick to forgive.
            self.latency = min(duration, self.latency + 0.5 * (duration - self.latency))
            weight = _QUICKER_WEIGHT if duration < self.baseline else _SLOWER_WEIGHT
            self.baseline += weight * (duration - self.baseline)
        self._last_answer = self._clock()

    def _throttle(self, seconds: float) -> None:
        self._throttled_at = self._clock()
        self.throttled_until = self._throttled_at + seconds
        self.asked_for = seconds
        self.refusals += seconds < _LONG_WAIT_SECONDS

    def failing_for(self, now: float) -> float:
        """Seconds since when no request has got through; 0 where the last one did, or was refused for good."""
        return 0.0 if self.failing_since is None else max(0.0, now - self.failing_since)

    def is_parked(self, now: float) -> bool:
        """Whether the collector has asked for a wait so long that what it takes by the second says nothing of now."""
        return self.throttled_until is not None and now < self.throttled_until and self.asked_for >= _LONG_WAIT_SECONDS

    def is_stale(self, now: float) -> bool:
        """Whether what is known says nothing of now: nothing is being sent, nor was for a while."""
        return self.busy_since is None and now - self._last_answer > _STALE_SECONDS

    def waiting(self, now: float) -> float:
        """Seconds for which a call's first answer has been awaited, without those that the collector asked for."""
        since = self.busy_since
        return 0.0 if since is None or self._told else max(0.0, now - max(since, self.throttled_until or since))


class Throttling:
    """The collector asked us to send less: 429, 503, RESOURCE_EXHAUSTED, Retry-After, RetryInfo."""

    name = "throttled"

    def __init__(self, exports: Exports, *, levels: Levels | None = None) -> None:
        self._exports = exports
        self._levels = levels or Levels()

    def read(self, now: float) -> PressureReading:
        until = self._exports.throttled_until
        if until is None:
            pressure = 0.0
        elif now < until:
            pressure = self._levels.above(0.4)
        else:  # while the answer to the next request is out, nothing is known to be better
            pressure = 0.0 if self._exports.busy_since is None else self._levels.leave
        return PressureReading(pressure, self.name)


class ExportFailures:
    """How many of the last requests failed or ran out of time: 1 is 0.50, 2 in a row 0.75, 5 in a row 0.97."""

    name = "export_failures"

    def __init__(self, exports: Exports) -> None:
        self._exports = exports

    def read(self, now: float) -> PressureReading:
        exports = self._exports
        reason = "export_timeouts" if exports.timed_out else self.name
        return PressureReading(0.0 if exports.is_stale(now) else exports.failing, reason)


class ExportLatency:
    """How long the collector takes to answer, against what it took before; a call that hangs counts while it does."""

    name = "export_latency"

    def __init__(self, exports: Exports) -> None:
        self._exports = exports

    def read(self, now: float) -> PressureReading:
        exports = self._exports
        answered = 0.0 if exports.is_stale(now) else exports.latency
        times = max(answered, exports.waiting(now)) / max(exports.baseline, _QUICK_SECONDS)
        return PressureReading(1.0 - _TOLERANCE / times if times > _TOLERANCE else 0.0, self.name)
