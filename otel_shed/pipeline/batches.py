"""A queue of batches as a caller has put them together; full means that the oldest batch is dropped whole.

Called in the ledger, as a Store behind the intake. The rule: what is queued and taken stays within ``max_bytes``.
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

    def __init__(self, *, max_batches: int, batch_size: int, max_bytes: int, shed: Shed) -> None:
        """``batch_size``: the most spans that a batch is expected to have."""
        self.max_batches = max_batches
        self._batch_size = batch_size
        self.is_streaming = True
        self._max_bytes = max_bytes
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
    def holds_undecided(self) -> bool:
        return False

    @property
    def held_since(self) -> float:
        return math.inf

    @property
    def fill(self) -> float:
        return len(self._batches) / self.max_batches

    def follow(self, now: float) -> bool:
        return False

    def add_all(self, records: Sequence[SpanRecord], now: float) -> None:
        """A batch like any other."""
        self.add(records)

    def add(self, records: Sequence[SpanRecord]) -> None:
        """Queue a batch."""
        self._batches.append(records)
        self._added += len(records)
        self.ready_spans += len(records)
        self.ready_bytes += _length(records)
        while self._batches and (len(self._batches) > self.max_batches or self.held_bytes > self._max_bytes):
            self._shed(self._pop(), DropReason.QUEUE_FULL)

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

    @property
    def queue_capacity(self) -> int:
        return self.max_batches * self._batch_size

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
