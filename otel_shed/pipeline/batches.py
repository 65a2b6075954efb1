"""A queue of batches as a caller has put them together; full means that the oldest batch is dropped whole.

Called in the ledger, as a Store behind the intake. The rule: no more than ``max_spans`` are queued, in ``max_batches``
batches at most, and what is queued and taken stays within ``max_bytes``. Of a batch that alone is larger the end stays.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from otel_shed.outcome import DropReason
from otel_shed.pipeline.queue import NEVER
from otel_shed.pipeline.store import Batch, Shed
from otel_shed.record import SpanRecord


class Batches:
    """A Store of batches; see the module."""

    def __init__(self, *, max_batches: int, max_spans: int, max_bytes: int, shed: Shed) -> None:
        self.queue_capacity = max_spans
        self._max_batches = max_batches
        self.is_streaming = True
        self.max_bytes = max_bytes
        self._shed = shed
        self._batches: deque[Sequence[SpanRecord]] = deque()
        self.restart()

    def restart(self) -> None:
        """Forget everything: in a forked child it is the parent's."""
        self._added = 0
        self.taken_bytes = 0
        self.clear()

    def clear(self) -> None:
        """Forget what is queued; the caller has booked it."""
        self._batches.clear()
        self.ready_spans = self.ready_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self.ready_bytes + self.taken_bytes

    @property
    def utilization(self) -> float:
        return min(1.0, max(self.fill, self.held_bytes / self.max_bytes))

    @property
    def undecided_spans(self) -> int:
        return 0

    @property
    def holds_undecided(self) -> bool:
        return False

    @property
    def held_since(self) -> float:
        return math.inf

    @property
    def fill(self) -> float:
        return max(len(self._batches) / self._max_batches, self.ready_spans / self.queue_capacity)

    def follow(self, now: float) -> bool:
        return False

    def drain(self, most: int) -> list[SpanRecord]:
        """None: batches do not pass the queue."""
        return []

    def add_all(self, records: Sequence[SpanRecord], now: float) -> None:
        """A batch like any other."""
        self.add(records)

    def add(self, records: Sequence[SpanRecord]) -> None:
        """Queue a batch."""
        self._added += len(records)
        if too_many := len(records) - self.queue_capacity if len(records) > self.queue_capacity else 0:
            self._shed(records[:too_many], DropReason.QUEUE_FULL)
            records = records[too_many:]
        self._batches.append(records)
        self.ready_spans += len(records)
        self.ready_bytes += _length(records)
        while self._batches and self._is_exceeded:
            self._shed(self._pop(), DropReason.QUEUE_FULL)

    @property
    def _is_exceeded(self) -> bool:
        too_many = self.ready_spans > self.queue_capacity or len(self._batches) > self._max_batches
        return too_many or self.held_bytes > self.max_bytes

    def take(self, most: int, most_bytes: int) -> Batch:
        """The oldest batch, whole, whatever its size."""
        before = self.ready_bytes
        records = list(self._pop()) if self._batches else []
        length = before - self.ready_bytes
        self.taken_bytes += length
        return Batch(records, length=length)

    def _pop(self) -> Sequence[SpanRecord]:
        oldest = self._batches.popleft()
        self.ready_spans -= len(oldest)
        self.ready_bytes -= _length(oldest)
        return oldest

    def release(self, spans: int, length: int) -> None:
        self.taken_bytes -= length

    def resize_queue(self) -> None:
        """Batches do not pass the queue."""

    def decide_before(self, order: int) -> None:
        """There is nothing to decide."""

    def mark(self, order: int) -> int | None:
        return self._added

    def is_past(self, mark: int) -> bool:
        return self._added - self.ready_spans >= mark

    @property
    def is_sated(self) -> bool:
        return False

    @property
    def takes_in(self) -> bool:
        return True

    @property
    def due_at(self) -> float:
        return math.inf

    @property
    def is_due(self) -> bool:
        return False

    def look(self, now: float, most: int = NEVER) -> bool:
        return True

    def admit_from(self, threshold: int) -> None:
        """Batches do not pass the queue."""


def _length(records: Sequence[SpanRecord]) -> int:
    return sum([record.length for record in records])
