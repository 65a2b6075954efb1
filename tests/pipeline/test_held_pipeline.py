"""A pipeline that holds traces: what its flush, shutdown, worker and forks make of those that are undecided."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.store import Change, Shed
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict, keep_all
from otel_shed.pipeline.worker import SWEEP_SECONDS, Worker
from otel_shed.record import SpanRecord
from otel_shed.stats import read_stats
from otel_shed.testing.clock import FakeClock
from tests.pipeline.made_records import made_record
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import Stall

TIMEOUT = 30.0
HALF = 1 << 55


class HeldSender(ScriptedSender):
    """Its records have the ids of their spans."""

    def __init__(self, script: Sequence[Outcome | Callable[[Sequence[SpanRecord]], Outcome]] = ()) -> None:
        super().__init__(script)
        self.amended: list[tuple[int, Change]] = []

    def record(self, span: ReadableSpan, limit: int | None = None, /) -> SpanRecord:
        record = super().record(span, limit)
        assert span.context is not None
        record.trace_id, record.span_id = span.context.trace_id, span.context.span_id
        record.parent_span_id = span.parent.span_id if span.parent else 0
        return record

    def amend(self, record: SpanRecord, change: Change) -> int:
        self.amended.append((record.span_id, change))
        return super().amend(record, change)


def made(trace_id: int, span_id: int, parent_id: int = 0) -> ReadableSpan:
    def context(of: int) -> SpanContext:
        return SpanContext(trace_id, of, is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        f"{trace_id}.{span_id}", context(span_id), context(parent_id) if parent_id else None, start_time=1, end_time=2
    )


def holding(policy: Policy = keep_all, *, max_spans: int = 1000, timeout: float = TIMEOUT) -> Callable[[Shed], Traces]:
    return lambda shed: Traces(
        policy=policy,
        shed=shed,
        holds=lambda: True,
        capacity=100,
        max_spans=max_spans,
        max_bytes=1_000_000,
        trace_timeout=timeout,
    )


def make_pipeline(sender: ScriptedSender, store: Callable[[Shed], Traces], grace: float = 3.0) -> Pipeline:
    return Pipeline(
        sender=sender,
        store=store,
        max_held_bytes=1_000_000,
        max_request_bytes=100_000,
        max_export_batch_size=4,
        linger=60.0,
        interval=60.0,
        shutdown_grace=grace,
        clock=time.monotonic,
    )


def shed_odd(trace: TraceView) -> Verdict:
    return Verdict(DropReason.OVER_BUDGET) if trace.trace_id % 2 else Verdict(threshold=HALF)


def test_a_flush_decides_and_delivers() -> None:
    """By the same policy as ever; what it sheds by choice does not fail the flush."""
    sender = HeldSender()
    pipeline = make_pipeline(sender, holding(shed_odd))
    for trace_id in range(4):
        pipeline.admit(made(trace_id, 2, parent_id=1))
    assert read_stats([pipeline]).queued == 4
    assert pipeline.flush(10.0)
    assert sender.sent == [["0.2", "2.2"]]
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped, stats.queued) == (2, {"over_budget": 2}, 0)


def test_a_flush_while_the_sender_hangs_decides_and_ends_at_its_limit() -> None:
    """And what it decided on goes out once the sender is back."""
    stall = Stall()
    sender = HeldSender([stall])
    pipeline = make_pipeline(sender, holding())
    for span_id in range(1, 5):  # a full batch
        pipeline.admit(made(1, 5 - span_id, parent_id=1 if span_id < 4 else 0))
    assert stall.began.wait(10)
    pipeline.admit(made(2, 2, parent_id=1))
    assert not pipeline.flush(0.05)
    store = pipeline.intake.store
    assert isinstance(store, Traces)
    assert (store.ready_spans, store.due_at) == (1, float("inf"))
    stall.go_on.set()
    assert pipeline.flush(10.0)
    assert sender.sent[1] == ["2.2"]


def test_shutdown_decides_and_delivers() -> None:
    """Nothing is left undecided, nothing is lost."""
    sender = HeldSender()
    pipeline = make_pipeline(sender, holding(shed_odd))
    for trace_id in range(6):
        pipeline.admit(made(trace_id, 2, parent_id=1))
    pipeline.shutdown(10.0)
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped, stats.queued) == (3, {"over_budget": 3}, 0)
    assert not pipeline.shutdown_was_lossy
    pipeline.admit(made(8, 2, parent_id=1))
    assert read_stats([pipeline]).dropped["already_shutdown"] == 1


def test_shutdown_that_gives_up_books_what_was_held() -> None:
    """With a sender that hangs: each span once, also when the sender comes back after all."""
    stall = Stall()
    pipeline = make_pipeline(HeldSender([stall]), holding(), grace=0.05)
    for span_id in range(4, 0, -1):
        pipeline.admit(made(1, span_id, parent_id=span_id // 2))
    assert stall.began.wait(10)
    for trace_id in range(2, 7):
        pipeline.admit(made(trace_id, 2, parent_id=1))
    pipeline.shutdown(10.0)
    assert read_stats([pipeline]).dropped == {"shutdown": 9}
    stall.go_on.set()
    assert pipeline.worker_thread is not None
    pipeline.worker_thread.join(10)
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped, stats.unaccounted) == (4, {"shutdown": 5}, 0)
    assert pipeline.intake.store.held_bytes == 0


def test_while_the_sender_hangs_what_is_held_is_bounded_and_decided() -> None:
    """Ten times the bound: of what is kept whole traces go, and late spans with them."""
    stall = Stall()
    sender = HeldSender([stall])
    pipeline = make_pipeline(sender, holding(max_spans=40))
    for span_id in range(4, 0, -1):
        pipeline.admit(made(1 << 55, span_id, parent_id=span_id // 2))
    assert stall.began.wait(10)
    for number in range(100):
        for span_id in (4, 3, 2, 1):
            pipeline.admit(made(number << 49 | 1, span_id, parent_id=span_id // 2))
            store = pipeline.intake.store
            assert isinstance(store, Traces)
            assert store.bounds.spans <= 40
    stall.go_on.set()
    assert pipeline.flush(10.0)
    names = [name.split(".")[0] for batch in sender.sent for name in batch]
    assert {names.count(name) for name in names} == {4}
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped) == (len(names), {"over_budget": 404 - len(names)})


def test_a_child_begins_anew() -> None:
    """What the parent held is ``fork``, and so is nothing that a thread of the parent was about to add."""
    pipeline = make_pipeline(HeldSender(), holding())
    pipeline.admit(made(1, 2, parent_id=1))
    # As if a thread that is not in the child had been stopped in the middle of its step, and another before it.
    store = pipeline.intake.store
    assert isinstance(store, Traces)
    store._undecided.ranked._buckets.clear()
    pipeline.intake.inbox.append(made_record(2, 1))
    pipeline.after_fork_in_child()
    assert pipeline.worker_thread is None  # a child that ends no span needs none
    stats = read_stats([pipeline])
    assert (stats.ended, stats.queued, stats.dropped) == (2, 0, {"fork": 2})
    pipeline.admit(made(3, 2, parent_id=1))
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 1


class Bench:
    """A worker over traces that are held, driven turn by turn."""

    def __init__(self, clock: FakeClock, policy: Policy = keep_all) -> None:
        self.clock = clock
        self.wakes = 0
        self.ledger = Ledger()
        self.intake = Intake(
            ledger=self.ledger, store=holding(policy), max_bytes=1_000_000, clock=clock, wake=self.woken
        )
        self.sender = HeldSender()
        self.worker = Worker(
            intake=self.intake,
            ledger=self.ledger,
            sender=self.sender,
            batch_size=4,
            batch_bytes=5_000,
            linger=5.0,
            interval=5.0,
            clock=clock,
        )

    def woken(self) -> None:
        self.wakes += 1

    def end(self, trace_id: int, span_id: int, parent_id: int = 0) -> bool:
        """Whether the worker was to be woken."""
        before = self.wakes
        self.intake.offer(self.sender.record(made(trace_id, span_id, parent_id)))
        return self.wakes > before


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def test_the_first_undecided_trace_wakes_an_idle_worker(bench: Bench) -> None:
    """Or nobody would decide on a trace whose local root never ends, in a process that goes idle."""
    assert bench.worker.turn() is None
    assert bench.end(1, 2, parent_id=1)
    assert not bench.end(1, 3, parent_id=1)
    assert not bench.end(2, 2, parent_id=1)
    assert bench.worker.turn() == SWEEP_SECONDS
    assert not bench.end(3, 2, parent_id=1)
    bench.clock.advance(SWEEP_SECONDS)
    assert bench.worker.turn() == SWEEP_SECONDS
    bench.clock.advance(SWEEP_SECONDS)
    assert bench.worker.turn() == pytest.approx(TIMEOUT - 2 * SWEEP_SECONDS)
    bench.clock.advance(TIMEOUT)
    assert bench.worker.turn() is None
    assert bench.sender.sent == [["1.2", "1.3", "2.2", "3.2"]]


def test_a_worker_that_looks_before_is_not_woken(bench: Bench) -> None:
    """Nor is one whose traces have all been decided on, by what was due once."""
    bench.end(1, 1)
    assert bench.worker.turn() == 5.0
    assert not bench.end(2, 2, parent_id=1)
    assert not bench.end(2, 1)
    bench.intake.settle_inbox()
    assert not bench.end(3, 2, parent_id=1)
    bench.intake.settle_inbox()
    assert bench.wakes == 1
    bench.clock.advance(5.0)
    bench.worker.turn()
    assert bench.sender.sent == [["1.1", "2.2", "2.1"]]


def test_thresholds_are_written_before_the_batch_is_sent(clock: FakeClock) -> None:
    """And the bytes that spans grow by are held, and released."""
    bench = Bench(clock, shed_odd)
    bench.end(2, 2, parent_id=1)
    bench.end(2, 1)
    held: list[int] = []
    bench.sender.script = [lambda records: held.append(bench.intake.store.held_bytes) or Outcome(len(records))]
    bench.clock.advance(5.0)
    bench.worker.turn()
    bench.clock.advance(5.0)
    bench.worker.turn()
    assert bench.sender.amended == [(2, Change(None, HALF)), (1, Change(None, HALF))]
    assert (held, bench.intake.store.held_bytes) == ([22], 0)


def test_a_span_that_cannot_be_changed_goes_out_as_it_was(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log; the others of the batch are changed, and nothing is lost."""
    bench = Bench(clock, shed_odd)
    amend = bench.sender.amend

    def fails_once(record: SpanRecord, change: Change) -> int:
        if record.span_id == 2:
            raise ZeroDivisionError
        return amend(record, change)

    bench.sender.amend = fails_once  # type: ignore[method-assign]
    bench.end(2, 2, parent_id=1)
    bench.end(2, 1)
    with caplog.at_level(logging.WARNING, "otel_shed"):
        bench.worker.turn()
        bench.clock.advance(5.0)
        bench.worker.turn()
    assert bench.sender.sent == [["2.2", "2.1"]]
    assert [span_id for span_id, _ in bench.sender.amended] == [1]
    assert bench.ledger.account().exported == 2
    assert sum("could not be changed" in line for line in caplog.messages) == 1
