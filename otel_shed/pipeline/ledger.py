"""The account of every span: ended, then unsampled, queued, in flight, exported, summarized or dropped for a reason.

Owns the counts and the one lock of a pipeline, which also guards the intake's queue: a span moves and is counted in the
same step, so the account balances at every reading and not only at rest. Changed by whoever holds the lock: the thread
that sweeps the intake's inbox, and the worker. The rule: nobody holds the lock while calling anything that may block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from otel_shed.native import allocate_rlock
from otel_shed.outcome import LOST_IN_EXPORT, SHED, DropReason, Outcome


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


class Ledger:
    """The counts of one pipeline: enter it (``with ledger.lock:``) to read or change them, or take ``account()``.

    The lock is entered as it is: between an ``__enter__`` in Python and the block that it is for, an exception of a
    signal handler would leave it locked for ever.
    """

    __slots__ = ("__dict__", "__weakref__", "lock")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin a new account with a new lock: in a forked child the old one may be held by a thread that is gone."""
        self.lock = allocate_rlock()
        self.ended = 0
        self.unsampled = 0
        self.queued = 0
        self.in_flight = 0
        self.exported = 0
        self.summarized = 0
        self.submitted = 0
        self.dropped: dict[DropReason, int] = dict.fromkeys(DropReason, 0)
        self.exports_attempted = 0
        self.exports_succeeded = 0
        self.would_have_shed = 0
        self.abandoned = False

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of it."""
        return bool(self.lock._is_owned())

    def book(self, fate: Fate | DropReason, count: int) -> None:
        """Spans that ended and go no further; to be called with the ledger entered."""
        if isinstance(fate, DropReason):
            self.dropped[fate] += count
        elif fate is Fate.UNSAMPLED:
            self.unsampled += count
        elif fate is Fate.SUMMARIZED:
            self.summarized += count
        else:
            self.would_have_shed += count
            return
        self.ended += count

    def let_go(self, fate: Fate | DropReason, count: int) -> None:
        """Spans that were queued go no further; to be called with the ledger entered."""
        self.queued -= count
        if isinstance(fate, DropReason):
            self.dropped[fate] += count
        else:
            self.summarized += count

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
                self.dropped[DropReason.SHUTDOWN] -= accepted
                return
            self.in_flight -= count
            self.dropped[DropReason.REJECTED] += rejected
            self.dropped[DropReason.NOT_RETRYABLE] += refused
            self.dropped[reason] += failed - refused

    def abandon(self) -> None:
        """Shutdown gives up: whatever is queued or in flight is booked as lost."""
        with self.lock:
            self.dropped[DropReason.SHUTDOWN] += self.queued + self.in_flight
            self.queued = self.in_flight = 0
            self.abandoned = True

    def lost_in_export(self) -> int:
        """Spans that were lost, not shed by choice."""
        with self.lock:
            return sum([self.dropped[reason] for reason in LOST_IN_EXPORT])

    def shed(self) -> int:
        """Spans that were let go of, by choice or because there was no room for them."""
        with self.lock:
            return self.summarized + sum([self.dropped[reason] for reason in SHED])

    def account(self) -> Account:
        """A consistent reading."""
        with self.lock:
            return Account(
                ended=self.ended,
                unsampled=self.unsampled,
                queued=self.queued,
                in_flight=self.in_flight,
                exported=self.exported,
                summarized=self.summarized,
                submitted=self.submitted,
                dropped={reason: count for reason, count in self.dropped.items() if count},
                exports_attempted=self.exports_attempted,
                exports_succeeded=self.exports_succeeded,
                would_have_shed=self.would_have_shed,
            )
