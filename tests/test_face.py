"""How the faces end: what they tell of it, and what becomes of one that nobody holds any more."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed import LoadShedder, OTLPSpanExporter, SheddingSpanExporter, SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span
from tests.pipeline.test_ending import watched

Face = SheddingSpanProcessor | SheddingSpanExporter


class FlushingExporter(RecordingExporter):
    """Remembers in which order it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls.append("export")
        return super().export(spans)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.calls.append("force_flush")
        return True

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        super().shutdown()


def processor_that_has_one(exporter: RecordingExporter) -> SheddingSpanProcessor:
    processor = SheddingSpanProcessor(exporter, schedule_delay_millis=60_000)
    processor.on_end(ended_span())
    return processor


def exporter_that_has_one(exporter: RecordingExporter) -> SheddingSpanExporter:
    face = SheddingSpanExporter(exporter)
    face.export([ended_span()])
    return face


FACES = pytest.mark.parametrize("make", [processor_that_has_one, exporter_that_has_one])


@FACES
def test_tells_of_its_shutdown(make: Callable[[RecordingExporter], Face]) -> None:
    """Parity B4: the exporter exports, flushes and is shut down, in this order and once; the face tells that it is."""
    exporter = FlushingExporter()
    face = make(exporter)
    assert (face.is_shutdown, face.shutdown_completed) == (False, False)
    face.shutdown()
    face.shutdown()
    assert (face.is_shutdown, face.shutdown_completed) == (True, True)
    assert exporter.calls == ["export", "force_flush", "shutdown"]


def test_a_second_caller_whose_time_ends_can_tell() -> None:
    """While another thread's shutdown waits for an export, a short one comes back and is_shutdown alone is True."""
    entered, over = threading.Event(), threading.Event()

    def wait(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        entered.set()
        over.wait(30)
        return SpanExportResult.SUCCESS

    processor = SheddingSpanProcessor(RecordingExporter(result=wait), max_export_batch_size=1)
    processor.on_end(ended_span())
    assert entered.wait(10)
    first = threading.Thread(target=processor.shutdown)
    first.start()
    while not processor.is_shutdown:
        first.join(0.001)
    processor.shutdown(50)
    assert (processor.is_shutdown, processor.shutdown_completed) == (True, False)
    over.set()
    first.join()
    assert processor.shutdown_completed


def test_a_shedder_is_shut_down_when_all_its_faces_are() -> None:
    """LoadShedder tells of all that was made from it; of nothing, before there is anything."""
    shedder = LoadShedder(exporter=RecordingExporter())
    assert (shedder.is_shutdown, shedder.shutdown_completed) == (False, False)
    first, second = shedder.span_processor(), shedder.span_processor(RecordingExporter())
    first.shutdown()
    assert (shedder.is_shutdown, shedder.shutdown_completed) == (False, False)
    second.shutdown()
    assert (shedder.is_shutdown, shedder.shutdown_completed) == (True, True)


@FACES
def test_tells_of_the_stock_parts_shutdown(
    make: Callable[[RecordingExporter], Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OTEL_SHED_ENABLED=false too."""
    monkeypatch.setenv("OTEL_SHED_ENABLED", "false")
    face = make(RecordingExporter())
    assert (face.is_shutdown, face.shutdown_completed) == (False, False)
    face.shutdown()
    assert (face.is_shutdown, face.shutdown_completed) == (True, True)


@FACES
def test_delivers_and_ends_when_nobody_holds_it(make: Callable[[RecordingExporter], Face]) -> None:
    """Parity R5: 20 that are dropped without a shutdown deliver their spans, and leave no thread."""
    none_is_left = watched()
    exporters = [FlushingExporter() for _ in range(20)]
    for exporter in exporters:
        make(exporter)
    gc.collect()
    assert none_is_left()
    assert [exporter.calls for exporter in exporters] == [["export", "force_flush", "shutdown"]] * 20


def test_a_forgotten_provider_takes_everything_with_it() -> None:
    """Provider and processor are gone when nobody holds them, the collector has the spans, and the threads end."""
    none_is_left = watched()
    with Receiver(grpc_port=None) as receiver:
        provider = TracerProvider(shutdown_on_exit=False)
        processor = SheddingSpanProcessor(OTLPSpanExporter("http/protobuf", receiver.http_endpoint + "/v1/traces"))
        provider.add_span_processor(processor)
        provider.get_tracer(__name__).start_span("work").end()
        gone = weakref.ref(processor)
        del provider, processor
        gc.collect()
        assert gone() is None
        assert receiver.wait_for_spans(1, 30)
        assert none_is_left()


def test_whoever_holds_a_tracer_holds_the_processor() -> None:
    """A program that keeps only its tracer, or a span that has not ended, goes on as before."""
    exporter = FlushingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(exporter))
    span = provider.get_tracer(__name__).start_span("work")
    del provider
    gc.collect()
    span.end()
    assert exporter.calls == []
    processor = span._span_processor  # type: ignore[attr-defined]
    assert processor.force_flush()
    processor.shutdown()
    assert [span.name for span in exporter.spans] == ["work"]
