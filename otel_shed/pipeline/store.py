"""The seam between the intake, through which spans come, and what holds them until the export thread takes them.

Everything here is called in the ledger, by the decision thread or by the export thread, and must not wait. The rule: a
store tells of each record that it lets go of, and books nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.queue import NEVER
from otel_shed.record import SpanRecord


@dataclass(frozen=True, slots=True)
class Change:
    """What is written anew in a span; None for what stays as it is. threshold: that of ``th``."""

    parent_span_id: int | None
    threshold: int | None


@dataclass(slots=True)
class Batch:
    """What the worker has taken: spans, and what is to be changed in some of them.

    length: bytes, without changes. popped: so many of the last ones come straight from the queue.
    """

    records: list[SpanRecord] = field(default_factory=list)
    changes: dict[SpanRecord, Change] = field(default_factory=dict)
    length: int = 0
    popped: int = 0

    def add(self, more: Batch) -> None:
        """Put another one behind it."""
        self.records = [*self.records, *more.records]
        self.changes.update(more.changes)
        self.length += more.length
        self.popped += more.popped


# Told of records that are let go of, and of why; it books them, and must not wait or raise.
Shed = Callable[[Sequence[SpanRecord], DropReason | Fate], None]


class Store(Protocol):
    """Holds what was popped from the queue, or a queue of its own.

    queue_capacity: the most spans that may wait. ready_spans, ready_bytes: what
    the worker may take. held_bytes: of everything, what the worker has taken and not released included. is_streaming:
    whether the worker takes straight from the queue, and nothing has to be decided.
    """

    is_streaming: bool

    @property
    def queue_capacity(self) -> int: ...
    @property
    def ready_spans(self) -> int: ...
    @property
    def ready_bytes(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def fill(self) -> float:
        """How full what waits is, 0..1, as the control sees it."""

    @property
    def utilization(self) -> float:
        """How much of what may be held is, 0..1, in spans or in bytes."""

    @property
    def undecided_spans(self) -> int:
        """Spans that wait for a decision."""

    @property
    def holds_undecided(self) -> bool:
        """Whether spans are held that are not ready."""

    @property
    def held_since(self) -> float:
        """When the oldest span of those that do not go in the order in which they came did; infinite without such."""

    def follow(self, now: float) -> bool:
        """Do as the control wants; whether the queue is to be drained in here."""

    def drain(self, most: int) -> list[SpanRecord]:
        """Up to ``most`` records of the queue, to be held now."""

    def add_all(self, records: Sequence[SpanRecord], now: float) -> None:
        """Hold these records; ``now`` in seconds."""

    def take(self, most: int, most_bytes: int) -> Batch:
        """Up to ``most`` records, of ``most_bytes`` at most or a single one; their bytes count until ``release``."""

    def release(self, spans: int, length: int) -> None:
        """The worker is done with so many spans of so many bytes; a negative length for what they have grown by."""

    def resize_queue(self) -> None:
        """Have the queue hold what is left of the bounds."""

    def decide_before(self, order: int) -> None:
        """Decide at once on what came before this order of the queue."""

    def mark(self, order: int) -> int | None:
        """The mark to ask by whether what came before this order is gone; None while some is queued or undecided."""

    def is_past(self, mark: int) -> bool:
        """Whether all that was held at ``mark`` was taken or let go of."""

    @property
    def is_sated(self) -> bool:
        """Whether so much of what may be held is ready that a batch must not wait for more."""

    @property
    def takes_in(self) -> bool:
        """Whether the queue is to be drained now; else what waits is better left there."""

    @property
    def due_at(self) -> float:
        """When something is due, or before; infinite if nothing is."""

    @property
    def is_due(self) -> bool:
        """Whether something is due now, whatever the time is."""

    def look(self, now: float, most: int = NEVER) -> bool:
        """Do up to ``most`` things that are due; whether that was all."""

    def admit_from(self, threshold: int) -> None:
        """Have the queue refuse records of traces whose randomness is below ``threshold``."""

    def clear(self) -> None:
        """Forget what is not taken; the caller has booked it."""

    def restart(self) -> None:
        """Forget everything: in a forked child it is the parent's."""
