"""The summary: exact sums by name and kind under threads, honest buckets, bounded whatever the names."""

from __future__ import annotations

import gc
import math
import sys
import threading
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from otel_shed.pipeline.summary import MAX_ROWS, OTHER, SCALE, Summary, SummaryRow, upper_bound
from otel_shed.pipeline.summary_rows import PlainSummaryRows, SummaryRows, Total, bucket_of
from otel_shed.record import Priority, SpanRecord

SERVER = SpanKind.SERVER.value
CLIENT = SpanKind.CLIENT.value
MILLISECOND = 1_000_000

CLASSES = {"plain": PlainSummaryRows, "in use": SummaryRows}
every_class = pytest.mark.parametrize("rows", CLASSES.values(), ids=CLASSES)
only_compiled = pytest.mark.skipif(SummaryRows is PlainSummaryRows, reason="the compiled parts are not built or wanted")
Rows = type[SummaryRows]


def ended(name: str, kind: int, failed: bool, duration_ns: int) -> SpanRecord:
    """The record of a span."""
    status = 2 if failed else 0
    return SpanRecord(1, 1, 0, 1, name, status, duration_ns, Priority.LOW, 0, None, None, None, kind=kind)


@every_class
def test_sums_by_name_and_kind(rows: Rows) -> None:
    """Count, errors, total and maximum of each name and kind, the most frequent first."""
    summary = Summary(rows=rows)
    summary.add("query", CLIENT, False, 5 * MILLISECOND)
    for number in range(1, 4):
        summary.add("GET /", SERVER, number == 2, number * MILLISECOND)
    summary.add("GET /", CLIENT, True, 0)
    told = summary.snapshot()
    assert [(row.name, row.kind, row.count, row.errors) for row in told] == [
        ("GET /", "server", 3, 1),
        ("query", "client", 1, 0),
        ("GET /", "client", 1, 1),
    ]
    assert [told[0].total, told[0].max] == pytest.approx([0.006, 0.003])
    assert sum(told[0].buckets.values()) == 3
    assert summary.count == 5


@every_class
def test_names_are_capped(rows: Rows) -> None:
    """The first thousand names are told apart, the rest is one row called other, and no span is missing."""
    summary = Summary(rows=rows)
    for number in range(1500):
        summary.add(f"GET /users/{number}", SERVER, number % 2 == 0, MILLISECOND)
    told = summary.snapshot()
    assert len(told) == 1001
    assert (told[-1].name, told[-1].kind, told[-1].count, told[-1].errors) == (OTHER, "", 500, 250)
    summary.add("GET /users/7", SERVER, False, MILLISECOND)
    assert summary.snapshot()[0].count == 2
    assert summary.count == 1501


@every_class
def test_a_span_that_is_called_other(rows: Rows) -> None:
    """It has a row of its own, with its kind."""
    summary = Summary(max_rows=1, rows=rows)
    summary.add(OTHER, SERVER, False, 1)
    summary.add("more", SERVER, False, 1)
    assert [(row.name, row.kind) for row in summary.snapshot()] == [(OTHER, "server"), (OTHER, "")]


@every_class
def test_long_names_are_cut(rows: Rows) -> None:
    """A name that carries a whole statement does not cost its length; such names share a row."""
    summary = Summary(rows=rows)
    for number in range(3):
        summary.add("SELECT " * 10_000 + str(number), CLIENT, False, 1)
    (row,) = summary.snapshot()
    assert (row.count, len(row.name)) == (3, 256)


@given(st.integers(min_value=1025, max_value=1 << 55))
@settings(deadline=None)
def test_buckets_are_exponential(duration: int) -> None:
    """A duration lies above its bucket's lower bound and at most at the upper, as the data model has it: exactly."""
    index = bucket_of(duration)
    assert 1 << index < duration**2 <= 1 << index + 1
    assert upper_bound(index) == pytest.approx(math.sqrt(1 << index + 1) / 1e9)
    assert SCALE == 1


@pytest.mark.parametrize("power", [11, 20, 30, 40])
def test_powers_of_two_belong_below(power: int) -> None:
    """Upper bounds are inclusive: 2^n ns goes into the bucket that ends there."""
    assert bucket_of(1 << power) == (power << SCALE) - 1
    assert bucket_of((1 << power) + 1) == power << SCALE


@every_class
@pytest.mark.parametrize("duration", [-(10**30), -1, 0, 1, 1024, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_no_duration_is_refused(duration: int, rows: Rows) -> None:
    """A clock that went back, or a year that is no year, counts in the first or the last bucket."""
    summary = Summary(rows=rows)
    summary.add("odd", SERVER, False, duration)
    (row,) = summary.snapshot()
    assert row.count == sum(row.buckets.values()) == 1
    assert row.total == row.max == max(0, duration) / 1e9
    assert row.buckets == {bucket_of(duration): 1}
    assert len({bucket_of(at) for at in (-1, 0, 1, 1024)}) == 1
    assert bucket_of(10**30) == bucket_of(1 << 55)


@every_class
def test_quantiles_are_within_a_bucket(rows: Rows) -> None:
    """A percentile read from the buckets is at least the true one and at most a bucket above it."""
    random, summary, durations = Random(5), Summary(rows=rows), []
    for _ in range(5000):
        durations.append(int(math.exp(random.gauss(17, 1.5))))
        summary.add("GET /", SERVER, False, durations[-1])
    durations.sort()
    (row,) = summary.snapshot()
    for share in (0.5, 0.9, 0.99, 1.0):
        true = durations[math.ceil(share * len(durations)) - 1] / 1e9
        assert true <= row.quantile(share) * (1 + 1e-9)
        assert row.quantile(share) <= true * math.sqrt(2) * (1 + 1e-9)
    assert row.quantile(1.0) == row.max
    assert SummaryRow("none", "", 0, 0, 0.0, 0.0, {}).quantile(0.5) == 0.0


@every_class
def test_a_snapshot_does_not_change(rows: Rows) -> None:
    """What was read stays as it was."""
    summary = Summary(rows=rows)
    summary.add("GET /", SERVER, False, MILLISECOND)
    (row,) = summary.snapshot()
    summary.add("GET /", SERVER, False, MILLISECOND)
    assert (row.count, sum(row.buckets.values())) == (1, 1)


@every_class
def test_exact_under_threads(rows: Rows) -> None:
    """Eight threads, switched every microsecond, and a reader among them: nothing is lost or counted twice."""
    summary = Summary(max_rows=20, rows=rows)
    threads, each = 8, 3000
    start = threading.Barrier(threads + 1)
    torn: list[SummaryRow] = []

    def add(number: int) -> None:
        start.wait()
        for turn in range(each):
            summary.add(f"name-{(turn * number) % 30}", SERVER, turn % 2 == 0, 1000 * turn)

    workers = [threading.Thread(target=add, args=(number,)) for number in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        start.wait()
        while any(worker.is_alive() for worker in workers):
            torn.extend(row for row in summary.snapshot() if sum(row.buckets.values()) != row.count)
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    told = summary.snapshot()
    assert torn == []
    assert sum(row.count for row in told) == summary.count == threads * each
    assert sum(row.errors for row in told) == threads * each / 2
    assert sum(row.total for row in told) == pytest.approx(threads * sum(range(each)) * 1000 / 1e9)


class Name(str):
    """One that knows how often it was asked for its hash, and what is to happen then."""

    __slots__ = ("asked", "meanwhile")

    def __hash__(self) -> int:
        self.asked = getattr(self, "asked", 0) + 1
        self.meanwhile(self.asked)
        return super().__hash__()

    __eq__ = str.__eq__


def test_a_span_that_ends_in_the_middle_of_another() -> None:
    """A finalizer or a signal handler that ends a span while one is added, on the same thread, waits its turn."""
    summary, name = Summary(rows=PlainSummaryRows), Name("same")

    def meanwhile(asked: int) -> None:
        if asked == 2:  # the row was looked for, not found, and is about to be put there
            summary.add("same", SERVER, False, 1)

    name.meanwhile = meanwhile
    summary.add(name, SERVER, False, 1)
    assert name.asked >= 2
    assert [(row.name, row.count) for row in summary.snapshot()] == [("same", 2)]


@only_compiled
def test_the_compiled_rows_run_no_python() -> None:
    """A name is taken for what it says: a class of its own is not asked, so nothing can end a span in the middle."""
    summary, name = Summary(), Name("same")
    summary.add("same", SERVER, False, 1)
    summary.add_all([ended(name, SERVER, False, 1), ended(Name("x" * 300), SERVER, False, 1)])
    rows = summary.snapshot()
    assert [(row.name, row.count) for row in rows] == [("same", 2), ("x" * 256, 1)]
    assert {type(row.name) for row in rows} == {str}
    assert not gc.is_tracked(SummaryRows(1))


@every_class
def test_a_span_that_ends_while_the_summary_is_read(rows: Rows) -> None:
    """On the same thread: it waits its turn, and counts in the next snapshot."""
    summary = Summary(rows=rows)
    summary.add("GET /", SERVER, False, 1)

    class Interrupted:
        def totals(self) -> list[Total]:
            summary.add("GET /", SERVER, False, 1)
            return read.totals()

        def __getattr__(self, name: str) -> Any:
            return getattr(read, name)

    read, summary.rows = summary.rows, Interrupted()  # type: ignore[assignment]
    assert [row.count for row in summary.snapshot()] == [1]
    assert [row.count for row in summary.snapshot()] == [2]


AROUND_POWERS = st.builds(lambda power, beside: max(0, (1 << power) + beside), st.integers(0, 63), st.integers(-2, 2))
AROUND_ROOTS = st.builds(lambda power, beside: math.isqrt(1 << power) + beside, st.integers(0, 127), st.integers(0, 1))
DURATIONS = st.one_of(
    st.integers(0, (1 << 64) - 1), AROUND_POWERS, AROUND_ROOTS, st.sampled_from([0, 1 << 63, (1 << 64) - 1])
)
SPANS = st.tuples(
    st.sampled_from(["", "a", "b", "é", "\U0001f600", "\udc80", "x" * 256, "x" * 256 + "y", "x" * 255]),
    st.integers(0, 5),
    st.booleans(),
    DURATIONS,
)


@given(st.lists(st.lists(SPANS, max_size=20), max_size=5), st.integers(0, 12))
@settings(deadline=None)
def test_the_rows_in_use_are_the_plain_ones(batches: list[list[tuple[str, int, bool, int]]], max_rows: int) -> None:
    """Whatever is added, one by one or as records, the rows, their order, and the rest are the same."""
    told = []
    for rows in CLASSES.values():
        summary = Summary(max_rows=max_rows, rows=rows)
        for batch in batches:
            summary.add_all([ended(*span) for span in batch])
            for name, kind, failed, duration in batch:
                summary.add(name, kind, failed, -duration)
        told.append((summary.snapshot(), summary.count))
    assert told[0] == told[1]


@every_class
def test_a_total_is_exact(rows: Rows) -> None:
    """Also where it is more than 64 bits."""
    made = rows(1)
    for _ in range(5):
        made.add("long", SERVER, True, (1 << 64) - 1)
    assert made.totals() == [("long", SERVER, 5, 5, 5 * ((1 << 64) - 1), (1 << 64) - 1, {109: 5})]
    assert made.other() == ("", 0, 0, 0, 0, 0, {})


@every_class
def test_names_are_let_go(rows: Rows) -> None:
    """Rows that are gone leave no reference to a name behind, nor does a name that has no row."""
    names = [f"GET /users/{number}" for number in range(MAX_ROWS + 10)]
    before = [sys.getrefcount(name) for name in names]
    made = rows(MAX_ROWS)
    for _ in range(3):
        made.add_all([ended(name, SERVER, False, 1) for name in names])
    assert (len(made.totals()), made.other()[2], made.count) == (MAX_ROWS, 30, 3 * (MAX_ROWS + 10))
    del made
    assert [sys.getrefcount(name) for name in names] == before


@only_compiled
def test_what_is_no_span_is_refused() -> None:
    """And not counted."""
    made = SummaryRows(10)
    for refused in ([None], [ended("a", 0, False, 1), "b"], 7):
        with pytest.raises(TypeError):
            made.add_all(refused)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.add(None, 0, False, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        made.add("a", 0, False, 1.5)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        made.add("a", 0, False, 1 << 64)
    for wrong in (-1, 1 << 40):
        with pytest.raises(ValueError, match="rows"):
            SummaryRows(wrong)
    assert made.count == 1  # of the record before the one that was none


@every_class
def test_restart_begins_anew(rows: Rows) -> None:
    """A forked child sums up its own spans, also if the parent held the lock."""
    summary = Summary(rows=rows)
    summary.add("GET /", SERVER, False, 1)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with summary._lock:
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    summary.restart()
    summary.add("GET /", SERVER, False, 1)
    assert summary.count == 1
    go_on.set()
    thread.join()


@every_class
def test_nobody_waits_to_add(rows: Rows) -> None:
    """Whoever adds may be in the ledger, for which the thread that has the lock may wait; what it left is counted."""
    summary = Summary(rows=rows)
    with summary._lock:
        other = threading.Thread(target=summary.add, args=("GET /", 0, False, 1_000))
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert [(row.name, row.count) for row in summary.snapshot()] == [("GET /", 1)]
