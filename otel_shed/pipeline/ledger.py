"""The account of every span: ended, then unsampled, queued, in flight, exported, summarized or dropped for a reason.

Owns the counts and the one lock of a pipeline, which also guards the intake's queue: a span moves and is counted in the
same step, so the account balances at every reading and not only at rest. Called by application threads (a span ended)
and by the worker (what became of it). The rule: nobody holds the lock while calling anything that may block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_shed.native import allocate_rlock
from otel_shed.outcome import LOST_IN_EXPORT, DropReason, Outcome


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

    @property
    def lost_in_export(self) -> int:
        """Spans that were lost and not shed by choice."""
        return sum(count for reason, count in self.dropped.items() if reason in LOST_IN_EXPORT)


class Ledger:
    """The counts of one pipeline; read them with the lock held, or take ``account()``."""

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
        self.abandoned = False
        self.would_have_shed = 0

    def end_unsampled(self) -> None:
        with self.lock:
            self.ended += 1
            self.unsampled += 1

    def end_dropped(self, reason: DropReason, count: int = 1) -> None:
        """Spans that ended and were dropped at once."""
        with self.lock:
            self.ended += count
            self.dropped[reason] += count

    def end_summarized(self) -> None:
        with self.lock:
            self.ended += 1
            self.summarized += 1

    def note_would_have_shed(self) -> None:
        """A span goes on that would have been shed, if this were not only observing."""
        with self.lock:
            self.would_have_shed += 1

    def settle(self, count: int, outcome: Outcome) -> None:
        """Book what became of ``count`` spans in flight.

        After ``abandon`` they are booked as lost already; what was delivered all the same is moved over.
        """
        accepted = max(0, min(outcome.accepted, count))
        rejected = max(0, min(outcome.rejected, count - accepted))
        failed = count - accepted - rejected
        reason = outcome.reason or DropReason.EXPORTER_ERROR
        with self.lock:
            self.exports_attempted += 1
            self.exports_succeeded += not failed
            self.exported += accepted
            if self.abandoned:
                self.dropped[DropReason.SHUTDOWN] -= accepted
                return
            self.in_flight -= count
            self.dropped[DropReason.REJECTED] += rejected
            self.dropped[reason] += failed

    def abandon(self) -> None:
        """Shutdown gives up: whatever is queued or in flight is booked as lost."""
        with self.lock:
            self.dropped[DropReason.SHUTDOWN] += self.queued + self.in_flight
            self.queued = self.in_flight = 0
            self.abandoned = True

    def lost_in_export(self) -> int:
        with self.lock:
            return sum(self.dropped[reason] for reason in LOST_IN_EXPORT)

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
