"""The throughput: what a collector was seen to take, as far as it was the limit.

Owned by the budget, which calls it at each refusal and after each export call. The rule: only what can be known is
measured. A collector that answers late is measured while there is always another batch waiting for it. One that refuses
is measured from one refusal to the next: at both it had nothing left to give. What a call took in which nobody answered
says nothing of either.
"""

from __future__ import annotations

import math

from otel_shed.control.rates import Rate, Ratio
from otel_shed.outcome import DropReason, Outcome

MEMORY_SECONDS = 10.0
# Enough to have some refusals' waits in it, few enough to be of this storm and not of the calm before.
LATELY_CALLS = 8
# Of measuring, before it is believed: a batch that was refused and let in again, or that took its time.
ENOUGH_SECONDS = 1.0
# After so long without a sign of a limit there is none; a gap that long is no part of any rate.
FORGET_SECONDS = 60.0
# It refuses for so long after a refusal: where programs share it, one that has its share goes for minutes without.
REFUSING_SECONDS = 300.0
# Other programs come and go with deployments, and show only now and then.
COMPANY_SECONDS = 600.0
# To within so much of it, a limit that is this program's alone is the same each time.
SAME = 0.1
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
        self._lately = Ratio(LATELY_CALLS)
        self._refused = self._measured_from = self._crowded = self.ended = -math.inf
        self._taken_since = self._refusals_under_way = 0
        self.pressed = self.failed = self.unanswered = False
        self.taken = self.refusals = 0
        self.service = 0.0

    def refused(self, now: float, refusals: int) -> bool:
        """The call that is under way was refused so many times more; whether these are its first."""
        is_first, self._refusals_under_way = not self._refusals_under_way, self._refusals_under_way + refusals
        if self._refusals_under_way > 1:
            self._crowded = now
        self._refused = now
        since = now - self._measured_from
        if is_first and since >= ENOUGH_SECONDS:
            if since > FORGET_SECONDS:
                self._between_refusals.clear()
            else:
                self._compare(now, self._between_refusals.value * since)
                self._between_refusals.add(self._taken_since, since)
            self._measured_from, self._taken_since = now, 0
        return is_first

    def _compare(self, now: float, expected: float) -> None:
        # At each end of the time up to a batch more may have been let in.
        most = 2 * self._batch_size + SAME * expected
        if self._between_refusals.seconds > 0.0 and abs(self._taken_since - expected) > most:
            self._crowded = now

    def exported(self, now: float, begun: float, outcome: Outcome, *, queued: int) -> None:
        """A call that began at ``begun`` ends with ``queued`` spans waiting."""
        was_pressed, since = self.pressed, max(_INSTANT, now - self.ended)
        took = min(since, max(_INSTANT, now - begun))
        self.taken = outcome.accepted + outcome.rejected
        self.refusals, self._refusals_under_way = self._refusals_under_way, 0
        self.unanswered = outcome.reason in _UNANSWERED
        self.failed = outcome.reason is not None or outcome.attempts - 1 > self.refusals or not self.taken
        self.pressed = queued >= self._batch_size and not self.unanswered
        self.service = self.taken / took
        self.ended = now
        self._lately.add(self.taken, since if since < FORGET_SECONDS else took, 1.0)
        self._taken_since += self.taken
        if self.failed or not was_pressed:
            self._busy.clear()
        if not self.failed and (self.pressed or was_pressed):
            self._busy.add(self.taken, since if was_pressed else took)
        if self.unanswered:
            self._between_refusals.clear()
            self._refused = self._measured_from = -math.inf

    def is_refusing(self, now: float) -> bool:
        """Whether it is a collector that refuses, and does not just take its time."""
        return now - self._refused <= REFUSING_SECONDS

    def is_alone(self, now: float) -> bool:
        """Whether this program has found no sign of others.

        Who is let in once the wait that was asked for is over has come up against a limit of its own; who is refused
        again has others before it, and what it took between two refusals was a matter of luck.
        """
        return now - self._crowded > COMPANY_SECONDS

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
        """What the last calls have taken, whatever was the limit, with the time between them."""
        return self._lately.value(otherwise=0.0)

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
