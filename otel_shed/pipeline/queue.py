"""The bounded queue between application threads and ours: push, evict, pop, and the counts of what ended.

Application threads push and book; the export thread and the decision thread pop. The rules: a push never waits; a
record moves and is counted in one step, so ``counts()`` balances at every reading; the queue never holds more records
or bytes than its bounds. A full queue evicts the oldest record of the lowest priority, the pushed one included.

The plain class appends each push to ``_arrivals``, which is one step of the interpreter. Whoever holds the small lock
then moves all arrivals; nobody waits for it. A signal handler or a finalizer that pushes in the middle of a push leaves
its record there too, and the push that it interrupted moves it. The compiled class does the same in one call in C.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from otel_shed.compiled import extension
from otel_shed.control.threshold import randomness_of, read_ot
from otel_shed.native import allocate_rlock
from otel_shed.record import Priority, SpanRecord, record_class

# More than can be held: a bound or a wake-up that is never reached.
NEVER: Final = sys.maxsize


class Queue:
    """Records by priority.

    records, length: how many wait, and their bytes. admitted: how many were queued; the next one gets this order.
    A ``kind`` is the index of a count: ``kinds`` of them, of which ``full`` counts what a full queue evicts,
    ``refused`` what the admission threshold refuses, ``closed`` what comes after ``close``, and ``failed`` what no
    memory is left for.
    """

    def __init__(self, *, kinds: int, full: int, refused: int, closed: int, failed: int) -> None:
        self._kinds, self._full, self._refused, self._closed = kinds, full, refused, closed
        self._failed = failed
        self._max_records = self._max_bytes = NEVER
        self.is_closed = False
        self.restart()

    def restart(self) -> None:
        """Begin anew, empty and with counts of 0: in a forked child, what waits is the parent's. Bounds stay."""
        self._lock = allocate_rlock()
        # By priority, the lowest first.
        self._queues: tuple[deque[SpanRecord], ...] = tuple([deque() for _ in Priority])
        # Records, and what is booked: a kind and how many.
        self._arrivals: deque[SpanRecord | tuple[int, int]] = deque()
        # What was counted last, together with the counts: one assignment changes both, whatever interrupts it.
        self._booked: tuple[list[int], object] = [0] * self._kinds, None
        self._evicted: tuple[int, SpanRecord | None] = 0, None
        self.records = self.length = self.admitted = self._popped = self._cleared = 0
        self._wake_at = self._wake_at_bytes = NEVER
        self._admission = 0

    # -- application threads -------------------------------------------------------------------------------------

    def push(self, record: SpanRecord) -> bool:
        """Queue a record, whose order this sets; whether a consumer is to be woken. Never waits."""
        self._arrivals.append(record)
        self._settle()
        return self.records >= self._wake_at or self.length >= self._wake_at_bytes

    def book(self, kind: int, count: int = 1) -> None:
        """Count spans that ended and are not queued."""
        self._arrivals.append((kind, count))
        self._settle()

    def _settle(self) -> None:
        """Move what has arrived, unless another thread is at it, or this one is further down its stack."""
        lock = self._lock
        while self._arrivals and not lock._is_owned() and lock.acquire(False):
            try:
                self._move()
            finally:
                lock.release()

    def _move(self) -> None:
        arrivals = self._arrivals
        try:
            while arrivals:
                entry = arrivals[0]
                if isinstance(entry, tuple):
                    self._count(entry)
                else:
                    self._admit(entry)
                arrivals.popleft()
        except BaseException:  # of a signal handler; whatever step it came in, the counts hold
            self._recount()
            raise

    def _count(self, entry: tuple[int, int]) -> None:
        kind, count = entry
        booked = self._booked[0].copy()
        booked[kind] += count
        self._booked = booked, entry

    def _admit(self, record: SpanRecord) -> None:
        if self.is_closed:
            self._count_record(self._closed, record)
            return
        if not isinstance(record.priority, int) or not 0 <= record.priority < len(self._queues):
            self._count_record(self._failed, record)
            return
        if self._admission and record.priority < Priority.HIGH:
            if randomness_of(record.trace_id, read_ot(record.trace_state)) < self._admission:
                self._count_record(self._refused, record)
                return
            record.admission = self._admission
        record.order = self.admitted
        self._queues[record.priority].append(record)
        self.admitted += 1
        self.records += 1
        self.length += record.length
        if self.records > self._max_records or self.length > self._max_bytes:
            self._evict()

    def _count_record(self, kind: int, record: SpanRecord) -> None:
        booked = self._booked[0].copy()
        booked[kind] += 1
        self._booked = booked, record

    def _evict(self) -> None:
        while self.records and (self.records > self._max_records or self.length > self._max_bytes):
            queue = next(queue for queue in self._queues if queue)
            self._evicted = self._evicted[0] + 1, queue[0]
            record = queue.popleft()
            self.records -= 1
            self.length -= record.length

    def _recount(self) -> None:
        """Have the numbers say what the deques do."""
        evicted, counted, arrivals = self._evicted[1], self._booked[1], self._arrivals
        for queue in self._queues:
            if queue and queue[0] is evicted:
                queue.popleft()
            if queue and arrivals and queue[-1] is arrivals[0]:
                arrivals.popleft()
        if arrivals and counted is not None and (arrivals[0] is counted or arrivals[0] is evicted):
            arrivals.popleft()
        self.records = sum([len(queue) for queue in self._queues])
        self.length = sum([record.length for queue in self._queues for record in queue])
        self.admitted = self._popped + self._evicted[0] + self._cleared + self.records

    # -- consumers -----------------------------------------------------------------------------------------------

    def pop(self, most: int, most_bytes: int = NEVER, /) -> tuple[list[SpanRecord], int]:
        """Up to ``most`` of the oldest, of ``most_bytes`` at most; and their bytes."""
        popped: list[SpanRecord] = []
        length = 0
        if self._lock._is_owned():  # a signal handler has interrupted a push
            return popped, length
        with self._lock:
            self._move()
            try:
                is_full = False
                while len(popped) < most and not is_full:
                    occupied = [queue for queue in self._queues if queue]
                    if not occupied:
                        break
                    queue = min(occupied, key=_first_order)
                    # Where there is only one, which is nearly always, nothing has to be compared.
                    for _ in range(most - len(popped) if len(occupied) == 1 else 1):
                        if not queue:
                            break
                        if is_full := length + queue[0].length > most_bytes:
                            break
                        popped.append(queue[0])
                        length += queue.popleft().length
                self.records -= len(popped)
                self.length -= length
                self._popped += len(popped)
            except BaseException:
                for record in reversed(popped):
                    queue = self._queues[record.priority]
                    if not (queue and queue[0] is record):
                        queue.appendleft(record)
                self._recount()
                raise
        return popped, length

    def resize(self, max_records: int, max_bytes: int, /) -> None:
        """Hold no more than so much from now on; what is too much is evicted."""
        self._max_records, self._max_bytes = max(0, max_records), max(0, max_bytes)
        if not self._lock._is_owned():
            with self._lock:
                self._move()
                self._evict()

    def wake_when(self, records: int, length: int = NEVER, /) -> bool:
        """Have ``push`` say so from when so much waits on; whether it does now."""
        self._wake_at, self._wake_at_bytes = records, length
        self._settle()
        return self.records >= records or self.length >= length

    def admit_from(self, threshold: int, /) -> None:
        """Refuse records below HIGH whose trace has a randomness below ``threshold``; 0 admits all."""
        self._admission = threshold

    @property
    def admission(self) -> int:
        """What ``admit_from`` set."""
        return self._admission

    def close(self) -> None:
        """Admit nothing from now on."""
        self._settle()
        self.is_closed = True

    def clear(self, kind: int, /) -> None:
        """Count all that waits as ``kind``, and forget it."""
        if not self._lock._is_owned():
            with self._lock:
                self._move()
                booked = self._booked[0].copy()
                booked[kind] += self.records
                self._booked = booked, None
                self._cleared += self.records
                self.records = self.length = 0
                for queue in self._queues:
                    queue.clear()

    # -- readings ------------------------------------------------------------------------------------------------

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of a step, which a signal handler has interrupted."""
        return bool(self._lock._is_owned())

    def mark(self) -> int:
        """How many were admitted, with all whose ``push`` has returned."""
        if self._lock._is_owned():
            return self.admitted + len(self._arrivals)
        with self._lock:
            self._move()
            return self.admitted

    @property
    def oldest(self) -> int:
        """The order of the oldest that waits, or of the next to be admitted."""
        self._settle()
        return min([queue[0].order for queue in self._queues if queue], default=self.admitted)

    def counts(self) -> tuple[int, int, int, list[int]]:
        """Records popped, records that wait, their bytes, and each kind's count; these add up to all that ended."""
        if self._lock._is_owned():
            return self._reading()
        with self._lock:
            self._move()
            return self._reading()

    def _reading(self) -> tuple[int, int, int, list[int]]:
        booked = self._booked[0].copy()
        booked[self._full] += self._evicted[0]
        return self._popped, self.records, self.length, booked


def _first_order(queue: deque[SpanRecord]) -> int:
    return queue[0].order


PlainQueue = Queue

if not TYPE_CHECKING and SpanRecord is getattr(extension, "SpanRecord", None):
    Queue = record_class(PlainQueue, getattr(extension, "Queue", None))
