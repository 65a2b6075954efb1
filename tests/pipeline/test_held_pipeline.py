"""A pipeline that holds traces: what its flush, shutdown, worker and forks make of those that are undecided."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.intake import DRAIN_SECONDS, Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.store import Change, Shed
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict, keep_all
from otel_shed.pipeline.worker import Worker
from otel_shed.record import SpanRecord
from otel_shed.stats import read_stats
from otel_shed.testing.clock import FakeClock
from tests.interpreter import IS_FREE_THREADED
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


Store = Callable[[Shed, Queue], Traces]


def holding(
    policy: Policy = keep_all,
    *,
    max_spans: int = 1000,
    timeout: float = TIMEOUT,
    holds: Callable[[], bool] = lambda: True,
    max_queue_size: int | None = None,
) -> Store:
    return lambda shed, queue: Traces(
        policy=policy,
        shed=shed,
        queue=queue,
        holds=holds,
        max_queue_size=max_queue_size,
        capacity=100,
        max_spans=max_spans,
        max_bytes=1_000_000,
        trace_timeout=timeout,
    )


def make_pipeline(sender: ScriptedSender, store: Store, grace: float = 3.0) -> Pipeline:
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
            with pipeline.ledger.lock:
                assert store.bounds.spans <= 40
    stall.go_on.set()
    assert pipeline.flush(10.0)
    names = [name.split(".")[0] for batch in sender.sent for name in batch]
    assert {names.count(name) for name in names} == {4}
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped) == (len(names), {"over_budget": 404 - len(names)})


@pytest.mark.skipif(IS_FREE_THREADED, reason="the threads that a child has not go on; tests/faults has real forks")
def test_a_child_begins_anew() -> None:
    """What the parent held, in the queue and behind it, is ``fork``."""
    pipeline = make_pipeline(HeldSender(), holding())
    pipeline.admit(made(1, 2, parent_id=1))
    # As if a thread that is not in the child had been stopped in the middle of its step.
    store = pipeline.intake.store
    assert isinstance(store, Traces)
    store._undecided.ranked._buckets.clear()
    pipeline.ledger.queue.push(made_record(2, 1))
    pipeline.after_fork_in_child()
    assert pipeline.worker_thread is None  # a child that ends no span needs none
    stats = read_stats([pipeline])
    assert (stats.ended, stats.queued, stats.dropped) == (2, 0, {"fork": 2})
    pipeline.admit(made(3, 2, parent_id=1))
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 1


class Bench:
    """A worker over traces that are held, driven turn by turn."""

    def __init__(
        self, clock: FakeClock, policy: Policy = keep_all, max_queue_size: int | None = None, batch_size: int = 4
    ) -> None:
        self.clock = clock
        self.holds = True
        self.wakes = 0
        self.ledger = Ledger()
        self.intake = Intake(
            ledger=self.ledger,
            store=holding(policy, holds=lambda: self.holds, max_queue_size=max_queue_size),
            clock=clock,
            cpu_clock=lambda: 0.0,
            wake=self.woken,
        )
        self.sender = HeldSender()
        self.worker = Worker(
            intake=self.intake,
            ledger=self.ledger,
            sender=self.sender,
            batch_size=batch_size,
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
    assert bench.worker.turn() == math.inf
    assert bench.end(1, 2, parent_id=1)
    assert not bench.end(1, 3, parent_id=1)
    assert not bench.end(2, 2, parent_id=1)
    assert bench.worker.turn() == DRAIN_SECONDS
    assert not bench.end(3, 2, parent_id=1)
    bench.clock.advance(DRAIN_SECONDS)
    assert bench.worker.turn() == DRAIN_SECONDS
    bench.clock.advance(DRAIN_SECONDS)
    assert bench.worker.turn() == pytest.approx(TIMEOUT - 2 * DRAIN_SECONDS)
    bench.clock.advance(TIMEOUT)
    assert bench.worker.turn() == math.inf
    assert bench.sender.sent == [["1.2", "1.3", "2.2", "3.2"]]


def test_a_worker_that_comes_by_itself_is_not_woken(bench: Bench) -> None:
    """While spans keep coming it looks at the queue every few hundredths of a second; then the next one wakes it."""
    bench.end(1, 1)
    assert bench.worker.turn() == DRAIN_SECONDS
    assert not bench.end(2, 2, parent_id=1)
    assert not bench.end(2, 1)
    bench.clock.advance(DRAIN_SECONDS)
    assert bench.worker.turn() == DRAIN_SECONDS
    bench.clock.advance(DRAIN_SECONDS)
    assert bench.worker.turn() == pytest.approx(5.0 - 2 * DRAIN_SECONDS)
    assert bench.wakes == 1
    assert bench.end(3, 2, parent_id=1)
    bench.clock.advance(5.0)
    bench.worker.turn()
    assert bench.sender.sent == [["1.1", "2.2", "2.1"]]


def test_a_flush_is_over_once_all_before_it_has_gone_whatever_the_phase(clock: FakeClock) -> None:
    """It was asked for while spans went straight from the queue; from the next look on, traces are held."""
    bench = Bench(clock)
    bench.holds = False
    bench.worker.turn()
    for trace_id in (1, 2):
        bench.end(trace_id, 2, parent_id=1)
    flush = bench.worker.request_flush(10.0)
    bench.end(3, 2, parent_id=1)
    bench.holds = True
    bench.worker.turn()
    assert flush.done.is_set()
    assert flush.delivered
    assert bench.sender.sent == [["1.2", "2.2"]]
    assert bench.intake.store.holds_undecided  # what came after it is held as ever


@pytest.mark.parametrize("holds", [True, False])
def test_a_full_queue_is_sent_though_a_batch_may_have_more(clock: FakeClock, holds: bool) -> None:
    """Traces may take seven eighths of a queue that is no larger than a batch: half of it is enough for one."""
    bench = Bench(clock, max_queue_size=32, batch_size=32)
    bench.end(1, 2, parent_id=1)
    bench.worker.turn()
    bench.holds = holds  # of a trace that is held, all is: the others do not go straight from the queue
    for number in range(16):
        bench.end(number << 50, 1)
    bench.worker.turn()
    assert bench.sender.sent == [[f"{number << 50}.1" for number in range(16)]]
    assert bench.ledger.account().dropped == {}


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
