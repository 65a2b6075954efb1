"""The end of a pipeline: in which order, what is known of it, and that no thread stays."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from otel_shed.outcome import Outcome
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import Stall, make_pipeline


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("otel-shed")}


def watched() -> Callable[[], bool]:
    """Asks whether all threads of ours that begin from now on end within half a minute."""
    before = ours()

    def none_is_left() -> bool:
        tries = threading.Event()  # that nobody sets: a thread that is starting cannot be joined
        deadline = time.monotonic() + 30
        while ours() - before and time.monotonic() < deadline:
            tries.wait(0.01)
        return not ours() - before

    return none_is_left


def test_what_arrives_after_all_was_not_lost() -> None:
    """Parity B5: a shutdown that gave a batch up is lossy until the batch gets through."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]), shutdown_grace=0.05)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    pipeline.shutdown(10.0)
    assert read_stats([pipeline]).shutdown_was_lossy
    stall.go_on.set()
    assert pipeline.worker_thread is not None
    pipeline.worker_thread.join(10)
    stats = read_stats([pipeline])
    assert (stats.exported, dict(stats.dropped), stats.shutdown_was_lossy) == (4, {}, False)


def test_what_arrives_late_does_not_make_up_for_the_rest() -> None:
    """Of two batches that were given up one gets through: the other was lost."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]), shutdown_grace=0.05)
    for _ in range(7):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    pipeline.shutdown(10.0)
    stall.go_on.set()
    assert pipeline.worker_thread is not None
    pipeline.worker_thread.join(10)
    stats = read_stats([pipeline])
    assert stats.exported + stats.dropped["shutdown"] == 7
    assert stats.shutdown_was_lossy


def test_the_exporter_flushes_before_it_is_closed() -> None:
    """Parity B4: after the drain the exporter's own force_flush, then its shutdown, each once."""
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    pipeline.shutdown(10.0)
    pipeline.shutdown(10.0)
    assert (sender.sent, sender.calls) == ([["work"]], ["hurry", "flush", "shutdown"])


def test_an_exporter_that_hangs_is_only_closed() -> None:
    """While a call of its own is under way, which its shutdown may interrupt, there is no flush to wait for."""
    stall = Stall()
    sender = ScriptedSender([stall])
    pipeline = make_pipeline(sender, shutdown_grace=0.05)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    pipeline.shutdown(10.0)
    stall.go_on.set()
    assert sender.calls == ["hurry", "abort", "shutdown"]


def test_a_flush_that_hangs_does_not_keep_the_exporter_from_its_shutdown() -> None:
    """The exporter's force_flush is given up after the grace; then it is closed all the same."""
    go_on = threading.Event()

    class Hanging(ScriptedSender):
        def flush(self, timeout: float) -> bool:
            return go_on.wait(30)

    sender = Hanging()
    pipeline = make_pipeline(sender, shutdown_grace=0.1)
    pipeline.admit(ended_span())
    began = time.monotonic()
    pipeline.shutdown(10.0)
    assert time.monotonic() - began < 5.0
    assert sender.calls == ["hurry", "shutdown"]
    assert pipeline.shutdown_completed
    go_on.set()


@pytest.mark.parametrize("answer", [False, RuntimeError("full")])
def test_a_flush_that_fails_is_told(answer: bool | Exception, caplog: pytest.LogCaptureFixture) -> None:
    """An exporter that cannot send what it holds itself says so in one line, and is closed."""
    sender = ScriptedSender()
    sender.flushed = answer
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    with caplog.at_level(logging.WARNING):
        pipeline.shutdown(10.0)
    assert sender.calls == ["hurry", "flush", "shutdown"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the exporter's force_flush" in line


def test_who_comes_later_can_tell_whether_it_is_over() -> None:
    """A second caller whose time ends before the first one's shutdown is through sees that it is not completed."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]), shutdown_grace=30.0)
    assert (pipeline.is_shut_down, pipeline.shutdown_completed) == (False, False)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    first = threading.Thread(target=pipeline.shutdown, args=(30.0,))
    first.start()
    while not pipeline.is_shut_down:
        first.join(0.001)
    pipeline.shutdown(0.05)
    assert (pipeline.is_shut_down, pipeline.shutdown_completed) == (True, False)
    stall.go_on.set()
    pipeline.shutdown(30.0)
    assert pipeline.shutdown_completed
    first.join()


def test_no_thread_is_left() -> None:
    """After shutdown none of the pipeline's threads is alive: neither worker nor decision thread nor who closed it."""
    before = ours()
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]))
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    for _ in range(100):  # it is full: the decision thread looks
        pipeline.admit(ended_span())
    assert {thread.name for thread in ours() - before} == {"otel-shed-worker", "otel-shed-decisions"}
    stall.go_on.set()
    pipeline.shutdown(10.0)
    assert ours() - before == set()


def test_a_span_that_ends_later_starts_no_thread() -> None:
    """What comes after a shutdown that gave up is counted, and starts nothing."""
    stall = Stall()
    before = ours()
    pipeline = make_pipeline(ScriptedSender([stall]), shutdown_grace=0.05)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    pipeline.shutdown(10.0)
    for _ in range(3000):
        pipeline.admit(ended_span())
    assert {thread.name for thread in ours() - before} == {"otel-shed-worker"}
    assert read_stats([pipeline]).dropped == {"shutdown": 4, "already_shutdown": 3000}
    stall.go_on.set()


def test_the_end_of_the_process_waits_for_another_threads_shutdown() -> None:
    """What another thread is about to shut down is delivered before the process ends, and leaves no thread."""
    stall = Stall()
    before = ours()
    pipeline = make_pipeline(ScriptedSender([stall]), shutdown_grace=30.0)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    first = threading.Thread(target=pipeline.shutdown, args=(30.0,))
    first.start()
    while not pipeline.is_shut_down:
        first.join(0.001)
    threading.Timer(0.05, stall.go_on.set).start()
    pipeline.end_of_process()
    assert pipeline.shutdown_completed
    assert ours() - before == set()
    first.join()


def test_a_signal_handler_at_the_end_hears_of_no_missing_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where shutdown would need a thread and there is none, it raises nothing, and the exit does the work."""

    def no_thread(**_: object) -> None:
        raise RuntimeError("can't start new thread")

    sender = ScriptedSender([Outcome(accepted=1)])
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    with monkeypatch.context() as patched:
        patched.setattr("otel_shed.pipeline.ending.start_thread", no_thread)
        with pipeline.ledger.lock:
            pipeline.shutdown(10.0)
    assert not pipeline.is_shut_down
    pipeline.end_of_process()
    assert read_stats([pipeline]).exported == 1


def test_a_pipeline_that_nobody_holds_delivers_and_ends() -> None:
    """Once its face is gone, what is held goes out, the exporter is closed, and the threads end."""
    none_is_left = watched()
    sender = ScriptedSender()
    pipeline = make_pipeline(sender)
    pipeline.admit(ended_span())
    with pipeline.ledger.lock:  # a finalizer comes in the middle of anything
        pipeline.forget()
    assert none_is_left()
    assert (sender.sent, sender.calls) == ([["work"]], ["hurry", "flush", "shutdown"])


def test_a_pipeline_without_a_thread_that_nobody_holds_starts_none() -> None:
    """Where no span has ended nothing is held, and nothing is started for it."""
    before = ours()
    make_pipeline(ScriptedSender()).forget()
    assert ours() == before
