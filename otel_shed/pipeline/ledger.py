"""The account of every span: ended, then unsampled, queued, in flight, exported, summarized or dropped for a reason.

Owns the counts of one pipeline and the lock that guards what is behind its queue: a span moves and is counted in the
same step, so the account balances at every reading and not only at rest. Application threads change the queue's counts,
the export thread and the decision thread change the rest, under the lock. The rule: no thread holds the lock while it
calls anything that may block, or for longer than some milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar

from otel_shed.native import allocate_rlock, call_if_free
from otel_shed.outcome import LOST_IN_EXPORT, SHED, DropReason, Outcome
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.summary import Summary


class Fate(Enum):
    """What, besides being queued or dropped, a span can come to when it ends."""

    UNSAMPLED = "unsampled"
    SUMMARIZED = "summarized"
    # It goes on, though it would have been shed if this were not only observing; counted beside the account.
    WOULD_HAVE_SHED = "would_have_shed"


@dataclass(frozen=True, slots=True)
class Account:
    """One reading of a ledger; every field but the exports is a number of spans."""

    ended: int = 0
    unsampled: int = 0
    queued: int = 0
    in_flight: int = 0
    exported: int = 0
    summarized: int = 0
    submitted: int = 0
    dropped: dict[DropReason, int] = field(default_factory=dict)
    exports_attempted: int = 0
    exports_succeeded: int = 0
    would_have_shed: int = 0


# What a queue counts without holding it: the index of each is its kind there.
KINDS: Final[tuple[Fate | DropReason, ...]] = (*Fate, *DropReason)
KIND: Final[Mapping[Fate | DropReason, int]] = {fate: kind for kind, fate in enumerate(KINDS)}
_Read = TypeVar("_Read")
# A signal handler that interrupted a push holds up the thread that pops: it waits for the ledger no longer than this.
_INTERRUPTED_SECONDS: Final = 0.05
_NONE_LOST: Final = b"\xff" * 8
_UNSAMPLED, _SUMMARIZED, _WOULD_HAVE_SHED = map(KIND.__getitem__, Fate)


class Ledger:
    """The counts of one pipeline. ``queue`` owns those of spans that have not left it, the rest is in here.

    pending: spans that were popped and wait, in the trace buffer or to be sent. Enter ``ledger.lock`` to read more than
    one number, or to change any; the queue needs no lock. The lock is entered as it is: between an ``__enter__`` in
    Python and the block that it is for, an exception of a signal handler would leave it locked for ever.
    """

    __slots__ = ("__dict__", "__weakref__", "lock")

    def __init__(self, summary: Summary | None = None) -> None:
        """``summary``: of what the queue drops."""
        self.queue = Queue(
            kinds=len(KINDS),
            full=KIND[DropReason.QUEUE_FULL],
            refused=KIND[DropReason.OVER_BUDGET],
            closed=KIND[DropReason.ALREADY_SHUTDOWN],
            failed=KIND[DropReason.ENCODE_FAILED],
            summary=summary,
        )
        # Spans for which there was no memory or no stack left, not even to count them in the queue: a number, its
        # lowest byte first, counted down without a call, a comparison or memory. They could not be encoded.
        self.lost = bytearray(_NONE_LOST)
        self._begin()

    def restart(self) -> None:
        """Begin a new account with a new lock: in a forked child the old one may be held by a thread that is gone."""
        self.queue.restart()
        self.lost[:] = _NONE_LOST
        self._begin()

    def _begin(self) -> None:
        self.lock = allocate_rlock()
        # Spans that were held without passing the queue: batches.
        self._held_at_once = 0
        self.pending = 0
        self.in_flight = 0
        self.exported = 0
        self.submitted = 0
        self._summarized = 0
        self._dropped: dict[DropReason, int] = dict.fromkeys(DropReason, 0)
        self.exports_attempted = 0
        self.exports_succeeded = 0
        self.abandoned = False

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of it, or of a step of the queue."""
        return bool(self.lock._is_owned()) or self.queue.is_held_here

    # -- moves, in the ledger ------------------------------------------------------------------------------------

    def book(self, fate: Fate | DropReason, count: int = 1) -> None:
        """Spans that ended and are not held; needs no lock."""
        self.queue.book(KIND[fate], count)

    def hold(self, count: int) -> None:
        """Spans that ended wait, without having passed the queue."""
        self._held_at_once += count
        self.pending += count

    def pop(self, count: int) -> None:
        """Spans that the queue gave away wait."""
        self.pending += count

    def take(self, pending: int, popped: int) -> None:
        """Spans are in the exporter's hands: so many that waited here, and so many straight from the queue."""
        self.pending -= pending
        self.in_flight += pending + popped
        self.submitted += pending + popped

    def let_go(self, fate: Fate | DropReason, count: int) -> None:
        """Spans that waited go no further."""
        self.pending -= count
        if isinstance(fate, DropReason):
            self._dropped[fate] += count
        else:
            self._summarized += count

    def settle(self, count: int, outcome: Outcome) -> None:
        """Book what became of ``count`` spans in flight.

        After ``abandon`` they are booked as lost already; what was delivered all the same is moved over.
        """
        accepted = max(0, min(outcome.accepted, count))
        rejected = max(0, min(outcome.rejected, count - accepted))
        failed = count - accepted - rejected
        refused = max(0, min(outcome.refused, failed))
        reason = outcome.reason or DropReason.EXPORTER_ERROR
        with self.lock:
            self.exports_attempted += 1
            self.exports_succeeded += 0 if failed else 1
            self.exported += accepted
            if self.abandoned:
                self._dropped[DropReason.SHUTDOWN] -= accepted
                return
            self.in_flight -= count
            self._dropped[DropReason.REJECTED] += rejected
            self._dropped[DropReason.NOT_RETRYABLE] += refused
            self._dropped[reason] += failed - refused

    def abandon(self) -> None:
        """Shutdown gives up: whatever is queued or in flight is booked as lost. The queue is closed."""
        with self.lock:
            self.queue.clear(KIND[DropReason.SHUTDOWN])
            self._dropped[DropReason.SHUTDOWN] += self.pending + self.in_flight
            self.pending = self.in_flight = 0
            self.abandoned = True

    # -- readings ------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        return self.account().ended

    @property
    def queued(self) -> int:
        """Spans that wait, in the queue or behind it."""
        return self.pending + self.queue.records

    @property
    def dropped(self) -> dict[DropReason, int]:
        """Of every reason how many."""
        return self.read(lambda: self._dropped_of(self.queue.counts()[3], self._lost()))

    def lost_in_export(self) -> int:
        """Spans that were lost, not shed by choice."""
        dropped = self.dropped
        return sum([dropped[reason] for reason in LOST_IN_EXPORT])

    def shed(self) -> int:
        """Spans that were let go of, by choice or because there was no room for them."""
        account = self.account()
        return account.summarized + sum([account.dropped.get(reason, 0) for reason in SHED])

    def account(self) -> Account:
        """A consistent reading."""
        return self.read(self.glance)

    def read(self, reading: Callable[[], _Read]) -> _Read:
        """What ``reading`` reads in the ledger, which must not wait."""
        if self.lock._is_owned() or not self.queue.is_held_here:
            with self.lock:
                return reading()
        # A signal handler has interrupted a push of the plain queue. A thread in the ledger may wait for the end of
        # that push; then all that it has moved is counted.
        read: list[_Read] = call_if_free(self.lock, reading, _INTERRUPTED_SECONDS)
        return read[0] if read else reading()

    def _lost(self) -> int:
        return int.from_bytes(_NONE_LOST, "little") - int.from_bytes(self.lost, "little")

    def _dropped_of(self, kinds: list[int], lost: int) -> dict[DropReason, int]:
        dropped = {reason: count + kinds[KIND[reason]] for reason, count in self._dropped.items()}
        dropped[DropReason.ENCODE_FAILED] += lost
        return dropped

    def glance(self) -> Account:
        """A reading without the lock, for who must not wait: what moves meanwhile is counted twice, or not at all."""
        popped, waiting, _, kinds = self.queue.counts()
        would_have_shed, lost = kinds[_WOULD_HAVE_SHED], self._lost()
        return Account(
            ended=popped + waiting + sum(kinds) - would_have_shed + self._held_at_once + lost,
            unsampled=kinds[_UNSAMPLED],
            queued=self.pending + waiting,
            in_flight=self.in_flight,
            exported=self.exported,
            summarized=self._summarized + kinds[_SUMMARIZED],
            submitted=self.submitted,
            dropped={reason: count for reason, count in self._dropped_of(kinds, lost).items() if count},
            exports_attempted=self.exports_attempted,
            exports_succeeded=self.exports_succeeded,
            would_have_shed=would_have_shed,
        )
