"""The throughput: what a collector was seen to take, as far as it was the limit.

Owned by the budget, which calls it after each export call. The rule: only what can be known is measured. A collector
that answers late is measured while there is always another batch waiting for it. One that refuses is measured from one
refusal to the next: at both it had nothing left to give. What a call took in which nobody answered says nothing of
either.
"""

from __future__ import annotations

import math

from otel_shed.control.rates import Rate
from otel_shed.outcome import DropReason, Outcome

MEMORY_SECONDS = 10.0
# Long enough to have a refusal's wait in it, short enough to be of this storm and not of the calm before.
LATELY_SECONDS = 3.0
# Of measuring, before it is believed: a batch that was refused and let in again, or that took its time.
ENOUGH_SECONDS = 1.0
# What a refusal tells is true for so long; after that it is a collector that does not refuse.
FORGET_SECONDS = 60.0
_INSTANT = 1e-6

_UNANSWERED = frozenset({DropReason.RETRY_EXHAUSTED, DropReason.EXPORT_TIMEOUT, DropReason.EXPORTER_ERROR})


class Throughput:
    """Spans a second, and what the last call came to.

    pressed: whether a batch was waiting when it ended. taken: spans. refusals: how often the collector asked for less
    in it. failed: whether something else went wrong; unanswered: until the batch was lost. ended: when it did.
    service: spans a second while it lasted.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._busy, self._between_refusals = Rate(MEMORY_SECONDS), Rate(MEMORY_SECONDS)
        self._lately = Rate(LATELY_SECONDS)
        self._refused = self._crowded = self.ended = -math.inf
        self._taken_since_refusal = 0
        self.pressed = self.failed = self.unanswered = False
        self.taken = self.refusals = 0
        self.service = 0.0

    def exported(self, now: float, begun: float, outcome: Outcome, *, refusals: int, queued: int) -> None:
        """A call that began at ``begun`` ends with ``queued`` spans waiting; it was refused so many times."""
        was_pressed, since = self.pressed, max(_INSTANT, now - self.ended)
        took = min(since, max(_INSTANT, now - begun))
        self.taken, self.refusals = outcome.accepted + outcome.rejected, refusals
        self.unanswered = outcome.reason in _UNANSWERED
        self.failed = outcome.reason is not None or outcome.attempts - 1 > refusals or not self.taken
        self.pressed = queued >= self._batch_size and not self.unanswered
        self.service = self.taken / took
        self.ended = now
        self._lately.add(self.taken, min(since, FORGET_SECONDS))
        if self.failed or not was_pressed:
            self._busy.clear()
        if not self.failed and (self.pressed or was_pressed):
            self._busy.add(self.taken, since if was_pressed else took)
        if self.unanswered:
            self._between_refusals.clear()
            self._refused = -math.inf
        elif refusals:
            self._refuse(begun, refusals)
        self._taken_since_refusal += self.taken

    def _refuse(self, at: float, refusals: int) -> None:
        if refusals > 1:
            self._crowded = at
        since = at - self._refused
        if since > FORGET_SECONDS:
            self._between_refusals.clear()
        elif since >= ENOUGH_SECONDS:
            self._between_refusals.add(self._taken_since_refusal, since)
        else:
            return
        self._refused, self._taken_since_refusal = at, 0

    def is_refusing(self, now: float) -> bool:
        """Whether it is a collector that refuses, and does not just take its time."""
        return now - self._refused <= FORGET_SECONDS

    def is_alone(self, now: float) -> bool:
        """Whether this program has found no sign of others.

        Who is let in once the wait that was asked for is over has come up against a limit of its own; who is refused
        again has others before it, and what it took between two refusals was a matter of luck.
        """
        return now - self._crowded > FORGET_SECONDS

    @property
    def between_refusals(self) -> float | None:
        """What was taken from one refusal to the next; None before there were two."""
        return self._between_refusals.value if self._between_refusals.seconds > 0.0 else None

    @property
    def while_pressed(self) -> float:
        """What has been taken since a batch has always been waiting; 0 if none is."""
        return self._busy.value

    @property
    def lately(self) -> float:
        """What has been taken in the last seconds, whatever was the limit."""
        return self._lately.value

    @property
    def is_measured(self) -> bool:
        """Whether ``while_pressed`` is to be believed."""
        return self.pressed and self._busy.seconds >= ENOUGH_SECONDS

    def at_best(self, waiting: float) -> float:
        """The most that ``while_pressed`` can still become: a call has lasted ``waiting`` seconds, more than 0."""
        return self._busy.if_added(self._batch_size, waiting)

    def backlog(self, now: float, queued: int) -> float:
        """Spans that wait although their batch might have gone: those behind the one that goes next.

        While that one is out they are allowed for evenly, so that this does not jump when it is taken from the queue.
        """
        if not self.pressed:
            return 0.0
        return max(0.0, queued - min(self._batch_size, self._busy.value * max(0.0, now - self.ended)))
