"""The bounded queue between the application's threads and the worker; full means that the oldest is dropped.

The oldest of the lowest priority, that is: there is a queue for each, and they are taken in the order of admission.
Application threads offer, the worker takes. The rule: what is queued and what the worker has taken and not yet settled
stay together within ``max_bytes``, and what is queued within ``capacity``; each move and its count are one step under
the ledger's lock.

So that application threads do not queue up for that lock, they drop their records into an inbox, which needs none, and
one of them sweeps it for all (flat combining: Hendler, Incze, Shavit, Tzafrir, 2010). Who finds another one sweeping
goes on at once: the sweeper looks again before it leaves, so nothing stays in the inbox.

``wake_at`` is the number of queued spans at which the worker wants to be woken. The worker writes it under the lock
after looking at the queue, so a record either is seen by that look or finds the new ``wake_at``: no wake-up is lost.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence

from otel_shed.native import allocate_rlock
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Ledger
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
    ) -> None:
        """``evicted`` is told of each record that gives way, under the ledger's lock: it must not wait."""
        self._ledger = ledger
        self.capacity = capacity
        self.max_bytes = max_bytes
        self._evicted = evicted
        self.closed = False
        # By priority, the lowest first.
        self._queues: tuple[deque[SpanRecord], ...] = tuple(deque() for _ in Priority)
        self._inbox: deque[SpanRecord] = deque()
        self._forget()

    def _forget(self) -> None:
        self._sweeping = allocate_rlock()
        self._inbox.clear()
        for queue in self._queues:
            queue.clear()
        self.queued_bytes = 0
        self.taken_bytes = 0
        self.admitted = 0
        self.wake_at = 1

    def offer(self, record: SpanRecord) -> bool:
        """Queue a span that has ended; whether the worker is to be woken."""
        inbox, wake = self._inbox, False
        inbox.append(record)
        while inbox:
            if not self._sweeping.acquire(False):
                if len(inbox) <= INBOX_ROOM and record.length <= INBOX_LARGEST:
                    break  # whoever is sweeping looks again
                self._sweeping.acquire()
            try:
                wake = self._sweep() or wake
            finally:
                self._sweeping.release()
        return wake

    def settle_inbox(self) -> bool:
        """Count what has been offered up to now; whether the worker is to be woken."""
        with self._sweeping:
            return self._sweep()

    def _sweep(self) -> bool:
        ledger, inbox, queues = self._ledger, self._inbox, self._queues
        with ledger.lock:
            # A signal handler on this thread may sweep in between: every step leaves things whole, and may find less.
            while inbox:
                try:
                    record = inbox.popleft()
                except IndexError:
                    break
                ledger.ended += 1
                if self.closed:
                    ledger.dropped[DropReason.ALREADY_SHUTDOWN] += 1
                    continue
                record.order = self.admitted
                self.admitted += 1
                queues[record.priority].append(record)
                self.queued_bytes += record.length
                ledger.queued += 1
                if ledger.queued > self.capacity or self.queued_bytes + self.taken_bytes > self.max_bytes:
                    self._evict()
            if ledger.queued >= self.wake_at:
                self.wake_at = NEVER
                return True
            return False

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

    def take(self, most: int) -> list[SpanRecord]:
        """Move up to ``most`` of the oldest records to the worker; their bytes stay counted until ``release``."""
        ledger = self._ledger
        with ledger.lock:
            taken: list[SpanRecord] = []
            while len(taken) < most and (occupied := [queue for queue in self._queues if queue]):
                if len(occupied) == 1:
                    (queue,) = occupied
                    taken += [queue.popleft() for _ in range(min(most - len(taken), len(queue)))]
                else:
                    taken.append(min(occupied, key=_first_order).popleft())
            self._moved(taken)
            return taken

    def _moved(self, taken: Sequence[SpanRecord]) -> None:
        length = sum(record.length for record in taken)
        self.queued_bytes -= length
        self.taken_bytes += length
        self._ledger.queued -= len(taken)
        self._ledger.in_flight += len(taken)
        self._ledger.submitted += len(taken)

    def release(self, records: Sequence[SpanRecord]) -> None:
        """The worker is done with these records: their bytes are free."""
        length = sum(record.length for record in records)
        with self._ledger.lock:
            self.taken_bytes -= length

    @property
    def being_swept_here(self) -> bool:
        """Whether this thread is in the middle of ``offer``."""
        return bool(self._sweeping._is_owned())

    @property
    def oldest(self) -> int:
        """The order of the oldest record that is queued, or of the next to be admitted; read with the lock held."""
        return min((queue[0].order for queue in self._queues if queue), default=self.admitted)

    def close(self) -> bool:
        """Admit nothing from now on; whether this call did it."""
        self.settle_inbox()
        with self._ledger.lock:
            first, self.closed = not self.closed, True
            return first

    def clear(self) -> None:
        """Let go of what is queued; the caller has booked it."""
        with self._ledger.lock:
            for queue in self._queues:
                queue.clear()
            self.queued_bytes = 0

    def restart(self) -> None:
        """In a forked child: what is queued is the parent's to send."""
        self._forget()


def _first_order(queue: deque[SpanRecord]) -> int:
    return queue[0].order


class BatchIntake(Intake):
    """A queue of batches as a caller has put them together; full means that the oldest batch is dropped whole."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        max_batches: int,
        max_bytes: int,
        evicted: Callable[[SpanRecord], None] | None = None,
    ) -> None:
        self._batches: deque[Sequence[SpanRecord]] = deque()
        super().__init__(ledger=ledger, capacity=max_batches, max_bytes=max_bytes, evicted=evicted)

    def _forget(self) -> None:
        super()._forget()
        self._batches.clear()

    def offer_batch(self, records: Sequence[SpanRecord]) -> bool:
        """Queue a batch; whether the worker is to be woken."""
        ledger = self._ledger
        with ledger.lock:
            ledger.ended += len(records)
            if self.closed:
                ledger.dropped[DropReason.ALREADY_SHUTDOWN] += len(records)
                return False
            self._batches.append(records)
            self.queued_bytes += sum(record.length for record in records)
            self.admitted += len(records)
            ledger.queued += len(records)
            while self._batches and (
                len(self._batches) > self.capacity or self.queued_bytes + self.taken_bytes > self.max_bytes
            ):
                oldest = self._batches.popleft()
                self.queued_bytes -= sum(record.length for record in oldest)
                ledger.queued -= len(oldest)
                ledger.dropped[DropReason.QUEUE_FULL] += len(oldest)
                if self._evicted is not None:
                    for record in oldest:
                        self._evicted(record)
            if ledger.queued >= self.wake_at:
                self.wake_at = NEVER
                return True
            return False

    def take(self, most: int) -> list[SpanRecord]:
        """Move the oldest batch to the worker, whole, whatever its size."""
        with self._ledger.lock:
            taken = list(self._batches.popleft()) if self._batches else []
            self._moved(taken)
            return taken

    @property
    def oldest(self) -> int:
        return self.admitted - self._ledger.queued

    def clear(self) -> None:
        with self._ledger.lock:
            super().clear()
            self._batches.clear()
