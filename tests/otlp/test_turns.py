"""An exporter that is called again in the middle of its own call, on the same thread, as a signal handler may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig
from otel_shed.otlp.retry import Attempt
from otel_shed.otlp.turns import Turns
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span


def _within(seconds: float, work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for itself"


def _interrupted(receiver: Receiver, interruption: Callable[[OTLPSpanExporter], None]) -> OTLPSpanExporter:
    exporter = OTLPSpanExporter("http/protobuf", f"{receiver.http_endpoint}/v1/traces", environ={})

    def once(_: Attempt) -> None:
        exporter.on_attempt(None)
        interruption(exporter)

    exporter.on_attempt(once)
    return exporter


def test_an_export_within_an_export_goes_out_after_it() -> None:
    """A handler that ends a span under a SimpleSpanProcessor returns at once, and the span arrives."""
    results: list[SpanExportResult] = []
    with Receiver(grpc_port=None) as receiver:
        exporter = _interrupted(receiver, lambda it: results.append(it.export([ended_span("within")])))
        _within(20, lambda: results.append(exporter.export([ended_span("around")])))
        assert results == [SpanExportResult.SUCCESS] * 2
        assert receiver.counts.spans == 2
        exporter.shutdown()


def test_a_shutdown_within_an_export_lets_it_end() -> None:
    """A handler that shuts down does not wait for the request that it has interrupted, which arrives."""
    took: list[float] = []

    def shut_down(exporter: OTLPSpanExporter) -> None:
        began = time.monotonic()
        exporter.shutdown(60_000)
        took.append(time.monotonic() - began)

    with Receiver(grpc_port=None) as receiver:
        exporter = _interrupted(receiver, shut_down)
        results: list[SpanExportResult] = []
        _within(20, lambda: results.append(exporter.export([ended_span()])))
        assert results == [SpanExportResult.SUCCESS]
        assert took[0] < 5
        assert receiver.counts.spans == 1
        assert exporter.export([ended_span()]) is SpanExportResult.FAILURE


def test_what_came_in_between_is_done_though_the_rest_fails() -> None:
    """An exception of a handler's leaves the turn to the next one, and nothing undone."""
    turns, done = Turns(), []

    def fails() -> None:
        assert turns.take(lambda: done.append("between"), meanwhile=None) is None
        assert done == []
        raise KeyboardInterrupt

    try:
        turns.take(fails, meanwhile=None)
    except KeyboardInterrupt:
        done.append("raised")
    assert done == ["between", "raised"]
    assert not turns.is_held_here
    assert turns.acquire(0)


def test_a_turn_that_does_not_come_is_told_and_taken_all_the_same() -> None:
    """Another thread that never lets go holds nobody up for longer than said."""
    turns, told = Turns(), []
    thread = threading.Thread(target=turns.acquire)
    thread.start()
    thread.join()
    answer = turns.take(lambda: "done", meanwhile="", timeout=0.01, late=lambda: told.append("late"))
    assert (answer, told) == ("done", ["late"])
    assert not turns.is_held_here


def test_stats_that_are_read_within_a_reading() -> None:
    """A signal handler that prints the stats does not wait for the reading that it has interrupted."""
    shedder = LoadShedder(ShedConfig(), exporter=RecordingExporter())
    processor = shedder.span_processor()

    def read() -> None:
        with shedder.assembly._lock:
            assert shedder.stats().ended == 0

    _within(10, read)
    processor.shutdown()
