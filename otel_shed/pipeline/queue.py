"""The bounded queue between application threads and ours: push, evict, pop, and the counts of what ended.

Application threads push and book; the export thread and the decision thread pop. The rules: a push never waits; a
record moves and is counted in one step, so ``counts()`` balances at every reading; the queue never holds more records
or bytes than its bounds. A full queue evicts the oldest record of the lowest priority. A record that would not fit
beside those of higher priority is evicted itself, and costs no other its place.

The plain class appends each push to ``_arrivals``, which is one step of the interpreter. The thread with the small lock
then moves all arrivals; nobody waits for it. A signal handler or a finalizer that pushes in the middle of a push leaves
its record there too, and the push that it interrupted moves it. A step calls nothing: the interpreter lets signal
handlers and other threads in where something is called and where a loop begins again, and nowhere else. What a step
needs memory for comes before its first change. So an exception, of whatever kind, finds each step done or not begun.
The compiled class does the same in one call in C.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Final

from otel_shed.compiled import extension
from otel_shed.control.threshold import randomness_of, read_ot
from otel_shed.interruption import EXHAUSTED
from otel_shed.native import allocate_rlock, call_if_free
from otel_shed.pipeline.summary import Summary
from otel_shed.record import Priority, SpanRecord, record_class

# More than can be held: a bound or a wake-up that is never reached.
NEVER: Final = sys.maxsize

_LOWEST: Final = int(min(Priority))
_HIGHEST: Final = int(max(Priority))
_HIGH: Final = int(Priority.HIGH)


class Queue:
    """Records by priority.

    records, length: how many wait, and their bytes; max_records, max_bytes: the bounds. admitted: how many were queued;
    the next one gets this order.
    A ``kind`` is the index of a count: ``kinds`` of them, of which ``full`` counts what a full queue evicts,
    ``refused`` what the admission threshold refuses, ``closed`` what comes after ``close``, and ``failed`` what has no
    priority or what no memory is left for. ``summary`` adds up what is evicted and what is refused.
    """

    __slots__ = ("__dict__", "__weakref__", "_lock")

    def __init__(
        self, *, kinds: int, full: int, refused: int, closed: int, failed: int, summary: Summary | None = None
    ) -> None:
        self._kinds, self._full, self._refused, self._closed = kinds, full, refused, closed
        self._failed, self._summary = failed, summary
        self.max_records = self.max_bytes = NEVER
        self.is_closed = False
        self.restart()

    def restart(self) -> None:
        """Begin anew, empty and with counts of 0: in a forked child, what waits is the parent's. Bounds stay."""
        self._lock = allocate_rlock()
        # By priority, the lowest first; and the bytes of each.
        self._queues: tuple[deque[SpanRecord], ...] = tuple([deque() for _ in Priority])
        self._lengths = [0 for _ in Priority]
        # Records, and what is booked: a kind and how many.
        self._arrivals: deque[SpanRecord | tuple[int, int]] = deque()
        # What a pop has taken out of the queues so far; they wait, and are counted so, until it is at its end.
        self._taken: list[SpanRecord] = []
        self._counts = [0] * self._kinds
        self.records = self.length = self.admitted = self._popped = 0
        self._wake_at = self._wake_at_bytes = NEVER
        self._admission = 0

    # -- application threads -------------------------------------------------------------------------------------

    def push(self, record: SpanRecord) -> bool:
        """Queue a record, whose order this sets; whether a consumer is to be woken. Never waits.

        Raises MemoryError or RecursionError only where the record is neither queued nor counted.
        """
        priority = record.priority
        if priority.__class__ is not Priority and not (isinstance(priority, int) and _LOWEST <= priority <= _HIGHEST):
            self.book(self._failed)
            return False
        self._arrivals.append(record)
        try:
            self._settle()
            # What another thread has left no time to move is there to be woken for.
            waiting = self.records + len(self._arrivals)
        except EXHAUSTED:  # it has come: the next push or pop moves it
            return self._wake_at < NEVER
        return waiting >= self._wake_at or self.length >= self._wake_at_bytes

    def book(self, kind: int, count: int = 1) -> None:
        """Count spans that ended and are not queued; raises as ``push`` does."""
        if not 0 <= kind < self._kinds:
            raise IndexError("a Queue does not count this kind")
        self._arrivals.append((kind, count))
        try:
            self._settle()
        except EXHAUSTED:
            pass

    def _settle(self) -> None:
        """Move what has arrived, unless another thread is at it, or this one is further down its stack."""
        lock = self._lock
        while self._arrivals and not lock._is_owned():
            if not call_if_free(lock, self._move):
                return

    def _move(self) -> None:
        """In the lock. Everything is read anew after each call: a signal handler may have forked in it."""
        if self._taken:
            self._give_back()
        while self._arrivals:
            entry = self._arrivals[0]
            if entry.__class__ is tuple:
                kind, count = entry
                count += self._counts[kind]
                self._counts[kind] = count
                del self._arrivals[0]
                continue
            record: SpanRecord = entry  # type: ignore[assignment]
            admission = self._admission if record.priority < _HIGH else 0
            is_refused = admission and _randomness(record) < admission
            if self.is_closed or is_refused:
                if self._arrivals and self._arrivals[0] is record:
                    kind = self._closed if self.is_closed else self._refused
                    count = self._counts[kind] + 1
                    self._counts[kind] = count
                    del self._arrivals[0]
                    if kind != self._closed:
                        self._summarize(record)
                continue
            priority, order = record.priority, self.admitted
            records, length, admitted = self.records + 1, self.length + record.length, order + 1
            of_priority = self._lengths[priority] + record.length
            if records > self.max_records or length > self.max_bytes:
                self._make_room(record)
                continue
            queue = self._queues[priority]
            if not self._arrivals:
                continue
            record.order = order
            if admission:
                record.admission = admission
            queue += (record,)
            self.records = records
            self.length = length
            self.admitted = admitted
            self._lengths[priority] = of_priority
            del self._arrivals[0]

    def _make_room(self, record: SpanRecord) -> None:
        """Evict one record so that this one, the first arrival, has room in the end; itself where it never has."""
        if self._has_room(record):
            self._evict()
        elif self._arrivals and self._arrivals[0] is record:
            count = self._counts[self._full] + 1
            self._counts[self._full] = count
            del self._arrivals[0]
            self._summarize(record)

    def _has_room(self, record: SpanRecord) -> bool:
        """Whether the record is within the bounds once all that is evicted before it is gone."""
        for lowest, queue in enumerate(self._queues):
            if queue:
                if lowest > record.priority:
                    return False
                # One is enough, as nearly always.
                left = self.length - queue[0].length + record.length
                if left <= self.max_bytes and self.records <= self.max_records:
                    return True
                break
        above = record.priority + 1
        higher = sum([len(queue) for queue in self._queues[above:]])
        return higher < self.max_records and sum(self._lengths[above:]) + record.length <= self.max_bytes

    def _evict(self) -> None:
        """The oldest of the lowest priority."""
        for priority, queue in enumerate(self._queues):
            if queue and queue is self._queues[priority]:
                record = queue[0]
                records, length = self.records - 1, self.length - record.length
                of_priority, count = self._lengths[priority] - record.length, self._counts[self._full] + 1
                self.records = records
                self.length = length
                self._lengths[priority] = of_priority
                self._counts[self._full] = count
                del queue[0]
                self._summarize(record)
                return

    def _summarize(self, record: SpanRecord) -> None:
        """After the step: of an exception of a signal handler just here, the summary lacks one span."""
        if self._summary is not None:
            self._summary.add_all((record,))

    # -- consumers -----------------------------------------------------------------------------------------------

    def pop(self, most: int, most_bytes: int = NEVER, /) -> tuple[list[SpanRecord], int]:
        """Up to ``most`` of the oldest, of ``most_bytes`` at most; and their bytes."""
        if self._lock._is_owned():  # a signal handler has interrupted a push
            return [], 0
        with self._lock:
            self._move()
            try:
                return self._take(most, most_bytes)
            except BaseException:
                self._give_back()
                raise

    def _take(self, most: int, most_bytes: int) -> tuple[list[SpanRecord], int]:
        taken, queues, lengths, length = self._taken, self._queues, self._lengths.copy(), 0
        is_full = False
        while len(taken) < most and not is_full:
            occupied = [priority for priority, queue in enumerate(queues) if queue]
            if not occupied:
                break
            oldest = min(occupied, key=lambda priority: queues[priority][0].order)
            queue = queues[oldest]
            # Where there is only one, which is nearly always, nothing has to be compared.
            for _ in range(most - len(taken) if len(occupied) == 1 else 1):
                if not queue:
                    break
                record = queue[0]
                if is_full := length + record.length > most_bytes:
                    break
                taken += (record,)
                del queue[0]
                length += record.length
                lengths[oldest] -= record.length
        none: list[SpanRecord] = []
        count, result = len(taken), (taken, length)
        if taken is not self._taken:  # a signal handler has forked
            return [], 0
        records, left, popped = self.records - count, self.length - length, self._popped + count
        self.records = records
        self.length = left
        self._popped = popped
        self._lengths = lengths
        self._taken = none
        return result

    def _give_back(self) -> None:
        """What an interrupted pop has taken; may be interrupted itself, and done again."""
        taken = self._taken
        while taken:
            record = taken[-1]
            queue = self._queues[record.priority]
            if not (queue and queue[0] is record):
                queue.appendleft(record)
            del taken[-1]

    def resize(self, max_records: int, max_bytes: int, /) -> None:
        """Hold no more than so much from now on; what is too much is evicted."""
        self.max_records, self.max_bytes = max(0, max_records), max(0, max_bytes)
        if not self._lock._is_owned():
            with self._lock:
                self._move()
                while self.records and (self.records > self.max_records or self.length > self.max_bytes):
                    self._evict()

    def wake_when(self, records: int, length: int = NEVER, /) -> bool:
        """Have ``push`` say so from when so much waits on; whether it does now."""
        self._wake_at, self._wake_at_bytes = records, length
        try:
            self._settle()
            return self.records + len(self._arrivals) >= records or self.length >= length
        except EXHAUSTED:  # an application thread's, which asks to be told no more
            return True

    def admit_from(self, threshold: int, /) -> None:
        """Refuse records below HIGH whose trace has a randomness below ``threshold``; 0 admits all."""
        self._admission = threshold

    @property
    def admission(self) -> int:
        """What ``admit_from`` set."""
        return self._admission

    def close(self) -> None:
        """Admit nothing from now on."""
        if self._lock._is_owned():
            self.is_closed = True
            return
        with self._lock:
            self._move()  # these came before
            self.is_closed = True

    def clear(self, kind: int, /) -> None:
        """Count all that waits as ``kind``, and forget it. Does nothing where ``is_held_here``."""
        if self._lock._is_owned():
            return
        with self._lock:
            self._move()
            none: tuple[deque[SpanRecord], ...] = tuple([deque() for _ in Priority])
            lengths, gone = [0 for _ in Priority], self._queues
            count = self._counts[kind] + self.records
            self._counts[kind] = count
            self.records = self.length = 0
            self._queues = none
            self._lengths = lengths
            del gone

    # -- readings ------------------------------------------------------------------------------------------------

    @property
    def is_held_here(self) -> bool:
        """Whether this thread is in the middle of a call, which a signal handler or a finalizer has interrupted."""
        return bool(self._lock._is_owned())

    def mark(self) -> int:
        """How many were admitted, with all whose ``push`` has returned."""
        if self._lock._is_owned():
            return self.admitted
        with self._lock:
            self._move()
            return self.admitted

    @property
    def oldest(self) -> int:
        """The order of the oldest that waits, or of the next to be admitted."""
        if self._lock._is_owned():
            return self._oldest()
        with self._lock:
            self._move()
            return self._oldest()

    def _oldest(self) -> int:
        waiting = [*self._taken[:1], *[queue[0] for queue in self._queues if queue]]
        return min([record.order for record in waiting], default=self.admitted)

    def counts(self) -> tuple[int, int, int, list[int]]:
        """Records popped, records that wait, their bytes, and each kind's count; these add up to all that ended."""
        if self._lock._is_owned():
            return self._reading()
        with self._lock:
            self._move()
            return self._reading()

    def _reading(self) -> tuple[int, int, int, list[int]]:
        return self._popped, self.records, self.length, self._counts[:]


def _randomness(record: SpanRecord) -> int:
    try:
        return randomness_of(record.trace_id, read_ot(record.trace_state))
    except Exception:  # a tracestate that is not the SDK's
        return randomness_of(record.trace_id)


PlainQueue = Queue

if not TYPE_CHECKING and SpanRecord is getattr(extension, "SpanRecord", None):
    Queue = record_class(PlainQueue, getattr(extension, "Queue", None))
