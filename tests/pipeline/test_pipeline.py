"""A pipeline with its thread: what admit, flush and shutdown promise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from otel_shed.log_limit import PREFIX
from otel_shed.native import WorkerThread, start_thread
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.flush import Flush
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.record import Priority, SpanRecord
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.stores import batches, streaming


def make_pipeline(sender: ScriptedSender, **changes: object) -> Pipeline:
    settings: dict[str, object] = {
        "max_held_bytes": 1_000_000,
        "max_request_bytes": 100_000,
        "max_export_batch_size": 4,
        "linger": 60.0,
        "interval": 60.0,
        "shutdown_grace": 3.0,
        "clock": time.monotonic,
    }
    capacity, max_batches = changes.pop("capacity", 100), changes.pop("max_batches", None)
    max_bytes = int(str((settings | changes)["max_held_bytes"]))
    store = (
        streaming(capacity=int(str(capacity)), max_bytes=max_bytes)
        if max_batches is None
        else batches(max_batches=int(str(max_batches)), max_bytes=max_bytes)
    )
    return Pipeline(sender=sender, store=store, **(settings | changes))  # type: ignore[arg-type]


class Stall:
    """An answer of a sender that hangs until it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, records: Sequence[SpanRecord]) -> Outcome:
        self.began.set()
        assert self.go_on.wait(30)
        return Outcome(accepted=len(records))


def test_starts_no_thread_before_the_first_span() -> None:
    """A processor that no span has reached has no thread, so that a server may fork first."""
    pipeline = make_pipeline(ScriptedSender())
    assert pipeline.worker_thread is None
    pipeline.admit(ended_span())
    assert pipeline.worker_thread is not None


def test_flush_delivers() -> None:
    """After a flush everything that ended before it is exported."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    for _ in range(10):
        pipeline.admit(ended_span())
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 10


def test_flush_gives_up_at_its_limit() -> None:
    """A flush returns False at the time limit while the exporter hangs, and the worker goes on."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]))
    pipeline.admit(ended_span())
    assert not pipeline.flush(0.05)
    stall.go_on.set()
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 1


def test_flush_of_nothing_is_true() -> None:
    """With nothing queued a flush succeeds at once, and needs no thread that is there already."""
    assert make_pipeline(ScriptedSender()).flush(10.0)


def test_flush_from_within_an_export_does_not_wait_for_itself() -> None:
    """An exporter that flushes the provider it hangs on is told no at once."""
    answers: list[bool] = []
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)

    def flushes(records: Sequence[SpanRecord]) -> Outcome:
        answers.append(pipeline.flush(30.0))
        return Outcome(accepted=len(records))

    sender.script = [flushes]
    pipeline.admit(ended_span())
    assert pipeline.flush(10.0)
    assert answers == [False]


def test_what_cannot_be_encoded_is_counted_and_harms_nobody() -> None:
    """A span that the encoder refuses costs itself alone."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    for name in ("one", "bad", "two"):
        pipeline.admit(ended_span(name))
    pipeline.flush(10.0)
    assert sender.sent == [["one", "two"]]
    assert read_stats([pipeline]).dropped == {"encode_failed": 1}


def test_what_is_too_large_for_any_request_is_dropped_alone() -> None:
    """A span over the request's limit is dropped when it ends, before it can hold anything up."""
    sender = ScriptedSender()
    sender.limit = 1_000
    pipeline = make_pipeline(sender)
    for name in ("one:10", "big:1001", "two:10"):
        pipeline.admit(ended_span(name))
    pipeline.flush(10.0)
    assert sender.sent == [["one:10", "two:10"]]
    assert read_stats([pipeline]).dropped == {"too_large": 1}


def test_shutdown_drains_then_closes_once() -> None:
    """Shutdown delivers what is held, then shuts the exporter down exactly once, however many call it."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    for _ in range(10):
        pipeline.admit(ended_span())
    callers = [threading.Thread(target=pipeline.shutdown, args=(10.0,)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    pipeline.admit(ended_span())
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped, stats.shutdown_was_lossy) == (10, {"already_shutdown": 1}, False)
    assert sender.calls.count("shutdown") == 1


def test_shutdown_without_a_span_closes_the_exporter() -> None:
    """A processor that was never used still shuts its exporter down."""
    sender = ScriptedSender()
    make_pipeline(sender).shutdown(10.0)
    assert sender.calls == ["hurry", "flush", "shutdown"]


def test_shutdown_gives_up_after_the_grace_and_tells(caplog: pytest.LogCaptureFixture) -> None:
    """Without progress for the grace, what is left is counted, flagged, told in one line, and the exporter aborted."""
    caplog.set_level(logging.WARNING, "otel_shed")
    stall = Stall()
    sender = ScriptedSender([stall])
    pipeline = make_pipeline(sender, shutdown_grace=0.05)
    for _ in range(10):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    pipeline.shutdown(30.0)
    stats = read_stats([pipeline])
    assert (stats.exported, stats.dropped, stats.shutdown_was_lossy) == (0, {"shutdown": 10}, True)
    assert "abort" in sender.calls
    assert [entry.getMessage().removeprefix(PREFIX) for entry in caplog.records] == [
        "at the end 10 of 10 spans had not been delivered to the collector: 10 still waiting when shutdown gave up. "
        "The program was not affected (to see why, run: otel-shed doctor)"
    ]
    stall.go_on.set()
    assert pipeline.worker_thread is not None
    pipeline.worker_thread.join(10)
    assert read_stats([pipeline]).exported == 4, "parity B5: reconciled with what was delivered after all"
    assert read_stats([pipeline]).dropped == {"shutdown": 6}


def test_shutdown_ends_at_its_limit_in_spite_of_progress() -> None:
    """An exporter that makes progress, but too slowly, is given up at the time limit."""

    def slow(records: Sequence[SpanRecord]) -> Outcome:
        time.sleep(0.02)
        return Outcome(accepted=len(records))

    pipeline = make_pipeline(ScriptedSender([slow] * 100), max_export_batch_size=1)
    for _ in range(60):
        pipeline.admit(ended_span())
    began = time.monotonic()
    pipeline.shutdown(0.3)
    assert time.monotonic() - began < 1.0
    stats = read_stats([pipeline])
    assert stats.dropped["shutdown"] > 0
    assert stats.unaccounted == 0


def test_every_span_admitted_before_shutdown_is_accounted_for() -> None:
    """Parity B1: producers that race with shutdown lose nothing without its being counted."""
    pipeline = make_pipeline(ScriptedSender(), capacity=10_000)
    start = threading.Barrier(5)

    def produce() -> None:
        start.wait()
        for _ in range(2_000):
            pipeline.admit(ended_span())

    producers = [threading.Thread(target=produce) for _ in range(4)]
    for producer in producers:
        producer.start()
    start.wait()
    pipeline.shutdown(10.0)
    for producer in producers:
        producer.join()
    stats = read_stats([pipeline])
    assert stats.ended == 8_000
    assert stats.exported + stats.dropped.get("already_shutdown", 0) == 8_000


def test_never_two_export_calls_at_once() -> None:
    """Export calls are made one at a time, whoever flushes."""
    active = 0
    most = 0

    def counted(records: Sequence[SpanRecord]) -> Outcome:
        nonlocal active, most
        active += 1
        most = max(most, active)
        time.sleep(0)
        active -= 1
        return Outcome(accepted=len(records))

    pipeline = make_pipeline(ScriptedSender([counted] * 10_000), capacity=10_000)

    def use() -> None:
        for _ in range(50):
            pipeline.admit(ended_span())
            pipeline.flush(10.0)

    users = [threading.Thread(target=use) for _ in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert most == 1


def test_a_span_that_ends_inside_on_end_does_not_deadlock() -> None:
    """A signal handler or finalizer that ends a span on a thread that holds the lock gets through."""
    pipeline = make_pipeline(ScriptedSender())
    with pipeline.ledger.lock:
        pipeline.admit(ended_span())
    assert pipeline.account().queued == 1


def test_a_worker_that_died_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parity B6: when the thread is gone, the next span that asks for it starts another."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    died = threading.Event()

    def die() -> None:
        died.set()

    monkeypatch.setattr(pipeline, "_run", die)
    pipeline.admit(ended_span())
    assert died.wait(10)
    assert pipeline.worker_thread is not None
    pipeline.worker_thread.join(10)
    monkeypatch.undo()
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 1


def test_without_a_thread_shutdown_delivers_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started any more, as at interpreter exit, the caller of shutdown does the work."""

    def no_thread(**_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr("otel_shed.pipeline.pipeline.start_thread", no_thread)
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    pipeline.shutdown(10.0)
    assert read_stats([pipeline]).exported == 1
    assert sender.calls == ["hurry", "flush", "shutdown"]


def test_without_a_thread_flushes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while another caller's export is under way waits for what becomes of it, and is told of the loss."""

    def no_thread(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("otel_shed.pipeline.pipeline.start_thread", no_thread)
    monkeypatch.setattr("otel_shed.pipeline.decision_thread.start_thread", no_thread)
    stall, asked, delivered = Stall(), threading.Event(), []

    def lose(records: Sequence[SpanRecord]) -> Outcome:
        stall(records)
        return Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED)

    pipeline = make_pipeline(ScriptedSender([lose]))
    pipeline.admit(ended_span())
    request = pipeline._worker.request_flush

    def requested(timeout: float) -> Flush:
        flush = request(timeout)
        if stall.began.is_set():
            asked.set()
        return flush

    monkeypatch.setattr(pipeline._worker, "request_flush", requested)
    callers = [threading.Thread(target=lambda: delivered.append(pipeline.flush(10.0))) for _ in range(2)]
    callers[0].start()
    assert stall.began.wait(10)
    callers[1].start()
    assert asked.wait(10)
    stall.go_on.set()
    for caller in callers:
        caller.join(20)
    assert delivered == [False, False]
    assert read_stats([pipeline]).unaccounted == 0


def test_a_child_begins_anew() -> None:
    """After a fork the child holds nothing of the parent's, counts it as the parent's, and has its own locks."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender, linger=60.0)
    for _ in range(3):
        pipeline.admit(ended_span())
    parents_lock = pipeline.ledger.lock
    parent = pipeline.worker_thread
    pipeline.after_fork_in_child()
    stats = read_stats([pipeline])
    assert (stats.ended, stats.queued, stats.dropped) == (3, 0, {DropReason.FORK.value: 3})
    assert pipeline.ledger.lock is not parents_lock
    assert "after_fork_in_child" in sender.calls
    pipeline.admit(ended_span("child"))
    assert pipeline.worker_thread is not parent
    assert pipeline.flush(10.0)
    assert sender.sent == [["child"]]


def test_a_child_of_a_pipeline_that_is_shut_down_waits_for_nothing() -> None:
    """After a fork, flush and shutdown of what the parent has shut down return at once."""
    pipeline = make_pipeline(ScriptedSender())
    pipeline.shutdown(10.0)
    pipeline.after_fork_in_child()
    began = time.monotonic()
    assert pipeline.flush(30.0)
    pipeline.shutdown(30.0)
    pipeline.admit(ended_span())
    assert time.monotonic() - began < 10
    assert read_stats([pipeline]).dropped == {"already_shutdown": 1}


def test_the_end_of_the_process_delivers_what_nobody_shut_down() -> None:
    """Parity R5, B6: a pipeline that its owner forgot is drained at exit."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    assert pipeline in lifecycle._all()
    pipeline.end_of_process()
    assert read_stats([pipeline]).exported == 1
    pipeline.end_of_process()
    assert sender.calls.count("shutdown") == 1


def test_a_reading_has_every_span_that_ended_before_it() -> None:
    """Whatever our threads are at, and without waiting for them to decide on anything."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]))
    for number in range(1, 40):
        pipeline.admit(ended_span())
        stats = read_stats([pipeline])
        assert (stats.ended, stats.queued + stats.in_flight) == (number, number)
    stall.go_on.set()
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 39


class RaisingHandler(logging.Handler):
    """A handler of the application's that is broken."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("no log today")


def test_a_logging_handler_that_raises_changes_nothing() -> None:
    """Neither the application nor the worker hears of it, and nothing is counted twice."""
    logger = logging.getLogger("otel_shed")
    handler = RaisingHandler()
    logger.addHandler(handler)
    try:
        sender = ScriptedSender([Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE)])
        sender.limit = 1_000
        pipeline = make_pipeline(sender, max_batches=3)
        pipeline.admit_batch([(ended_span(name), Priority.NORMAL, None) for name in ("one:10", "big:2000", "bad")])
        assert not pipeline.flush(10.0)
        pipeline.admit_batch([(ended_span("two:10"), Priority.NORMAL, None)])
        assert pipeline.flush(10.0)
        stats = read_stats([pipeline])
    finally:
        logger.removeHandler(handler)
    assert (stats.ended, stats.exported) == (4, 1)
    assert stats.dropped == {"too_large": 1, "encode_failed": 1, "not_retryable": 1}


def test_a_signal_handler_that_flushes_while_the_worker_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pipeline has one worker, whatever comes in between while its thread starts."""
    pipeline = make_pipeline(ScriptedSender())
    started: list[str] = []

    def start(*, name: str, target: Callable[[], None]) -> WorkerThread:
        started.append(name)
        assert not pipeline.can_wait_here()
        pipeline.flush(0.01)  # what a handler would do at this very moment
        return start_thread(name=name, target=target)

    monkeypatch.setattr("otel_shed.pipeline.pipeline.start_thread", start)
    pipeline.admit(ended_span())
    assert started == ["otel-shed-worker"]
    monkeypatch.undo()
    assert pipeline.flush(10.0)


def test_flush_after_shutdown_tells_the_truth() -> None:
    """After shutdown a flush is True from any thread, until a span ends that is lost."""
    pipeline = make_pipeline(ScriptedSender())
    pipeline.admit(ended_span())
    pipeline.shutdown(10.0)
    answers: list[bool] = []
    for _ in range(5):
        thread = threading.Thread(target=lambda: answers.append(pipeline.flush(10.0)))
        thread.start()
        thread.join()
    assert answers == [True] * 5
    pipeline.admit(ended_span())
    assert not pipeline.flush(10.0)


def test_a_loss_while_shutdown_drains_makes_it_lossy() -> None:
    """What the collector refuses in the drain is lost as much as what was left behind."""
    pipeline = make_pipeline(ScriptedSender([Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE)]))
    pipeline.admit(ended_span())
    pipeline.shutdown(10.0)
    assert read_stats([pipeline]).shutdown_was_lossy


def test_an_idle_pipeline_does_not_wake_up() -> None:
    """Parity R2: with nothing to do, the worker's clock stands still."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender, linger=0.001)
    pipeline.admit(ended_span())
    assert pipeline.flush(10.0)
    time.sleep(0.1)  # for what woke it while it was at work
    turned = pipeline._worker.last_turn
    time.sleep(0.2)  # an interval in which a polling worker would have turned many times
    assert pipeline._worker.last_turn == turned
