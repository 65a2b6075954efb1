"""The way in: from the application's threads to the store, bounded, that the worker takes from.

Application threads offer, the worker takes. The rule: each move of a span and its count are one step in the ledger.

So that application threads do not queue up for the ledger, they drop their records into an inbox, which needs no lock,
and whoever is in the ledger sweeps it before it is gone (flat combining: Hendler, Incze, Shavit, Tzafrir, 2010). It is
the same for a signal handler or a finalizer that ends a span in the middle of a step: it leaves the record and goes.

``wake_at`` is the number of ready spans at which the worker wants to be woken, and ``looks_at`` the time at which it
looks by itself: what is due before wakes it too. The worker writes both in the ledger, after looking at the store, so a
record either is seen by that look or finds the new ``wake_at``: no wake-up is lost.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate, Ledger
from otel_shed.pipeline.store import Batch, Shed, Store
from otel_shed.record import SpanRecord

NEVER = sys.maxsize

# How many records, and how large, may wait for a sweeper that has lost the interpreter in the middle; whoever brings
# more waits for it. So the bounds are exceeded, for some milliseconds and at the very most, by 512 spans and 8 MiB.
INBOX_ROOM = 512
INBOX_LARGEST = 16_384


class Intake:
    """The inbox before a store."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Callable[[Shed], Store],
        clock: Callable[[], float],
        shed: Callable[[SpanRecord], None] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """``store`` makes the store, given whom it has to tell of records that it lets go of. ``clock``: seconds.

        ``shed`` is told of each of these too, in the ledger: it must not wait. ``wake``: the worker.
        """
        self._ledger = ledger
        self.store = store(self._let_go)
        self._clock = clock
        self._shed = shed
        self._wake = wake
        self.closed = False
        # Records, batches of them, and what is booked without being held: a fate and how many spans.
        self._inbox: deque[Any] = deque()
        self._forget()
        ledger.left = self.look_again

    def _forget(self) -> None:
        self._inbox.clear()
        self.admitted = 0
        self.wake_at = 1
        self.wake_at_bytes = NEVER
        self.looks_at = math.inf

    # -- application threads -------------------------------------------------------------------------------------

    def offer(self, record: SpanRecord) -> None:
        """Take in a span that has ended."""
        self._inbox.append(record)
        self.look_again(patient=record.length <= INBOX_LARGEST)

    def offer_batch(self, records: Sequence[SpanRecord]) -> None:
        """Take in a batch, for a store of batches."""
        self._inbox.append(list(records))
        self.look_again(patient=False)

    def book(self, fate: Fate | DropReason, count: int = 1) -> None:
        """Count spans that ended and are not held."""
        self._inbox.append((fate, count))
        self.look_again()

    def look_again(self, patient: bool = True) -> None:
        """Sweep the inbox, unless somebody is in the ledger who will look again; wake the worker if it wants to be.

        Not ``patient``: wait for whoever is in the ledger.
        """
        inbox, lock, wake = self._inbox, self._ledger.lock, False
        while inbox and not lock._is_owned():
            if not lock.acquire(False):
                if patient and len(inbox) <= INBOX_ROOM:
                    break
                lock.acquire()
            try:
                wake = self._sweep() or wake
            finally:
                lock.release()
        if wake and self._wake is not None:
            self._wake()

    def _sweep(self) -> bool:
        ledger, inbox, store = self._ledger, self._inbox, self.store
        now = self._clock()
        while inbox:
            entry = inbox.popleft()
            if type(entry) is tuple:
                ledger.book(*entry)
                continue
            count = len(entry) if type(entry) is list else 1
            ledger.ended += count
            if self.closed:
                ledger.dropped[DropReason.ALREADY_SHUTDOWN] += count
                continue
            self.admitted += count
            ledger.queued += count
            store.add(entry, now)
        if store.ready_spans >= self.wake_at or store.ready_bytes >= self.wake_at_bytes:
            self.wake_at = self.wake_at_bytes = NEVER
            return True
        if store.due_at < self.looks_at:
            self.looks_at = store.due_at
            return True
        return False

    def _let_go(self, record: SpanRecord, fate: DropReason | Fate) -> None:
        self._ledger.let_go(fate)
        if self._shed is not None:
            self._shed(record)

    # -- the worker ----------------------------------------------------------------------------------------------

    def take(self, most: int, most_bytes: int = NEVER) -> Batch:
        """Move up to ``most`` records to the worker; their bytes stay counted until ``release``.

        No more are taken once they are of ``most_bytes``.
        """
        with self._ledger:
            batch = self.store.take(most, most_bytes)
            count = len(batch.records)
            self._ledger.queued -= count
            self._ledger.in_flight += count
            self._ledger.submitted += count
        return batch

    def grown(self, length: int) -> None:
        """What the worker has taken has grown by so many bytes."""
        with self._ledger:
            self.store.release(0, -length)

    def release(self, records: Sequence[SpanRecord]) -> None:
        """The worker is done with these records: their bytes are free."""
        length = sum([record.length for record in records])
        with self._ledger:
            self.store.release(len(records), length)

    # -- either --------------------------------------------------------------------------------------------------

    def settle_inbox(self) -> None:
        """Count what has been offered up to now."""
        self.look_again(patient=False)

    def mark(self) -> int:
        """A barrier behind everything that has been offered up to now; to be called in the ledger."""
        return self.store.mark(self._clock())

    def close(self) -> bool:
        """Admit nothing from now on; whether this call did it."""
        self.settle_inbox()
        with self._ledger:
            first, self.closed = not self.closed, True
            if first:
                self.mark()
        return first

    def clear(self) -> None:
        """Let go of what is not taken; the caller has booked it."""
        with self._ledger:
            self.store.clear()

    def restart(self) -> None:
        """In a forked child: what is held is the parent's to send."""
        self._forget()
        self.store.restart()
