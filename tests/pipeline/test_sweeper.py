"""The worker's stand-in: its one thread, started when it is first called, and what stands in its way."""

from __future__ import annotations

import threading

import pytest

from otel_shed.pipeline import sweeper as module
from otel_shed.pipeline.inbox import INBOX_ROOM
from otel_shed.pipeline.sweeper import Sweeper
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import Stall, make_pipeline


class Sweeps:
    """Counts, and says who it was."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.done = threading.Semaphore(0)

    def __call__(self) -> None:
        self.threads.append(threading.get_ident())
        self.done.release()


def test_each_call_is_answered_by_the_same_thread() -> None:
    """Which is not the caller's."""
    sweeps = Sweeps()
    sweeper = Sweeper(sweeps)
    for _ in range(3):
        sweeper.call()
        assert sweeps.done.acquire(timeout=10)
    sweeper.end()
    assert len(set(sweeps.threads)) == 1
    assert threading.get_ident() not in sweeps.threads


def test_a_fault_is_told_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """The next call is answered."""
    sweeps, faults = Sweeps(), [ZeroDivisionError("for once")]

    def sweep() -> None:
        sweeps()
        if faults:
            raise faults.pop()

    sweeper = Sweeper(sweep)
    sweeper.call()
    assert sweeps.done.acquire(timeout=10)
    sweeper.call()
    assert sweeps.done.acquire(timeout=10)
    sweeper.end()
    assert any("for once" in line for line in caplog.messages)


def test_where_no_thread_can_be_started_it_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """And tries again at the next call."""

    def no_threads(**parts: object) -> None:
        raise RuntimeError("can't start new thread")

    sweeps = Sweeps()
    sweeper = Sweeper(sweeps)
    monkeypatch.setattr(module, "start_thread", no_threads)
    sweeper.call()
    monkeypatch.undo()
    sweeper.call()
    assert sweeps.done.acquire(timeout=10)
    sweeper.end()


def test_a_child_has_one_of_its_own() -> None:
    """The parent's thread is not there: the next call starts another."""
    sweeps = Sweeps()
    sweeper = Sweeper(sweeps)
    sweeper.call()
    assert sweeps.done.acquire(timeout=10)
    sweeper.end()
    assert sweeper._running.acquire(timeout=10)
    sweeper.restart()
    sweeper.call()
    assert sweeps.done.acquire(timeout=10)
    sweeper.end()
    assert len(sweeps.threads) == 2


def test_while_the_exporter_hangs_what_ends_is_swept_elsewhere() -> None:
    """Not by the threads that end spans, and not later; and the thread is gone after shutdown."""
    stall = Stall()
    pipeline = make_pipeline(ScriptedSender([stall]), capacity=2048, max_export_batch_size=4)
    for _ in range(4):
        pipeline.admit(ended_span())
    assert stall.began.wait(10)
    swept = threading.Event()
    add_all = pipeline.intake.store.add_all
    threads: set[threading.Thread] = set()

    def adding(entries: object, now: float) -> None:
        threads.add(threading.current_thread())
        add_all(entries, now)  # type: ignore[arg-type]
        swept.set()

    pipeline.intake.store.add_all = adding  # type: ignore[method-assign]
    for _ in range(INBOX_ROOM // 2):
        pipeline.admit(ended_span())
    assert swept.wait(10)
    (sweeper,) = threads
    assert sweeper.name == "otel-shed-sweeper"
    stall.go_on.set()
    assert pipeline.flush(10.0)
    assert read_stats([pipeline]).exported == 4 + INBOX_ROOM // 2
    pipeline.shutdown(10.0)
    sweeper.join(10)
    assert not sweeper.is_alive()
