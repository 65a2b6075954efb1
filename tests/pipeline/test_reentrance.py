"""A thread that is in the middle of ours and comes again, in a signal handler, a finalizer or the exporter: no wait of
ours waits for the thread that it is on, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from otel_shed.outcome import Outcome
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.queue import PlainQueue
from otel_shed.record import SpanRecord
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import make_pipeline


class InterruptedSender(ScriptedSender):
    """Calls ``interruption`` once, in the call of that name, on whichever thread that is."""

    def __init__(self, call: str, interruption: Callable[[], None]) -> None:
        super().__init__()
        self._call, self._interruption = call, interruption

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if call == self._call:
            self._call = ""
            self._interruption()

    def hurry(self, patience: float) -> None:
        self._called("hurry")

    def shutdown(self, timeout: float) -> None:
        self._called("shutdown")

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        self._called("send")
        return super().send(records)


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The signals that were sent, none of which arrives."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _, signum: sent.append(signum))
    return sent


def _without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(**_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    for module in ("otel_shed.pipeline.pipeline", "otel_shed.pipeline.decision_thread", "otel_shed.pipeline.lifecycle"):
        monkeypatch.setattr(f"{module}.start_thread", no_thread)


def _terminated(pipelines: list[Pipeline]) -> None:
    lifecycle._on_sigterm(signal.SIGTERM, None)
    assert all(pipeline.is_ending_here for pipeline in pipelines)


def test_sigterm_in_the_middle_of_a_shutdown_lets_it_end(monkeypatch: pytest.MonkeyPatch, kills: list[int]) -> None:
    """The handler returns at once; once all is delivered and the exporter closed the signal is sent again."""
    pipelines: list[Pipeline] = []
    states: list[tuple[list[str], int]] = []
    sender = InterruptedSender("hurry", lambda: _terminated(pipelines))
    pipeline = make_pipeline(sender, shutdown_grace=60.0)
    pipelines.append(pipeline)
    monkeypatch.setattr(lifecycle, "_all", lambda: pipelines)
    pipeline.admit(ended_span())
    monkeypatch.setattr(
        os, "kill", lambda _, signum: (kills.append(signum), states.append((sender.calls[-1:], len(sender.sent))))
    )
    began = time.monotonic()
    pipeline.shutdown(60.0)
    assert time.monotonic() - began < 10
    assert kills == [signal.SIGTERM]
    assert states == [(["shutdown"], 1)]
    assert read_stats([pipeline]).exported == 1


def test_sigterm_in_the_middle_of_a_shutdown_without_threads(monkeypatch: pytest.MonkeyPatch, kills: list[int]) -> None:
    """Where no thread can be started, as late in an interpreter's end, the signal is kept for the end too."""
    pipelines: list[Pipeline] = []
    sender = InterruptedSender("send", lambda: _terminated(pipelines))
    pipeline = make_pipeline(sender, shutdown_grace=60.0)
    pipelines.append(pipeline)
    monkeypatch.setattr(lifecycle, "_all", lambda: pipelines)
    _without_threads(monkeypatch)
    pipeline.admit(ended_span())
    began = time.monotonic()
    pipeline.shutdown(60.0)
    assert time.monotonic() - began < 10
    assert kills == [signal.SIGTERM]
    assert read_stats([pipeline]).exported == 1


def test_a_short_section_without_threads_keeps_the_signal(monkeypatch: pytest.MonkeyPatch, kills: list[int]) -> None:
    """A signal in the middle of a sweep, with no thread to send it again, ends the process; it is not swallowed."""
    pipeline = make_pipeline(ScriptedSender())
    monkeypatch.setattr(lifecycle, "_all", lambda: [pipeline])
    _without_threads(monkeypatch)
    with pipeline.ledger.lock:
        lifecycle._on_sigterm(signal.SIGTERM, None)
    assert kills == [signal.SIGTERM]


@pytest.mark.parametrize("raises", [False, True])
def test_a_handler_that_shuts_down_in_the_middle_of_a_shutdown(raises: bool) -> None:
    """A handler of the program's own gets what it asks for, though it then raises out of the call it interrupted."""
    pipelines: list[Pipeline] = []
    seen: list[int] = []

    def handler() -> None:
        pipelines[0].shutdown(60.0)
        seen.append(read_stats(pipelines).exported)
        if raises:
            raise SystemExit(0)

    sender = InterruptedSender("hurry", handler)
    pipeline = make_pipeline(sender, shutdown_grace=60.0)
    pipelines.append(pipeline)
    for _ in range(10):
        pipeline.admit(ended_span())
    began = time.monotonic()
    if raises:
        with pytest.raises(SystemExit):
            pipeline.shutdown(60.0)
    else:
        pipeline.shutdown(60.0)
    assert time.monotonic() - began < 10
    assert seen == [10]
    assert sender.calls.count("shutdown") == 1
    assert not read_stats([pipeline]).shutdown_was_lossy


def test_an_exporter_that_flushes_its_provider_as_it_is_shut_down() -> None:
    """It is told no at once, by flush and by shutdown, and the end of the pipeline does not wait for it."""
    pipelines: list[Pipeline] = []
    answers: list[bool] = []

    def closes() -> None:
        answers.append(pipelines[0].flush(60.0))
        pipelines[0].shutdown(60.0)

    pipeline = make_pipeline(InterruptedSender("shutdown", closes), shutdown_grace=60.0)
    pipelines.append(pipeline)
    pipeline.admit(ended_span())
    began = time.monotonic()
    pipeline.shutdown(60.0)
    assert time.monotonic() - began < 10
    assert answers == [False]
    assert read_stats([pipeline]).exported == 1


def test_a_finalizer_that_shuts_down_on_the_worker_loses_nothing() -> None:
    """The worker cannot wait for itself: another thread does, and what was queued is delivered."""
    pipelines: list[Pipeline] = []
    sender = InterruptedSender("send", lambda: pipelines[0].shutdown(60.0))
    pipeline = make_pipeline(sender, shutdown_grace=60.0)
    pipelines.append(pipeline)
    for _ in range(10):
        pipeline.admit(ended_span())
    pipeline.flush(30.0)
    assert pipeline._ending.wait(30.0)
    assert read_stats([pipeline]).exported == 10
    assert not read_stats([pipeline]).shutdown_was_lossy


def test_a_handler_in_the_middle_of_a_flush_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends on its own thread and is interrupted by a flush and a shutdown goes on, and then comes the end."""
    pipelines: list[Pipeline] = []
    answers: list[bool] = []

    def handler() -> None:
        answers.append(pipelines[0].flush(60.0))
        pipelines[0].shutdown(60.0)

    sender = InterruptedSender("send", handler)
    pipeline = make_pipeline(sender, shutdown_grace=60.0)
    pipelines.append(pipeline)
    _without_threads(monkeypatch)
    for _ in range(10):
        pipeline.admit(ended_span())
    began = time.monotonic()
    pipeline.flush(60.0)
    assert time.monotonic() - began < 10
    assert answers == [False]
    assert read_stats([pipeline]).exported == 10
    assert pipeline.is_shut_down


def test_a_handler_in_the_middle_of_a_push_in_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it asks for, it does not wait for a thread that waits for the push that it has interrupted."""
    monkeypatch.setattr("otel_shed.pipeline.ledger.Queue", PlainQueue)
    pipeline = make_pipeline(ScriptedSender(), shutdown_grace=60.0)
    queue = pipeline.ledger.queue
    assert isinstance(queue, PlainQueue)
    for _ in range(3):
        pipeline.admit(ended_span())
    began = time.monotonic()
    with queue._lock:  # the push
        other = threading.Thread(target=pipeline.account)
        other.start()
        while pipeline.ledger.lock.acquire(False):  # until somebody is in the ledger, and waits for the push
            pipeline.ledger.lock.release()
        pipeline.admit(ended_span())
        stats = read_stats([pipeline])
        assert (stats.ended, stats.queued, stats.unaccounted) == (3, 3, 0)
        assert not pipeline.can_wait_here()
        assert not pipeline.flush(60.0)
        pipeline.shutdown(60.0)
    assert time.monotonic() - began < 10
    queue.mark()  # the push goes on
    other.join(10)
    assert pipeline._ending.wait(30.0)
    stats = read_stats([pipeline])
    assert stats.ended == stats.exported + stats.dropped.get("already_shutdown", 0) == 4
