"""The bounded queue between the application's threads and the worker; full means that the oldest is dropped.

The oldest of the lowest priority, that is: there is a queue for each, and they are taken in the order of admission.
Application threads offer, the worker takes. The rule: what is queued and what the worker has taken and not yet settled
stay together within ``max_bytes``, and what is queued within ``capacity``; each move and its count are one step in the
ledger.

So that application threads do not queue up for the ledger, they drop their records into an inbox, which needs no lock,
and whoever is in the ledger sweeps it before it is gone (flat combining: Hendler, Incze, Shavit, Tzafrir, 2010). It is
the same for a signal handler or a finalizer that ends a span in the middle of a step: it leaves the record and goes.

``wake_at`` is the number of queued spans at which the worker wants to be woken. The worker writes it in the ledger,
after looking at the queue, so a record either is seen by that look or finds the new ``wake_at``: no wake-up is lost.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate, Ledger
from otel_shed.record import Priority, SpanRecord

NEVER = sys.maxsize

# How many records, and how large, may wait for a sweeper that has lost the interpreter in the middle; whoever brings
# more waits for it. So the bounds are exceeded, for some milliseconds and at the very most, by 512 spans and 8 MiB.
INBOX_ROOM = 512
INBOX_LARGEST = 16_384


class Intake:
    """A queue of spans, bounded in spans and in bytes."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        capacity: int,
        max_bytes: int,
        evicted: Callable[[SpanRecord], None] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        """``evicted`` is told of each record that gives way, in the ledger: it must not wait. ``wake``: the worker."""
        self._ledger = ledger
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._evicted = evicted
        self._wake = wake
        self.closed = False
        # Records, batches of them, and what is booked without being queued: a fate and how many spans.
        self._inbox: deque[Any] = deque()
        # By priority, the lowest first.
        self._queues: tuple[deque[SpanRecord], ...] = tuple(deque() for _ in Priority)
        self._forget()
        ledger.left = self.look_again

    def _forget(self) -> None:
        self._inbox.clear()
        self._empty()
        self.taken_bytes = 0
        self.admitted = 0
        self.wake_at = 1
        self.wake_at_bytes = NEVER

    def _empty(self) -> None:
        for queue in self._queues:
            queue.clear()
        self.queued_bytes = 0

    # -- application threads -------------------------------------------------------------------------------------

    def offer(self, record: SpanRecord) -> None:
        """Queue a span that has ended."""
        self._inbox.append(record)
        self.look_again(patient=record.length <= INBOX_LARGEST)

    def book(self, fate: Fate | DropReason, count: int = 1) -> None:
        """Count spans that ended and are not queued."""
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
        ledger, inbox = self._ledger, self._inbox
        while inbox:
            entry = inbox.popleft()
            if type(entry) is tuple:
                ledger.book(*entry)
            else:
                self._admit(entry)
        if ledger.queued >= self.wake_at or self.queued_bytes >= self.wake_at_bytes:
            self.wake_at = self.wake_at_bytes = NEVER
            return True
        return False

    def _admit(self, record: SpanRecord) -> None:
        ledger = self._ledger
        ledger.ended += 1
        if self.closed:
            ledger.dropped[DropReason.ALREADY_SHUTDOWN] += 1
            return
        record.order = self.admitted
        self.admitted += 1
        self._queues[record.priority].append(record)
        self.queued_bytes += record.length
        ledger.queued += 1
        if ledger.queued > self.capacity or self.queued_bytes + self.taken_bytes > self.max_bytes:
            self._evict()

    def _evict(self) -> None:
        ledger = self._ledger
        for queue in self._queues:
            while queue and (ledger.queued > self.capacity or self.queued_bytes + self.taken_bytes > self.max_bytes):
                oldest = queue.popleft()
                self.queued_bytes -= oldest.length
                ledger.queued -= 1
                ledger.dropped[DropReason.QUEUE_FULL] += 1
                if self._evicted is not None:
                    self._evicted(oldest)

    # -- the worker ----------------------------------------------------------------------------------------------

    def take(self, most: int, most_bytes: int = NEVER) -> list[SpanRecord]:
        """Move up to ``most`` of the oldest records to the worker; their bytes stay counted until ``release``.

        No more are taken once they are of ``most_bytes``.
        """
        taken: list[SpanRecord] = []
        length = 0
        with self._ledger:
            while len(taken) < most and length < most_bytes:
                occupied = [queue for queue in self._queues if queue]
                if not occupied:
                    break
                queue = min(occupied, key=_first_order)
                # Where there is only one, which is nearly always, nothing has to be compared.
                for _ in range(most - len(taken) if len(occupied) == 1 else 1):
                    if not queue or length >= most_bytes:
                        break
                    record = queue.popleft()
                    taken.append(record)
                    length += record.length
            self._moved(len(taken), length)
        return taken

    def _moved(self, count: int, length: int) -> None:
        self.queued_bytes -= length
        self.taken_bytes += length
        self._ledger.queued -= count
        self._ledger.in_flight += count
        self._ledger.submitted += count

    def release(self, records: Sequence[SpanRecord]) -> None:
        """The worker is done with these records: their bytes are free."""
        length = sum([record.length for record in records])
        with self._ledger:
            self.taken_bytes -= length

    @property
    def oldest(self) -> int:
        """The order of the oldest record that is queued, or of the next to be admitted; read in the ledger."""
        return min([queue[0].order for queue in self._queues if queue], default=self.admitted)

    # -- either --------------------------------------------------------------------------------------------------

    def settle_inbox(self) -> None:
        """Count what has been offered up to now."""
        self.look_again(patient=False)

    def close(self) -> bool:
        """Admit nothing from now on; whether this call did it."""
        self.settle_inbox()
        with self._ledger:
            first, self.closed = not self.closed, True
        return first

    def clear(self) -> None:
        """Let go of what is queued; the caller has booked it."""
        with self._ledger:
            self._empty()

    def restart(self) -> None:
        """In a forked child: what is queued is the parent's to send."""
        self._forget()


def _first_order(queue: deque[SpanRecord]) -> int:
    return queue[0].order


class BatchIntake(Intake):
    """A queue of batches as a caller has put them together; full means that the oldest batch is dropped whole."""

    def __init__(self, *, ledger: Ledger, max_batches: int, max_bytes: int, **how: Any) -> None:
        self._batches: deque[Sequence[SpanRecord]] = deque()
        super().__init__(ledger=ledger, capacity=max_batches, max_bytes=max_bytes, **how)

    def _empty(self) -> None:
        super()._empty()
        self._batches.clear()

    def offer_batch(self, records: Sequence[SpanRecord]) -> None:
        """Queue a batch."""
        self._inbox.append(list(records))
        self.look_again(patient=False)

    def _admit(self, entry: Any) -> None:
        ledger, count = self._ledger, len(entry)
        ledger.ended += count
        if self.closed:
            ledger.dropped[DropReason.ALREADY_SHUTDOWN] += count
            return
        self._batches.append(entry)
        length = sum([record.length for record in entry])
        self.queued_bytes += length
        self.admitted += count
        ledger.queued += count
        while self._batches and (
            len(self._batches) > self.capacity or self.queued_bytes + self.taken_bytes > self.max_bytes
        ):
            oldest = self._batches.popleft()
            count, length = len(oldest), sum([record.length for record in oldest])
            self.queued_bytes -= length
            ledger.queued -= count
            ledger.dropped[DropReason.QUEUE_FULL] += count
            if self._evicted is not None:
                for record in oldest:
                    self._evicted(record)

    def take(self, most: int, most_bytes: int = NEVER) -> list[SpanRecord]:
        """Move the oldest batch to the worker, whole, whatever its size."""
        with self._ledger:
            taken = list(self._batches.popleft()) if self._batches else []
            length = sum([record.length for record in taken])
            self._moved(len(taken), length)
        return taken

    @property
    def oldest(self) -> int:
        return self.admitted - self._ledger.queued
