"""Spans that go out one by one, in the order in which they came; where there are too many, the least worth goes first.

Owned by whoever queues them, called in the ledger. There is a queue for each priority, and they are taken in the order
of admission, so neither to take nor to drop looks at more than it moves. The compiled class, where it is in use, does
the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from otel_shed.compiled import extension
from otel_shed.record import Priority, SpanRecord, record_class


class Stream:
    """spans, length: how many wait, and their bytes. admitted: how many were added; the next one gets this order."""

    __slots__ = ("_queues", "admitted", "length", "spans")

    def __init__(self) -> None:
        # By priority, the lowest first.
        self._queues: tuple[deque[SpanRecord], ...] = tuple([deque() for _ in Priority])
        self.admitted = 0
        self.clear()

    def clear(self) -> None:
        """Forget what waits; the orders go on."""
        for queue in self._queues:
            queue.clear()
        self.spans = self.length = 0

    def add(self, record: SpanRecord) -> None:
        """Queue ``record``, whose order this sets."""
        record.order = self.admitted
        self.admitted += 1
        self._queues[record.priority].append(record)
        self.spans += 1
        self.length += record.length

    def extend(self, records: Sequence[SpanRecord]) -> int:
        """Queue these, in their order; their bytes."""
        queues, order = self._queues, self.admitted
        for record in records:
            record.order = order
            order += 1
            queues[record.priority].append(record)
        self.admitted = order
        self.spans += len(records)
        length = sum([record.length for record in records])
        self.length += length
        return length

    def drop(self) -> SpanRecord:
        """Let go of the oldest of the lowest priority; there must be one."""
        record = next(queue for queue in self._queues if queue).popleft()
        self.spans -= 1
        self.length -= record.length
        return record

    def drop_to(self, spans: int, length: int) -> list[SpanRecord]:
        """Let go of the oldest of the lowest priority until no more than so many wait, and of no more bytes."""
        gone: list[SpanRecord] = []
        while self.spans and (self.spans > spans or self.length > length):
            gone.append(self.drop())
        return gone

    def take(self, most: int, most_bytes: int) -> list[SpanRecord]:
        """Up to ``most`` of the oldest, of ``most_bytes`` at most."""
        taken: list[SpanRecord] = []
        length, is_full = 0, False
        while len(taken) < most and not is_full:
            occupied = [queue for queue in self._queues if queue]
            if not occupied:
                break
            queue = min(occupied, key=_first_order)
            # Where there is only one, which is nearly always, nothing has to be compared.
            for _ in range(most - len(taken) if len(occupied) == 1 else 1):
                if not queue:
                    break
                if is_full := length + queue[0].length > most_bytes:
                    break
                record = queue.popleft()
                taken.append(record)
                length += record.length
        self.spans -= len(taken)
        self.length -= length
        return taken

    def take_back(self, since: int) -> list[SpanRecord]:
        """Those of the order ``since`` and later, in their order: they wait here no longer."""
        back: list[SpanRecord] = []
        for queue in self._queues:
            while queue and queue[-1].order >= since:
                back.append(queue.pop())
        back.sort(key=lambda record: record.order)
        self.spans -= len(back)
        self.length -= sum([record.length for record in back])
        return back

    def part(self, goes: Callable[[SpanRecord], bool]) -> list[SpanRecord]:
        """Let go of those that ``goes`` is true of; it looks at all."""
        gone: list[SpanRecord] = []
        for queue in self._queues:
            stay: list[SpanRecord] = []
            for record in queue:
                (gone if goes(record) else stay).append(record)
            if len(stay) < len(queue):
                queue.clear()
                queue.extend(stay)
        self.spans -= len(gone)
        self.length -= sum([record.length for record in gone])
        return gone

    @property
    def oldest(self) -> int:
        """The order of the oldest that waits, or of the next to be added."""
        return min([queue[0].order for queue in self._queues if queue], default=self.admitted)

    def __iter__(self) -> Iterator[SpanRecord]:
        for queue in self._queues:
            yield from queue


def _first_order(queue: deque[SpanRecord]) -> int:
    return queue[0].order


PlainStream = Stream

if not TYPE_CHECKING and SpanRecord is getattr(extension, "SpanRecord", None):
    Stream = record_class(PlainStream, getattr(extension, "Stream", None))
