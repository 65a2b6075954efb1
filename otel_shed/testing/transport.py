"""A transport that answers from a script, for tests of whatever sends.

Owns what it was sent. ``send`` is called by the sending thread, everything else by the test's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from otel_shed.otlp.retry import Attempt, Verdict, no_answer

ACCEPTED = Attempt(Verdict.ACCEPTED, "OK")


class ScriptedTransport:
    """Gives one of ``attempts`` after the other, and ``then`` when there are none left.

    An entry may be an exception to raise, or a callable that is given the time-out and returns the Attempt.
    gate: an event that each ``send`` waits for; ``cancel`` opens it, and then the call was interrupted.
    """

    def __init__(
        self,
        attempts: Iterable[Attempt | Exception | Callable[[float], Attempt]] = (),
        *,
        then: Attempt = ACCEPTED,
        gate: threading.Event | None = None,
    ) -> None:
        self.payloads: list[bytes] = []
        self.timeouts: list[float] = []
        self.entered = threading.Semaphore(0)  # released by each send: a test waits for one to have begun
        self.cancelled = False
        self.closed = False
        self.forks = 0
        self._attempts = list(attempts)
        self._then = then
        self._gate = gate

    def send(self, payload: bytes, timeout: float) -> Attempt:
        self.payloads.append(payload)
        self.timeouts.append(timeout)
        self.entered.release()
        if self._gate is not None:
            self._gate.wait()
        if self.cancelled:
            return no_answer("cancelled")
        answer = self._attempts.pop(0) if self._attempts else self._then
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Attempt) else answer(timeout)

    def cancel(self) -> None:
        self.cancelled = True
        if self._gate is not None:
            self._gate.set()

    def close(self) -> None:
        self.closed = True

    def after_fork_in_child(self) -> None:
        self.forks += 1
        self.cancelled = False
