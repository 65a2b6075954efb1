"""What is kept of spans that are shed: by name and kind how many, how many of them failed, and how long they took.

Application threads and the worker add, also in the ledger, so ``add`` never waits: it leaves the span in an inbox, and
whoever has the one small lock adds it up. A signal handler that ends a span may have interrupted just that thread, and
wait for the ledger: if it were waited for in there, that would be for ever. The rule: what is held is bounded, whatever
the names are: 1,000 rows, the rest in one that is called ``other``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import SpanKind, StatusCode

from otel_shed.native import allocate_rlock
from otel_shed.record import SpanRecord

MAX_ROWS: Final = 1000
OTHER: Final = "other"
# What of a name tells it apart; a name that carries a whole statement must not cost its length a thousand times.
_MAX_NAME: Final = 256

# Buckets per doubling: the scale of OpenTelemetry's exponential histograms, in which bucket i holds what is more than
# 2^(i/2) and at most 2^((i+1)/2) ns. A percentile read from it is off by 19 % at most.
SCALE: Final = 1
_PER_DOUBLING: Final = 1 << SCALE
# What is shorter than a microsecond, or longer than a year, is not told apart: so a row has 90 buckets at most.
_LOWEST: Final = 10 * _PER_DOUBLING - 1
_SHORTEST: Final = 1 << 10
_LONGEST: Final = 1 << 55

_ERROR: Final = StatusCode.ERROR.value
_KINDS: Final[Mapping[int, str]] = {kind.value: kind.name.lower() for kind in SpanKind}


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """The spans of one name and kind that were shed; durations in seconds.

    kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``; empty for the row ``other``.
    buckets: how many spans in each bucket that has any, by its index at scale 1 of OpenTelemetry's exponential
    histograms of nanoseconds: ``upper_bound(index)`` says what it reaches to.
    """

    name: str
    kind: str
    count: int
    errors: int
    total: float
    max: float
    buckets: Mapping[int, int]

    def quantile(self, share: float) -> float:
        """The duration in seconds that so large a share, 0..1, of the spans did not exceed, to within a bucket."""
        wanted = share * self.count
        passed = 0
        for index in sorted(self.buckets):
            passed += self.buckets[index]
            if passed >= wanted:
                return min(upper_bound(index), self.max)
        return self.max


def upper_bound(index: int) -> float:
    """The longest duration, in seconds, that goes into a bucket."""
    return float(2.0 ** ((index + 1) / _PER_DOUBLING)) / 1e9


def bucket_of(duration_ns: int) -> int:
    """The index of the bucket for a duration in nanoseconds."""
    if duration_ns <= _SHORTEST:
        return _LOWEST
    return math.ceil(math.log2(min(duration_ns, _LONGEST)) * _PER_DOUBLING) - 1


class _Row:
    __slots__ = ("buckets", "count", "errors", "max_ns", "total_ns")

    def __init__(self) -> None:
        self.count = 0
        self.errors = 0
        self.total_ns = 0
        self.max_ns = 0
        self.buckets: dict[int, int] = {}


class Summary:
    """Adds up spans that are shed; see the module."""

    def __init__(self, *, max_rows: int = MAX_ROWS) -> None:
        """``max_rows``: pairs of name and kind that are told apart."""
        self._max_rows = max_rows
        self.restart()

    def restart(self) -> None:
        """Begin anew with a new lock: in a forked child the old one may be held by a thread that is gone."""
        self._lock = allocate_rlock()
        self._adding = False
        self._inbox: deque[Iterable[tuple[str, int, bool, int]]] = deque()
        self._rows: dict[tuple[str, int], _Row] = {}
        self._other = _Row()

    def add(self, name: str, kind: int, failed: bool, duration_ns: int) -> None:
        """Count one span. kind: the value of its SpanKind. failed: whether its status is ERROR."""
        self._inbox.append([(name, kind, failed, duration_ns)])
        self._settle()

    def add_all(self, records: Sequence[SpanRecord]) -> None:
        """Count the spans of these records."""
        self._inbox.append([(each.name, each.kind, each.status == _ERROR, each.duration_ns) for each in records])
        self._settle()

    def _settle(self, wait: bool = False) -> None:
        """Add up what has come, unless another thread is at it, which then does; or ``wait`` for that one."""
        inbox, lock = self._inbox, self._lock
        while inbox and lock.acquire(wait):
            try:
                if self._adding:  # by this thread, which was interrupted and goes on
                    return
                self._adding = True
                try:
                    while inbox:
                        for span in inbox.popleft():
                            self._add(*span)
                finally:
                    self._adding = False
            finally:
                lock.release()

    def _add(self, name: str, kind: int, failed: bool, duration_ns: int) -> None:
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

    def snapshot(self) -> tuple[SummaryRow, ...]:
        """All rows, the most frequent first, ``other`` last if anything is in it; each row is consistent in itself."""
        self._settle(wait=True)
        with self._lock:
            rows = list(self._rows.items())
        frozen = [self._frozen(name, _KINDS.get(kind, ""), row) for (name, kind), row in rows]
        frozen.sort(key=lambda row: row.count, reverse=True)
        other = self._frozen(OTHER, "", self._other)
        return (*frozen, other) if other.count else tuple(frozen)

    def _frozen(self, name: str, kind: str, row: _Row) -> SummaryRow:
        with self._lock:
            return SummaryRow(
                name, kind, row.count, row.errors, row.total_ns / 1e9, row.max_ns / 1e9, dict(row.buckets)
            )

    @property
    def count(self) -> int:
        """How many spans were added."""
        self._settle(wait=True)
        with self._lock:
            return self._other.count + sum(row.count for row in self._rows.values())
