"""The span processor's face: what a program sees of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, StaticSampler
from opentelemetry.trace import StatusCode

from otel_shed import SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span


def test_a_program_sees_the_stock_processor() -> None:
    """The drop-in: spans reach any exporter as ReadableSpans, in order."""
    exporter = RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for number in range(3):
        with tracer.start_as_current_span(f"span-{number}"):
            pass
    assert provider.force_flush()
    assert [span.name for span in exporter.spans] == ["span-0", "span-1", "span-2"]
    provider.shutdown()
    assert (exporter.shutdowns, exporter.flushes) == (1, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_queue_size": 0},
        {"max_queue_size": -1},
        {"schedule_delay_millis": 0},
        {"schedule_delay_millis": -1},
        {"max_export_batch_size": 0},
        {"max_export_batch_size": -1},
        {"max_queue_size": 256, "max_export_batch_size": 512},
    ],
)
def test_refuses_what_the_stock_processor_refuses(arguments: dict[str, int]) -> None:
    """Parity D11, R6: a wrong setting in code raises ValueError, as it does in the stock constructor."""
    with pytest.raises(ValueError):
        BatchSpanProcessor(RecordingExporter(), **arguments)
    with pytest.raises(ValueError):
        SheddingSpanProcessor(RecordingExporter(), **arguments)


def test_counts_spans_that_are_recorded_but_not_sampled() -> None:
    """Parity L5: a RECORD_ONLY span is not exported and is counted as unsampled."""

    class RecordOnly(Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:  # type: ignore[override]
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "RecordOnly"

    exporter = RecordingExporter()
    processor = SheddingSpanProcessor(exporter)
    provider = TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("work").end()
    assert processor.force_flush()
    stats = processor.stats()
    assert (stats.ended, stats.unsampled, exporter.spans) == (1, 1, [])


def test_a_full_queue_keeps_what_is_worth_more() -> None:
    """Parity L9: of the spans that do not fit, those that say low go first, and failures stay."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    processor = SheddingSpanProcessor(exporter, max_queue_size=3, max_export_batch_size=1)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    tracer.start_span("in flight").end()
    exporter.wait_until_called()
    for name, priority in (("a", "low"), ("b", "high"), ("c", ""), ("d", "low"), ("e", "critical")):
        tracer.start_span(name, attributes={"otlp.priority": priority} if priority else None).end()
    failed = tracer.start_span("failed")
    failed.set_status(StatusCode.ERROR)
    failed.end()
    gate.set()
    assert processor.force_flush()
    assert [span.name for span in exporter.spans] == ["in flight", "b", "e", "failed"]
    assert processor.stats().dropped == {"queue_full": 3}


def test_cuts_long_attributes_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SHED_ATTRIBUTE_LENGTH the exporter gets a cut copy, and other processors the span as it is."""
    monkeypatch.setenv("OTEL_SHED_ATTRIBUTE_LENGTH", "5")
    ours, theirs = RecordingExporter(), RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(ours))
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    provider.get_tracer("test").start_span("work", attributes={"key": "a long value"}).end()
    assert provider.force_flush()
    assert (ours.spans[0].attributes or {})["key"] == "a lo…"
    assert (theirs.spans[0].attributes or {})["key"] == "a long value"


def test_dropped_spans_never_arrive() -> None:
    """What the sampler drops never reaches the processor."""
    processor = SheddingSpanProcessor(RecordingExporter())
    provider = TracerProvider(sampler=StaticSampler(Decision.DROP), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("work").end()
    assert processor.stats().ended == 0


class Broken:
    """Stands for a span none of whose parts can be read."""

    @property
    def context(self) -> object:
        raise ZeroDivisionError("broken span")


def test_on_end_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is handed to on_end, the application hears nothing, and it is counted."""
    processor = SheddingSpanProcessor(RecordingExporter())
    processor.on_end(Broken())  # type: ignore[arg-type]
    assert processor.stats().dropped == {"encode_failed": 1}
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]


class HungExporter(SpanExporter):
    """Never returns from export until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.over.wait(60)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.over.set()


def test_producers_never_wait_for_a_hung_exporter(caplog: pytest.LogCaptureFixture) -> None:
    """Parity D6, D9, R3: 8 threads, 16 places, an exporter that hangs: nobody waits, all is counted, no line a span."""
    exporter = HungExporter()
    processor = SheddingSpanProcessor(exporter, max_queue_size=16, max_export_batch_size=8)

    def produce() -> None:
        for _ in range(1_250):
            processor.on_end(ended_span())

    producers = [threading.Thread(target=produce) for _ in range(8)]
    began = time.monotonic()
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    assert time.monotonic() - began < 5.0
    stats = processor.stats()
    assert (stats.ended, stats.unaccounted) == (10_000, 0)
    assert stats.queued <= 16
    assert stats.dropped["queue_full"] == 10_000 - stats.queued - stats.in_flight - stats.exported
    assert len(caplog.records) <= 1
    exporter.over.set()
    processor.shutdown()


def test_reports_an_exporter_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parity D7: the stats say that the exporter is not healthy."""
    exporter = RecordingExporter(result=SpanExportResult.FAILURE)
    processor = SheddingSpanProcessor(exporter)
    assert processor.stats().exporter_healthy
    processor.on_end(ended_span())
    assert not processor.force_flush()
    assert not processor.stats().exporter_healthy


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_exporter_that_raises_costs_its_batch(error: BaseException) -> None:
    """An exception, even one that would end a thread, is an export that failed; the next batch goes through."""
    answers = [error]

    def answer(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if answers:
            raise answers.pop()
        return SpanExportResult.SUCCESS

    exporter = RecordingExporter(result=answer)
    processor = SheddingSpanProcessor(exporter)
    processor.on_end(ended_span("lost"))
    assert not processor.force_flush()
    processor.on_end(ended_span("kept"))
    assert processor.force_flush()
    assert [span.name for span in exporter.spans] == ["kept"]
    assert processor.stats().dropped == {"exporter_error": 1}


def test_disabled_is_the_stock_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SHED_ENABLED=false every call goes to a stock BatchSpanProcessor."""
    monkeypatch.setenv("OTEL_SHED_ENABLED", "false")
    exporter = RecordingExporter()
    processor = SheddingSpanProcessor(exporter)
    assert isinstance(processor, SpanProcessor)
    assert any(thread.name == "OtelBatchSpanRecordProcessor" for thread in threading.enumerate())
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert len(exporter.spans) == 1
    assert processor.stats().ended == 0
    processor.shutdown()


def test_does_not_trace_its_own_exports() -> None:
    """Spans that an exporter's own instrumentation would make are suppressed while it exports."""
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []

    def answer(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        seen.append(is_instrumentation_enabled())
        return SpanExportResult.SUCCESS

    processor = SheddingSpanProcessor(RecordingExporter(result=answer))
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert seen == [False]
