"""A set of trace ids, to which whole batches are added at once.

Owned by what remembers traces, called in the ledger. The rule: an id that was added is in it, and no other. The
compiled class, where it is in use, does the same, with 16 bytes an id and no object for it: all that is sent comes
through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_shed.compiled import extension
from otel_shed.record import SpanRecord, record_class


class TraceIds:
    """Ask it with ``in``, and for its length."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: set[int] = set()

    def add(self, trace_id: int) -> None:
        """It is in here from now on."""
        self._ids.add(trace_id)

    def add_of(self, records: list[SpanRecord]) -> None:
        """Those of these records are."""
        self._ids.update([record.trace_id for record in records])

    def clear(self) -> None:
        """None is."""
        self._ids.clear()

    def __contains__(self, trace_id: int) -> bool:
        return trace_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)


PlainTraceIds = TraceIds

if not TYPE_CHECKING and SpanRecord is getattr(extension, "SpanRecord", None):
    TraceIds = record_class(PlainTraceIds, getattr(extension, "TraceIds", None))
