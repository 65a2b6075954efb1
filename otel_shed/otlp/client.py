"""One batch to the collector: attempts, back-off, and the waits that the collector asks for.

Owns what is known of the collector (until when it wants to be left alone, what the last attempt came to); the threads
that send write that, one in each lane, each with a transport of its own. ``hurry`` and ``abort`` come from others and
only set a signal each. The rule: a request is made only if nothing forbids it (a wait that the collector asked for, of
whichever lane, a shutdown).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from random import random as uniform

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # no public name; what is sent must not itself be traced
    Context,
    attach,
    detach,
)

from otel_shed.log_limit import LogLimit
from otel_shed.native import Signal, allocate_lock
from otel_shed.otlp.retry import Attempt, RetryPolicy, Verdict
from otel_shed.otlp.transport import MAX_REQUEST_BYTES, Transport
from otel_shed.outcome import DropReason, Outcome

_UNTRACED = Context({_SUPPRESS_INSTRUMENTATION_KEY: True})

Wait = Callable[[Signal, float], bool]


class OTLPClient:
    """Sends encoded requests through a transport, by OTLP's rules.

    timeout: seconds of one attempt at most. clock: seconds, monotonic; random: 0..1. wait: waits for the signal at most
    so many seconds by that clock, and says whether it was set. hide: takes what is secret out of a
    text. on_attempt: told of each attempt, on the thread that made it, of one at a time.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = uniform,
        wait: Wait | None = None,
        policy: RetryPolicy | None = None,
        hide: Callable[[str], str] = str,
        on_attempt: Callable[[Attempt], None] | None = None,
    ) -> None:
        self.on_attempt = on_attempt
        self.last_attempt: Attempt | None = None
        self._transports: tuple[Transport, ...] = (transport,)
        self._timeout = timeout
        self._clock = clock
        self._random = random
        self._wait: Wait = wait or (lambda signal, seconds: signal.wait(seconds))
        self._policy = policy or RetryPolicy()
        self._hide = hide
        self._throttled_until: float | None = None
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self._renew()

    def _renew(self) -> None:
        self._telling = allocate_lock()  # held to write what is known, and to tell of it
        self._hurried = Signal()
        self._aborted = Signal()
        self._ends_at = math.inf  # of hurry()
        self._gone = False  # since hurry(): an attempt found nobody there

    # -- called by other threads ---------------------------------------------------------------------------------

    def hurry(self, patience: float = 0.0) -> None:
        """Shutdown has begun: from now on one attempt a batch, none if nobody answers, and no wait of our own.

        A wait that the collector asked for is kept to, if it ends within ``patience`` seconds.
        """
        self._ends_at = self._clock() + patience
        self._hurried.set()

    def abort(self) -> None:
        """Shutdown has given up: interrupt the call in flight; every further ``send`` fails at once."""
        self._aborted.set()
        self._hurried.set()
        for transport in self._transports:
            transport.cancel()

    def close(self) -> None:
        """Give up the connection."""
        for transport in self._transports:
            transport.close()

    def after_fork_in_child(self) -> None:
        """Begin anew with signals and connection; what the collector asked for holds for this process too."""
        self._renew()
        for transport in self._transports:
            transport.after_fork_in_child()

    @property
    def throttled_until(self) -> float | None:
        """When, by the client's clock, the collector wants to hear from us again; None if it may be now."""
        until = self._throttled_until
        return until if until is not None and until > self._clock() else None

    # -- the sending thread --------------------------------------------------------------------------------------

    @property
    def lanes(self) -> int:
        """How many threads may send at once: one to a transport."""
        return len(self._transports)

    def add_lane(self, transport: Transport) -> None:
        """Let one more thread send, through ``transport``; while no thread does."""
        self._transports = (*self._transports, transport)
        if self._aborted.is_set():
            transport.cancel()

    def send(self, payload: bytes, count: int, *, budget: float, park: bool = True) -> Outcome:
        """Send one request of ``count`` spans; returns when its fate is known, and does not raise.

        ``budget``: seconds of trying, back-off included. Waits that the collector asked for do not count, up to the
        policy's ``longest_park``; with ``park`` False they do, and one that is longer than what is left fails at once.
        """
        return self.deliver(payload, count, budget=budget, park=park)[0]

    def deliver(
        self, payload: bytes, count: int, *, budget: float, park: bool = True, lane: int = 0
    ) -> tuple[Outcome, Attempt | None]:
        """As ``send``, by the thread of that lane; with the last attempt, None if there was none."""
        token = attach(_UNTRACED)
        try:
            batch = _Batch(self, self._transports[lane], payload, count, budget, park)
            return batch.deliver(), batch.last
        finally:
            detach(token)

    def _attempt(self, transport: Transport, payload: bytes, timeout: float) -> Attempt:
        began = self._clock()
        hurried = self._hurried.is_set()
        attempt = transport.send(payload, timeout)
        attempt = attempt.lasting(self._clock() - began)
        with self._telling:
            self.last_attempt = attempt
            self._gone = hurried and not attempt.answered
            if self.on_attempt is not None:
                try:
                    self.on_attempt(attempt)
                except Exception as error:  # a listener's fault is not the batch's
                    self._log.warning("listener", "a listener to attempts failed: %s: %s", type(error).__name__, error)
        return attempt

    def _throttle(self, pause: float) -> None:
        """Leave the collector alone for so many seconds, or for longer if another lane was asked to."""
        with self._telling:
            self._throttled_until = max(self._throttled_until or -math.inf, self._clock() + pause)


class _Batch:
    """One request on its way; lives for one call of ``send``."""

    def __init__(
        self, client: OTLPClient, transport: Transport, payload: bytes, count: int, budget: float, park: bool
    ) -> None:
        self._client = client
        self._transport = transport
        self._payload = payload
        self._count = count
        self._budget = budget
        self._park = park
        self._began = client._clock()
        self._attempts = 0
        self._tried = 0.0  # seconds of the budget that are used up
        self._parked = 0.0  # seconds waited because the collector asked for it
        self.last: Attempt | None = None

    def deliver(self) -> Outcome:
        if len(self._payload) > MAX_REQUEST_BYTES:
            return self._lost(
                DropReason.TOO_LARGE, f"a request of {len(self._payload)} bytes is over OTLP's {MAX_REQUEST_BYTES}"
            )
        try:
            while True:
                outcome = self._step()
                if outcome is not None:
                    return outcome
        except Exception as error:  # a fault in a transport: these spans are lost, the next ones are not
            return self._lost(DropReason.EXPORTER_ERROR, f"{type(error).__name__}: {self._client._hide(str(error))}")

    def _step(self) -> Outcome | None:
        """Wait as the collector asked, make an attempt, back off; None to go on."""
        client = self._client
        if (stopped := self._stopped()) is not None:
            return stopped
        if (until := client.throttled_until) is not None:
            return self._wait_for_collector(until)
        left = self._budget - self._tried
        if left <= 0:
            return self._exhausted()
        was_hurried = client._hurried.is_set()
        attempt = self.last = client._attempt(self._transport, self._payload, min(client._timeout, left))
        self._attempts += 1
        self._tried += attempt.duration
        if attempt.verdict is Verdict.ACCEPTED:
            return self._accepted(attempt)
        if attempt.verdict is Verdict.PERMANENT:
            return self._lost(DropReason.NOT_RETRYABLE, attempt.words)
        if client._aborted.is_set():
            return self._lost(DropReason.SHUTDOWN, attempt.words)
        if attempt.retry_after is not None:
            pause = client._policy.throttle(attempt.retry_after, self._attempts, client._random)
            client._throttle(pause)
            return None
        if was_hurried:  # that was the last try
            return self._lost(DropReason.SHUTDOWN, attempt.words)
        return self._back_off()

    def _stopped(self) -> Outcome | None:
        """Why a shutdown forbids an attempt; None if there is none, or it does not."""
        client = self._client
        if not client._hurried.is_set():  # nor aborted, or only just: then the attempt is interrupted
            return None
        if client._aborted.is_set():
            return self._lost(DropReason.SHUTDOWN, "shutdown gave up")
        if (client.throttled_until or 0.0) > client._ends_at:
            return self._lost(DropReason.SHUTDOWN, "the collector asked for a wait that is longer than shutdown's")
        if client._gone:
            return self._lost(DropReason.SHUTDOWN, "the collector is not there")
        return None

    def _wait_for_collector(self, until: float) -> Outcome | None:
        pause = until - self._client._clock()
        room = self._client._policy.longest_park - self._parked if self._park else self._budget - self._tried
        if room <= 0 or (pause > room and not self._park):
            # The batch that waits would be late in any case; the throttling itself outlives it.
            return self._lost(DropReason.RETRY_EXHAUSTED, self._words or "the collector asked for a longer wait")
        waited = self._pause(min(pause, room))
        if self._park:
            self._parked += waited
        else:
            self._tried += waited
        return None

    def _back_off(self) -> Outcome | None:
        pause = self._client._policy.backoff(self._attempts, self._client._random)
        if self._tried + pause >= self._budget:  # no point in waiting for an attempt that there is no time for
            return self._exhausted()
        self._tried += self._pause(pause)
        return None

    def _pause(self, seconds: float) -> float:
        client = self._client
        began = client._clock()
        client._wait(client._aborted if client._hurried.is_set() else client._hurried, seconds)
        return client._clock() - began

    def _accepted(self, attempt: Attempt) -> Outcome:
        rejected = min(attempt.rejected, self._count)
        return self._outcome(self._count - rejected, rejected, None, attempt.message)

    def _exhausted(self) -> Outcome:
        late = self.last is None or self.last.timed_out
        reason = DropReason.EXPORT_TIMEOUT if late else DropReason.RETRY_EXHAUSTED
        return self._lost(reason, self._words or "there was no time for an attempt")

    @property
    def _words(self) -> str:
        return self.last.words if self.last is not None else ""

    def _lost(self, reason: DropReason, message: str) -> Outcome:
        return self._outcome(0, 0, reason, message)

    def _outcome(self, accepted: int, rejected: int, reason: DropReason | None, message: str) -> Outcome:
        return Outcome(
            accepted=accepted,
            rejected=rejected,
            reason=reason,
            message=message,
            attempts=self._attempts,
            duration=self._client._clock() - self._began,
            throttled_until=self._client.throttled_until,
        )
