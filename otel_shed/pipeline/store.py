"""The seam between the intake, through which spans come, and what holds them until the worker takes them.

Everything here is called in the ledger, by whoever sweeps the intake's inbox or by the worker, and must not wait. The
rule: a store tells of each record that it lets go of, and books nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.record import SpanRecord


@dataclass(frozen=True, slots=True)
class Change:
    """What is written anew in a span; None for what stays as it is. threshold: that of ``th``."""

    parent_span_id: int | None
    threshold: int | None


@dataclass(slots=True)
class Batch:
    """What the worker has taken: spans, and what is to be changed in some of them. length: bytes, without changes."""

    records: list[SpanRecord] = field(default_factory=list)
    changes: dict[SpanRecord, Change] = field(default_factory=dict)
    length: int = 0

    def add(self, more: Batch) -> None:
        """Put another one behind it."""
        self.records = [*self.records, *more.records]
        self.changes.update(more.changes)
        self.length += more.length


# Told of records that are let go of, and of why; it books them, and must not wait or raise.
Shed = Callable[[Sequence[SpanRecord], DropReason | Fate], None]


class Store(Protocol):
    """Holds what has been admitted.

    capacity: of the queue that is ready, in spans. ready_spans, ready_bytes: what the worker may take.
    held_bytes: of everything, what the worker has taken and not released included. is_streaming: whether ``add_all``
    does hardly more than to queue what it is given.
    """

    capacity: int
    is_streaming: bool

    @property
    def ready_spans(self) -> int: ...
    @property
    def ready_bytes(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def fill(self) -> float:
        """How full the queue that is ready is, 0..1."""

    @property
    def holds_undecided(self) -> bool:
        """Whether spans are held that are not ready."""

    @property
    def held_since(self) -> float:
        """When the oldest span of those that do not go in the order in which they came did; infinite without such."""

    def add_all(self, entries: Sequence[Any], now: float) -> None:
        """Hold these records, or batches of them; ``now`` in seconds."""

    def take(self, most: int, most_bytes: int) -> Batch:
        """Up to ``most`` records, of ``most_bytes`` at most or a single one; their bytes count until ``release``."""

    def release(self, spans: int, length: int) -> None:
        """The worker is done with so many spans of so many bytes; a negative length for what they have grown by."""

    def mark(self, now: float) -> int:
        """Everything that is held is to go, before what comes from now on; the mark to ask by."""

    def is_past(self, mark: int) -> bool:
        """Whether all that was held at ``mark`` has been taken or let go of."""

    @property
    def due_at(self) -> float:
        """When something is due, or before; infinite if nothing is."""

    def look(self, now: float) -> float | None:
        """Do what is due; the seconds until something is, None if nothing will be."""

    def clear(self) -> None:
        """Forget what is not taken; the caller has booked it."""

    def restart(self) -> None:
        """Forget everything: in a forked child it is the parent's."""
