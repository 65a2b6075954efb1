"""Batches as a caller has put them together: kept together, and dropped whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

from otel_shed.outcome import DropReason
from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.ledger import Fate
from otel_shed.record import SpanRecord
from tests.pipeline.made_records import made_record


class Bench:
    """A queue of three batches and 100 bytes, and what it let go of; a record has 10 bytes."""

    def __init__(self) -> None:
        self.shed: list[tuple[int, DropReason | Fate]] = []
        self.batches = Batches(max_batches=3, max_spans=1000, max_bytes=100, shed=self.let_go)
        self.number = 0

    def let_go(self, records: Sequence[SpanRecord], reason: DropReason | Fate) -> None:
        self.shed.extend((record.trace_id, reason) for record in records)

    def add(self, count: int) -> list[SpanRecord]:
        records = [made_record(self.number + place, length=10) for place in range(count)]
        self.number += count
        self.batches.add_all(records, 0.0)
        return records


def test_takes_the_oldest_whole_whatever_is_asked_for() -> None:
    """One at a time; its bytes count until it is released."""
    bench = Bench()
    first, second = bench.add(3), bench.add(1)
    batch = bench.batches.take(1, 1)
    assert (batch.records, batch.changes) == (first, {})
    assert (bench.batches.ready_spans, bench.batches.ready_bytes, bench.batches.held_bytes) == (1, 10, 40)
    bench.batches.release(3, 30)
    assert bench.batches.held_bytes == 10
    assert bench.batches.take(100, 1000).records == second
    assert bench.batches.take(100, 1000).records == []


def test_full_drops_the_oldest_whole() -> None:
    """By number, and by bytes, those in the worker's hands included."""
    bench = Bench()
    for _ in range(4):
        bench.add(2)
    assert bench.shed == [(0, DropReason.QUEUE_FULL), (1, DropReason.QUEUE_FULL)]
    assert bench.batches.fill == 1.0
    bench.batches.take(1, 1)
    bench.add(6)
    assert [number for number, _ in bench.shed[2:]] == [4, 5]
    assert bench.batches.held_bytes == 100


def test_a_batch_beyond_all_bounds_is_dropped() -> None:
    """Alone, with all that was there."""
    bench = Bench()
    bench.add(11)
    assert len(bench.shed) == 11
    assert (bench.batches.ready_spans, bench.batches.held_bytes, bench.batches.fill) == (0, 0, 0.0)


def test_a_mark_is_past_when_all_before_it_has_left() -> None:
    """Taken or dropped; what comes after it is not waited for."""
    bench = Bench()
    bench.add(2)
    mark = bench.batches.mark(0)
    assert mark is not None
    for _ in range(2):
        bench.add(1)
    assert not bench.batches.is_past(mark)
    bench.add(1)
    assert bench.batches.is_past(mark)
    last = bench.batches.mark(0)
    assert last is not None
    for _ in range(3):
        assert not bench.batches.is_past(last)
        bench.batches.take(1, 1)
    assert bench.batches.is_past(last)


def test_nothing_in_it_is_ever_due() -> None:
    """It waits for the worker alone."""
    bench = Bench()
    bench.add(1)
    assert bench.batches.look(0.0)
    assert (bench.batches.due_at, bench.batches.is_due, bench.batches.holds_undecided) == (math.inf, False, False)


def test_batches_do_not_pass_the_queue() -> None:
    """So there is nothing to drain, and as many spans wait as the batches may have."""
    bench = Bench()
    assert not bench.batches.follow(0.0)
    assert bench.batches.is_streaming
    assert bench.batches.queue_capacity == 1000


def test_a_fork_leaves_everything_to_the_parent() -> None:
    """What is taken too."""
    bench = Bench()
    for _ in range(2):
        bench.add(1)
    bench.batches.take(1, 1)
    bench.batches.restart()
    assert (bench.batches.ready_spans, bench.batches.held_bytes, bench.batches.is_past(0)) == (0, 0, True)
    assert bench.shed == []
