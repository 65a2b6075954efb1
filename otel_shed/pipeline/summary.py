"""What is kept of spans that are shed: by name and kind how many, how many of them failed, and how long they took.

Application threads and the threads behind the queue add, also in the ledger, so ``add`` never waits: it appends the
span to ``_arrivals``, and whichever thread has the one small lock adds it up. A signal handler that ends a span may
have interrupted just that thread: to wait for it would be for ever. The compiled queue adds to ``rows`` itself, in one
step. The rule: what is held is bounded, whatever the names are: 1,000 rows, the rest in one that is called ``other``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import SpanKind

from otel_shed.native import allocate_rlock
from otel_shed.pipeline.summary_rows import SummaryRows, Total
from otel_shed.record import SpanRecord

MAX_ROWS: Final = 1000
OTHER: Final = "other"
# Of OpenTelemetry's exponential histograms: buckets per doubling are 2^SCALE. See summary_rows.bucket_of.
SCALE: Final = 1

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
    return float(2.0 ** ((index + 1) / (1 << SCALE))) / 1e9


class Summary:
    """Adds up spans that are shed; see the module."""

    __slots__ = ("__dict__", "__weakref__", "_lock")

    def __init__(self, *, max_rows: int = MAX_ROWS, rows: Callable[[int], SummaryRows] = SummaryRows) -> None:
        """``max_rows``: pairs of name and kind that are told apart. ``rows`` makes the place for so many."""
        # The compiled queue counts in these too, in one step with what it evicts.
        self.rows = rows(max_rows)
        self.restart()

    def restart(self) -> None:
        """Begin anew with a new lock: in a forked child the old one may be held by a thread that is gone."""
        self._lock = allocate_rlock()
        self._is_busy = False
        # Records, or what ``add`` was given.
        self._arrivals: deque[list[SpanRecord] | tuple[str, int, bool, int]] = deque()
        self.rows.clear()

    def add(self, name: str, kind: int, failed: bool, duration_ns: int) -> None:
        """Count one span. kind: the value of its SpanKind. failed: whether its status is ERROR."""
        self._arrivals.append((name, kind, failed, duration_ns))
        self._settle()

    def add_all(self, records: Sequence[SpanRecord]) -> None:
        """Count the spans of these records."""
        self._arrivals.append(list(records))
        self._settle()

    def _settle(self, wait: bool = False) -> None:
        """Add up what has come, unless another thread is at it, which then does; or ``wait`` for that one."""
        arrivals, lock = self._arrivals, self._lock
        while arrivals and lock.acquire(wait):
            try:
                if self._is_busy:  # this thread was interrupted in the middle of it, and goes on
                    return
                self._is_busy = True
                try:
                    while arrivals:
                        came = arrivals.popleft()
                        if isinstance(came, list):
                            self.rows.add_all(came)
                        else:
                            self.rows.add(*came)
                finally:
                    self._is_busy = False
            finally:
                lock.release()

    def snapshot(self) -> tuple[SummaryRow, ...]:
        """All rows, the most frequent first, ``other`` last if anything is in it; each row is consistent in itself."""
        self._settle(wait=True)
        with self._lock:
            # A finalizer that ends a span in the middle of this leaves it, or a row would be torn.
            was_busy, self._is_busy = self._is_busy, True
            try:
                totals, other = self.rows.totals(), self.rows.other()
            finally:
                self._is_busy = was_busy
        self._settle()
        frozen = [_frozen(total[0], _KINDS.get(total[1], ""), total) for total in totals]
        frozen.sort(key=lambda row: row.count, reverse=True)
        rest = _frozen(OTHER, "", other)
        return (*frozen, rest) if rest.count else tuple(frozen)

    @property
    def count(self) -> int:
        """How many spans were added."""
        self._settle(wait=True)
        with self._lock:
            return self.rows.count


def _frozen(name: str, kind: str, total: Total) -> SummaryRow:
    _, _, count, errors, total_ns, max_ns, buckets = total
    return SummaryRow(name, kind, count, errors, total_ns / 1e9, max_ns / 1e9, buckets)
