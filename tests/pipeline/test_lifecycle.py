"""What a process does to its pipelines, without the process: the rest is in tests/faults."""

from __future__ import annotations

import os
import threading
import time

import pytest

from otel_shed.pipeline import lifecycle
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import Stall, make_pipeline


def test_pipelines_that_hang_take_one_grace_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process several hung exporters are waited for at the same time."""
    stalls = [Stall() for _ in range(4)]
    pipelines = [make_pipeline(ScriptedSender([stall]), shutdown_grace=0.5) for stall in stalls]
    for pipeline, stall in zip(pipelines, stalls, strict=True):
        for _ in range(4):
            pipeline.admit(ended_span())
        assert stall.began.wait(10)
    monkeypatch.setattr(lifecycle, "_all", lambda: pipelines)
    began = time.monotonic()
    lifecycle._end_of_process()
    assert time.monotonic() - began < 1.5
    assert [read_stats([pipeline]).shutdown_was_lossy for pipeline in pipelines] == [True] * 4
    for stall in stalls:
        stall.go_on.set()


def test_without_threads_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started any more, each pipeline is still drained."""
    pipelines = [make_pipeline(ScriptedSender()) for _ in range(3)]
    for pipeline in pipelines:
        pipeline.admit(ended_span())

    def no_thread(**_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(lifecycle, "start_thread", no_thread)
    monkeypatch.setattr(lifecycle, "_all", lambda: pipelines)
    lifecycle._end_of_process()
    assert [read_stats([pipeline]).exported for pipeline in pipelines] == [1, 1, 1]


def test_the_first_process_of_a_container_only_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As process 1, which a signal's default action does not end, tracing goes on after the flush."""
    pipeline = make_pipeline(ScriptedSender())
    pipeline.admit(ended_span())
    monkeypatch.setattr(os, "getpid", lambda: 1)
    pipeline.deliver_before_signal()
    assert read_stats([pipeline]).exported == 1
    assert not pipeline.is_shut_down


def test_no_waiting_on_a_thread_that_holds_the_lock() -> None:
    """In the middle of on_end a signal handler must not wait for the worker, which waits for the same lock."""
    pipeline = make_pipeline(ScriptedSender())
    assert pipeline.can_wait_here()
    with pipeline.ledger.lock:
        assert not pipeline.can_wait_here()
        seen: list[bool] = []
        other = threading.Thread(target=lambda: seen.append(pipeline.can_wait_here()))
        other.start()
        other.join()
        assert seen == [True]


def test_a_handler_is_arranged_on_the_main_thread_only() -> None:
    """Where Python does not let a handler be set, none is, and nothing is raised."""
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(lifecycle.flush_on_sigterm()))
    thread.start()
    thread.join()
    assert seen == [False]
