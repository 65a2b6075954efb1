"""Spans of little worth that are left out of a trace that is kept, and the parents that their children get instead.

Owned by the decision on one trace, called in the ledger. The rule that must stay true: of a trace whose spans were all
held, every span that is kept has a parent that is kept, or the one in another process that it came with.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_shed.record import IS_REMOTE, Priority, SpanRecord

# Late spans of one trace that are remembered; beyond that, one that is left out may leave children without a parent.
_MOST_LATE = 1024


class Kin:
    """Who is left out of one trace, and who takes in the children."""

    __slots__ = ("_awaited", "_late", "_min_priority", "_parents")

    def __init__(self, min_priority: Priority) -> None:
        """Spans below ``min_priority`` are left out, but for those that failed and the local root."""
        self._min_priority = min_priority
        # Those left out, and an ancestor that is nearer to the nearest one kept.
        self._parents: dict[int, int] = {}
        # Those that have not ended and have children that are kept.
        self._awaited: set[int] = set()
        self._late = 0

    def parent(self, record: SpanRecord) -> int | None:
        """The parent that it gets, 0 for none; None where its own is kept."""
        parent = record.parent_span_id
        return self._nearest(parent) if parent in self._parents else None

    def part(self, records: Sequence[SpanRecord]) -> tuple[list[SpanRecord], list[SpanRecord]]:
        """The spans of a trace, parted in those that are kept and those left out."""
        kept: list[SpanRecord] = []
        left_out: list[SpanRecord] = []
        for record in records:
            (left_out if self._is_little(record) else kept).append(record)
        # An id of 0 is none, and as a parent says that there is no parent.
        self._parents = {record.span_id: record.parent_span_id for record in left_out if record.span_id}
        ended = {record.span_id for record in records}
        self._awaited = {self._nearest(record.parent_span_id) for record in kept} - ended - {0}
        return kept, left_out

    @property
    def is_any(self) -> bool:
        """Whether there is anybody to remember: one that is left out, or that has not ended and is needed."""
        return bool(self._parents or self._awaited)

    def leaves_out(self, record: SpanRecord) -> bool:
        """Whether a span that ends after the decision is left out: not where one that was kept needs it."""
        is_left_out = record.span_id not in self._awaited and self._is_little(record)
        if self._late < _MOST_LATE and record.span_id:
            self._late += 1
            if is_left_out:
                self._parents[record.span_id] = record.parent_span_id
            else:
                self._awaited.add(self._nearest(record.parent_span_id))
        return is_left_out

    def _is_little(self, record: SpanRecord) -> bool:
        is_local_root = not record.parent_span_id or record.flags & IS_REMOTE
        return record.priority < self._min_priority and not (record.failed or is_local_root)

    def _nearest(self, span_id: int) -> int:
        """The nearest ancestor that is not left out, from ``span_id`` on."""
        parents = self._parents
        passed: list[int] = []
        while (parent := parents.get(span_id)) is not None:
            if len(passed) > len(parents):  # a span that is its own ancestor, as none should be, has no other
                span_id = 0
                break
            passed.append(span_id)
            span_id = parent
        for child in passed:
            parents[child] = span_id
        return span_id
