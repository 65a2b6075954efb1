"""The summary: exact sums by name and kind under threads, honest buckets, bounded whatever the names."""

from __future__ import annotations

import math
import sys
import threading
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from otel_shed.pipeline.summary import OTHER, SCALE, Summary, SummaryRow, bucket_of, upper_bound

SERVER = SpanKind.SERVER.value
CLIENT = SpanKind.CLIENT.value
MILLISECOND = 1_000_000


def test_sums_by_name_and_kind() -> None:
    """Count, errors, total and maximum of each name and kind, the most frequent first."""
    summary = Summary()
    summary.add("query", CLIENT, False, 5 * MILLISECOND)
    for number in range(1, 4):
        summary.add("GET /", SERVER, number == 2, number * MILLISECOND)
    summary.add("GET /", CLIENT, True, 0)
    rows = summary.snapshot()
    assert [(row.name, row.kind, row.count, row.errors) for row in rows] == [
        ("GET /", "server", 3, 1),
        ("query", "client", 1, 0),
        ("GET /", "client", 1, 1),
    ]
    assert [rows[0].total, rows[0].max] == pytest.approx([0.006, 0.003])
    assert sum(rows[0].buckets.values()) == 3
    assert summary.count == 5


def test_names_are_capped() -> None:
    """The first thousand names are told apart, the rest is one row called other, and no span is missing."""
    summary = Summary()
    for number in range(1500):
        summary.add(f"GET /users/{number}", SERVER, number % 2 == 0, MILLISECOND)
    rows = summary.snapshot()
    assert len(rows) == 1001
    assert (rows[-1].name, rows[-1].kind, rows[-1].count, rows[-1].errors) == (OTHER, "", 500, 250)
    summary.add("GET /users/7", SERVER, False, MILLISECOND)
    assert summary.snapshot()[0].count == 2
    assert summary.count == 1501


def test_a_span_that_is_called_other() -> None:
    """It has a row of its own, with its kind."""
    summary = Summary(max_rows=1)
    summary.add(OTHER, SERVER, False, 1)
    summary.add("more", SERVER, False, 1)
    assert [(row.name, row.kind) for row in summary.snapshot()] == [(OTHER, "server"), (OTHER, "")]


def test_long_names_are_cut() -> None:
    """A name that carries a whole statement does not cost its length; such names share a row."""
    summary = Summary()
    for number in range(3):
        summary.add("SELECT " * 10_000 + str(number), CLIENT, False, 1)
    (row,) = summary.snapshot()
    assert (row.count, len(row.name)) == (3, 256)


@given(st.integers(min_value=1025, max_value=1 << 55))
@settings(deadline=None)
def test_buckets_are_exponential(duration: int) -> None:
    """A duration lies above its bucket's lower bound and at most at the upper, as the data model has it."""
    index = bucket_of(duration)
    base = 2 ** (2**-SCALE)
    assert base**index * (1 - 1e-12) < duration <= base ** (index + 1) * (1 + 1e-12)
    assert upper_bound(index) == pytest.approx(base ** (index + 1) / 1e9)


@pytest.mark.parametrize("power", [11, 20, 30, 40])
def test_powers_of_two_belong_below(power: int) -> None:
    """Upper bounds are inclusive: 2^n ns goes into the bucket that ends there."""
    assert bucket_of(1 << power) == (power << SCALE) - 1
    assert bucket_of((1 << power) + 1) == power << SCALE


@pytest.mark.parametrize("duration", [-(10**30), -1, 0, 1, 1024, 10**30])
def test_no_duration_is_refused(duration: int) -> None:
    """A clock that went back, or a year that is no year, counts in the first or the last bucket."""
    summary = Summary()
    summary.add("odd", SERVER, False, duration)
    (row,) = summary.snapshot()
    assert row.count == sum(row.buckets.values()) == 1
    assert row.total == row.max == max(0, duration) / 1e9
    assert len({bucket_of(at) for at in (-1, 0, 1, 1024)}) == 1
    assert bucket_of(10**30) == bucket_of(1 << 55)


def test_quantiles_are_within_a_bucket() -> None:
    """A percentile read from the buckets is at least the true one and at most a bucket above it."""
    random, summary, durations = Random(5), Summary(), []
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


def test_a_snapshot_does_not_change() -> None:
    """What was read stays as it was."""
    summary = Summary()
    summary.add("GET /", SERVER, False, MILLISECOND)
    (row,) = summary.snapshot()
    summary.add("GET /", SERVER, False, MILLISECOND)
    assert (row.count, sum(row.buckets.values())) == (1, 1)


def test_exact_under_threads() -> None:
    """Eight threads, switched every microsecond, and a reader among them: nothing is lost or counted twice."""
    summary = Summary(max_rows=20)
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
    rows = summary.snapshot()
    assert torn == []
    assert sum(row.count for row in rows) == summary.count == threads * each
    assert sum(row.errors for row in rows) == threads * each / 2
    assert sum(row.total for row in rows) == pytest.approx(threads * sum(range(each)) * 1000 / 1e9)


def test_a_span_that_ends_in_the_middle_of_another() -> None:
    """A finalizer or a signal handler that ends a span while one is added, on the same thread, waits its turn."""
    summary = Summary()

    class Name(str):
        __slots__ = ()
        hashed = 0

        def __hash__(self) -> int:
            Name.hashed += 1
            if Name.hashed == 2:  # the row was looked for, not found, and is about to be put there
                summary.add("same", SERVER, False, 1)
            return super().__hash__()

        __eq__ = str.__eq__

    summary.add(Name("same"), SERVER, False, 1)
    assert Name.hashed >= 2
    assert summary.count == 2


def test_restart_begins_anew() -> None:
    """A forked child sums up its own spans, also if the parent held the lock."""
    summary = Summary()
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


def test_nobody_waits_to_add() -> None:
    """Whoever adds may be in the ledger, for which the thread that has the lock may wait; what it left is counted."""
    summary = Summary()
    with summary._lock:
        other = threading.Thread(target=summary.add, args=("GET /", 0, False, 1_000))
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert [(row.name, row.count) for row in summary.snapshot()] == [("GET /", 1)]
