"""A stock processor before an exporter of ours: a flush that is True has delivered, and nothing waits but flushes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanExporter
from otel_shed.shedder import DefaultSpanExporter
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span

STOCK = pytest.mark.parametrize("stock", [BatchSpanProcessor, SimpleSpanProcessor])
MAX_BATCHES = pytest.mark.parametrize("max_batches", [None, 1, 8])


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a collector waits for; open when the test is over, however that ended."""
    gate = threading.Event()
    yield gate
    gate.set()


def end(processor: SpanProcessor, count: int) -> None:
    for _ in range(count):
        processor.on_end(ended_span())


@MAX_BATCHES
@STOCK
def test_true_is_delivered(stock: type[BatchSpanProcessor | SimpleSpanProcessor], max_batches: int | None) -> None:
    """A thousand spans, of which the exporter has every one when the first flush comes back."""
    inner = RecordingExporter(delay=0.01)
    processor = stock(SheddingSpanExporter(inner, max_batches=max_batches))
    end(processor, 1000 if stock is BatchSpanProcessor else 1)
    assert processor.force_flush()
    assert len(inner.spans) == (1000 if stock is BatchSpanProcessor else 1)
    processor.shutdown()


class Passing(SpanExporter):
    """An exporter of the program's that passes spans on, as those do that hide or add something."""

    def __init__(self, *inner: SpanExporter) -> None:
        self.inner = inner[0] if len(inner) == 1 else list(inner)
        self.itself = self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for each in self.inner if isinstance(self.inner, list) else [self.inner]:
            each.export(spans)
        return SpanExportResult.SUCCESS


@pytest.mark.parametrize("passed_on", [False, True], ids=["in the flush", "before it"])
@STOCK
def test_through_exporters_of_others(
    stock: type[BatchSpanProcessor | SimpleSpanProcessor], passed_on: bool, gate: threading.Event
) -> None:
    """True is delivered where exporters stand between, whatever has been passed on before; to all that are ours."""
    first, second = RecordingExporter(gate=gate), RecordingExporter(gate=gate)
    others = Passing(SheddingSpanExporter(first)), RecordingExporter(), Passing(SheddingSpanExporter(second))
    processor = stock(Passing(*others))
    end(processor, (512 if passed_on else 3) if stock is BatchSpanProcessor else 1)
    if passed_on:
        first.wait_until_called()
        second.wait_until_called()
    assert not processor.force_flush(50)
    gate.set()
    assert processor.force_flush()
    assert len(first.spans) == len(second.spans) > 0
    processor.shutdown()


@STOCK
def test_an_exporter_that_breaks_when_it_is_looked_at(stock: type[BatchSpanProcessor | SimpleSpanProcessor]) -> None:
    """It is flushed as the stock processor does it, which is not at all."""
    SheddingSpanExporter(RecordingExporter()).shutdown()

    class Breaking(RecordingExporter):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("lazy")

    processor = stock(Breaking())
    assert processor.force_flush()
    processor.shutdown()


@STOCK
def test_a_time_limit_without_end(stock: type[BatchSpanProcessor | SimpleSpanProcessor]) -> None:
    """Infinity is one, for a face too, and None is the default."""
    inner = RecordingExporter()
    exporter = SheddingSpanExporter(inner)
    processor = stock(exporter)
    for flush in (processor.force_flush, exporter.force_flush):
        for limit in (None, math.inf):
            end(processor, 1)
            assert flush(limit)  # type: ignore[arg-type]
    assert len(inner.spans) >= 2
    processor.shutdown()
    exporter.shutdown(None)


@STOCK
def test_what_has_been_passed_on_is_waited_for(
    stock: type[BatchSpanProcessor | SimpleSpanProcessor], gate: threading.Event
) -> None:
    """The stock processor has nothing left, ours is at it: False at the time limit, True once it is delivered."""
    inner = RecordingExporter(gate=gate)
    processor = stock(SheddingSpanExporter(inner))
    end(processor, 512 if stock is BatchSpanProcessor else 1)
    inner.wait_until_called()
    assert not processor.force_flush(50)
    assert not inner.spans
    gate.set()
    assert processor.force_flush()
    assert inner.spans
    processor.shutdown()


@STOCK
def test_what_is_lost_makes_a_flush_false(stock: type[BatchSpanProcessor | SimpleSpanProcessor]) -> None:
    """A collector that refuses, at the first flush as at any other; each loss is told once."""
    inner = RecordingExporter(result=SpanExportResult.FAILURE)
    processor = stock(SheddingSpanExporter(inner))
    for _ in range(2):
        end(processor, 3)
        assert not processor.force_flush()
    assert processor.force_flush()
    processor.shutdown()


@MAX_BATCHES
def test_a_hundred_invocations(max_batches: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them flushes, loses nothing, and waits for no more than the collector, which is healthy."""
    monkeypatch.setattr("otel_shed.shedder._default", None)
    slowest = 0.0
    with Receiver(grpc_port=None) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.http_port}")
        provider = TracerProvider(shutdown_on_exit=False)
        # As the stock configurator makes what OTEL_TRACES_EXPORTER=otlp_shed names.
        provider.add_span_processor(BatchSpanProcessor(DefaultSpanExporter(max_batches=max_batches)))
        for number in range(100):
            for _ in range(5):
                provider.get_tracer("test").start_span("work").end()
            began = time.monotonic()
            assert provider.force_flush()
            slowest = max(slowest, time.monotonic() - began)
            assert receiver.counts.spans == 5 * (number + 1)
        provider.shutdown()
    assert slowest < 2.0


def test_a_flush_of_more_than_the_queue_holds() -> None:
    """What the stock processor has gathered does not push itself out of the queue, in a flush and in a shutdown."""
    inner = RecordingExporter(delay=0.001)
    shedder = LoadShedder(ShedConfig(max_queue_size=512, memory_limit_bytes=2**50))
    exporter = SheddingSpanExporter(inner, shedder=shedder)
    processor = BatchSpanProcessor(exporter, max_queue_size=5000, max_export_batch_size=500, schedule_delay_millis=60e3)
    gathered = processor._batch_processor._queue  # so that its thread is not woken
    end(processor, 450)
    assert processor.force_flush()
    gathered.extendleft(ended_span() for _ in range(4000))
    assert processor.force_flush()
    gathered.extendleft(ended_span() for _ in range(4000))
    processor.shutdown()
    assert exporter.stats().dropped == {}
    assert len(inner.spans) == 8450


def test_a_shutdown_does_not_wait_twice(gate: threading.Event) -> None:
    """With a collector that hangs it gives up after the grace, and counts what is left."""
    shedder = LoadShedder(ShedConfig(max_queue_size=512, shutdown_grace_millis=300, memory_limit_bytes=2**50))
    exporter = SheddingSpanExporter(RecordingExporter(gate=gate), shedder=shedder)
    processor = BatchSpanProcessor(exporter, max_queue_size=5000, schedule_delay_millis=60_000)
    processor._batch_processor._queue.extendleft(ended_span() for _ in range(4000))
    began = time.monotonic()
    processor.shutdown()
    assert time.monotonic() - began < 3.0
    stats = exporter.stats()
    assert (stats.ended, stats.unaccounted, stats.queued) == (4000, 0, 0)


def test_outside_of_a_flush_nothing_waits(gate: threading.Event) -> None:
    """The stock processor's own thread gets rid of its batches at once, while the collector hangs."""
    inner = RecordingExporter(gate=gate)
    exporter = SheddingSpanExporter(inner)
    processor = BatchSpanProcessor(exporter)
    for number in range(10):
        end(processor, 512)
        deadline = time.monotonic() + 10.0
        while exporter.stats().ended < 512 * (number + 1) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
    assert exporter.stats().ended == 5120
    gate.set()
    processor.shutdown()


@STOCK
def test_other_exporters_are_as_they_were(stock: type[BatchSpanProcessor | SimpleSpanProcessor]) -> None:
    """The stock processors do with them what they did: no flush of theirs, and True."""
    SheddingSpanExporter(RecordingExporter()).shutdown()
    inner = RecordingExporter(result=SpanExportResult.FAILURE)
    processor = stock(inner)
    end(processor, 3)
    assert processor.force_flush(10)
    assert inner.flushes == 0
    processor.shutdown()
    assert inner.shutdowns == 1


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SHED_ENABLED=false is the stock SDK, behind the stock processor too."""
    SheddingSpanExporter(RecordingExporter()).shutdown()
    monkeypatch.setenv("OTEL_SHED_ENABLED", "false")
    inner = RecordingExporter()
    processor = BatchSpanProcessor(SheddingSpanExporter(inner))
    end(processor, 3)
    assert processor.force_flush()
    assert len(inner.spans) == 3
    processor.shutdown()


def test_an_exporter_that_flushes_its_own_provider() -> None:
    """It is told False at once, and the flush goes on."""
    told: list[bool] = []

    def flush(spans: list[ReadableSpan]) -> SpanExportResult:
        told.append(processor.force_flush(1000))
        return SpanExportResult.SUCCESS

    processor = BatchSpanProcessor(SheddingSpanExporter(RecordingExporter(result=flush)))  # type: ignore[arg-type]
    end(processor, 3)
    assert processor.force_flush()
    assert told
    assert not any(told)
    processor.shutdown()


def test_an_otlp_exporter_is_none_of_them() -> None:
    """Our OTLP exporter holds nothing: a stock processor before it needs no more than the stock flush."""
    assert not hasattr(OTLPSpanExporter(), "in_front")
