"""Exporters that hang for ever, that exit, that raise what nobody catches: the application notices nothing."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter

_THREADS = 8
_SPANS = 2_000


class HungExporter(SpanExporter):
    """Never returns, from anything, until the test is over."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.over.wait()
        return SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.over.wait()
        return False

    def shutdown(self) -> None:
        self.over.wait()


@pytest.fixture
def hung() -> Iterator[HungExporter]:
    exporter = HungExporter()
    yield exporter
    exporter.over.set()


def _provider(processor: SheddingSpanProcessor) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def test_eight_threads_end_spans_while_the_exporter_hangs(hung: HungExporter, caplog: pytest.LogCaptureFixture) -> None:
    """With the intake full, Span.end() raises nothing and waits for nothing, and there is no log line per span."""
    processor = SheddingSpanProcessor(hung, max_queue_size=64, max_export_batch_size=32, schedule_delay_millis=10)
    tracer = _provider(processor).get_tracer(__name__)
    tracer.start_span("first").end()
    assert hung.entered.wait(10)
    longest = [0.0] * _THREADS
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for _ in range(_SPANS):
                span = tracer.start_span("work")
                began = time.monotonic()
                span.end()
                longest[thread] = max(longest[thread], time.monotonic() - began)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(_THREADS)]
    with caplog.at_level(logging.DEBUG):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    # Eight threads take turns of 5 ms on one core; a wait for the exporter would be one without end.
    assert max(longest) < 1.0
    assert len([record for record in caplog.records if record.levelno >= logging.INFO]) <= 1
    stats = processor.stats()
    assert (stats.ended, stats.in_flight, stats.unaccounted) == (1 + _THREADS * _SPANS, 1, 0)
    assert 32 < stats.queued <= 64
    # As it overflows at first, and then as whole traces are decided on.
    assert set(stats.dropped) <= {"queue_full", "over_budget"}


def test_flush_and_shutdown_give_a_hung_exporter_up(hung: HungExporter, caplog: pytest.LogCaptureFixture) -> None:
    """Both come back at their limits, though the exporter's own shutdown hangs too; every span is accounted for."""
    processor = SheddingSpanProcessor(hung, schedule_delay_millis=10)
    tracer = _provider(processor).get_tracer(__name__)
    for _ in range(10):
        tracer.start_span("work").end()
    assert hung.entered.wait(10)
    began = time.monotonic()
    assert processor.force_flush(200) is False
    assert time.monotonic() - began < 0.4
    began = time.monotonic()
    processor.shutdown(1000)
    assert time.monotonic() - began < 1.4
    stats = processor.stats()
    assert (dict(stats.dropped), stats.unaccounted, stats.shutdown_was_lossy) == ({"shutdown": 10}, 0, True)
    assert [record.message for record in caplog.records if "10 spans" in record.message]
    tracer.start_span("late").end()
    assert processor.stats().dropped["already_shutdown"] == 1


def test_shutdown_without_a_limit_of_its_own_gives_up_after_the_grace(
    hung: HungExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TracerProvider.shutdown() comes back after the grace, not after the thirty seconds that it may take."""
    monkeypatch.setenv("OTEL_SHED_SHUTDOWN_GRACE", "300")
    provider = _provider(SheddingSpanProcessor(hung, schedule_delay_millis=10))
    provider.get_tracer(__name__).start_span("work").end()
    assert hung.entered.wait(10)
    began = time.monotonic()
    provider.shutdown()
    assert time.monotonic() - began < 1.0


def _exit(spans: Sequence[ReadableSpan]) -> NoReturn:
    sys.exit(1)


def _interrupt(spans: Sequence[ReadableSpan]) -> NoReturn:
    raise KeyboardInterrupt


def _raise(spans: Sequence[ReadableSpan]) -> NoReturn:
    raise BaseException("neither an exit nor an error")


@pytest.mark.parametrize("fault", [_exit, _interrupt, _raise])
def test_an_exporter_that_raises_what_nobody_catches(fault: object, caplog: pytest.LogCaptureFixture) -> None:
    """sys.exit(), KeyboardInterrupt or BaseException out of export() loses that batch alone; the next is delivered."""
    exporter = RecordingExporter()
    good = exporter.export
    exporter.export = fault  # type: ignore[assignment, method-assign]
    processor = SheddingSpanProcessor(exporter)
    tracer = _provider(processor).get_tracer(__name__)
    for _ in range(5):
        tracer.start_span("lost").end()
    assert processor.force_flush(10_000) is False
    exporter.export = good  # type: ignore[method-assign]
    tracer.start_span("delivered").end()
    assert processor.force_flush(10_000) is True
    assert [span.name for span in exporter.spans] == ["delivered"]
    stats = processor.stats()
    assert (stats.exported, dict(stats.dropped)) == (1, {"exporter_error": 5})
    # One line for what was lost, one for what was raised.
    assert len([record for record in caplog.records if "5 spans" in record.message]) == 1
    assert len([record for record in caplog.records if "RecordingExporter failed" in record.message]) <= 1


def test_an_exporter_that_exits_in_its_shutdown() -> None:
    """sys.exit() out of the exporter's shutdown ends neither the program nor the processor's shutdown."""
    exporter = RecordingExporter()
    exporter.shutdown = lambda: sys.exit(1)  # type: ignore[method-assign]
    processor = SheddingSpanProcessor(exporter)
    _provider(processor).get_tracer(__name__).start_span("work").end()
    processor.shutdown(5_000)
    assert len(exporter.spans) == 1
    assert not processor.stats().shutdown_was_lossy
