"""The rows of the summary: spans added up by name and kind.

Owned by the Summary, which lets one thread in at a time. The rule: there are so many rows and no more, whatever the
names are; the rest is one total. The compiled class, where it is in use, does the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import StatusCode

from otel_shed.compiled import extension
from otel_shed.record import SpanRecord, record_class

# Name, kind, count, errors, total and longest duration in ns, and how many spans in each bucket that has any.
Total = tuple[str, int, int, int, int, int, dict[int, int]]

# What of a name tells it apart; a name that carries a whole statement must not cost its length a thousand times.
_MAX_NAME: Final = 256

# Two buckets per doubling, scale 1 of OpenTelemetry's exponential histograms: bucket i holds what is more than 2^(i/2)
# and at most 2^((i+1)/2) ns. A percentile read from it is off by 19 % at most.
# What is shorter than a microsecond, or longer than a year, is not told apart: so a row has 91 buckets at most.
_LOWEST: Final = 19
_SHORTEST: Final = 1 << 10
_LONGEST: Final = 1 << 55
_ROOT_OF_TWO: Final = math.isqrt(1 << 127)  # times 2^63

_ERROR: Final = StatusCode.ERROR.value


def bucket_of(duration_ns: int) -> int:
    """The index of the bucket for a duration in nanoseconds."""
    if duration_ns <= _SHORTEST:
        return _LOWEST
    duration_ns = min(duration_ns, _LONGEST)
    power = (duration_ns - 1).bit_length() - 1  # of two, that it is above
    return 2 * power + (duration_ns > _ROOT_OF_TWO >> (63 - power))


class _Row:
    __slots__ = ("buckets", "count", "errors", "max_ns", "total_ns")

    def __init__(self) -> None:
        self.count = 0
        self.errors = 0
        self.total_ns = 0
        self.max_ns = 0
        self.buckets: dict[int, int] = {}

    def total(self, name: str, kind: int) -> Total:
        return name, kind, self.count, self.errors, self.total_ns, self.max_ns, dict(self.buckets)


class SummaryRows:
    """At most ``max_rows`` pairs of name and kind, and the rest. count: how many spans were added."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._rows: dict[tuple[str, int], _Row] = {}
        self._other = _Row()

    def add(self, name: str, kind: int, failed: bool, duration_ns: int) -> None:
        """Count one span. kind: the value of its SpanKind. failed: whether its status is ERROR."""
        if len(name) > _MAX_NAME:
            name = name[:_MAX_NAME]
        row = self._rows.get((name, kind))
        if row is None:
            if len(self._rows) < self._max_rows:
                row = self._rows[name, kind] = _Row()
            else:
                row = self._other
        row.count += 1
        if failed:
            row.errors += 1
        if duration_ns > 0:  # a clock that went back made it negative
            row.total_ns += duration_ns
            row.max_ns = max(row.max_ns, duration_ns)
        index = bucket_of(duration_ns)
        row.buckets[index] = row.buckets.get(index, 0) + 1

    def add_all(self, records: Sequence[SpanRecord]) -> None:
        """Count the spans of these records."""
        for record in records:
            self.add(record.name, record.kind, record.status == _ERROR, record.duration_ns)

    def clear(self) -> None:
        """Forget all."""
        self._rows.clear()
        self._other = _Row()

    def totals(self) -> list[Total]:
        """Of each row."""
        return [row.total(name, kind) for (name, kind), row in self._rows.items()]

    def other(self) -> Total:
        """Of the rest."""
        return self._other.total("", 0)

    @property
    def count(self) -> int:
        return self._other.count + sum([row.count for row in self._rows.values()])


PlainSummaryRows = SummaryRows

if not TYPE_CHECKING and SpanRecord is getattr(extension, "SpanRecord", None):
    SummaryRows = record_class(PlainSummaryRows, getattr(extension, "SummaryRows", None))
