"""Capacity, what is held, utilization and the queue's metrics: one unit, spans, and never more than there may be."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed import LoadShedder, Phase, ShedConfig, SheddingSpanExporter, Stats
from otel_shed.pipeline.held import HeldTrace
from otel_shed.pipeline.traces import Traces
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.launched import until

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
End = Callable[[list[ReadableSpan]], object]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the collector waits for; open when the test is over, however that ended."""
    gate = threading.Event()
    yield gate
    gate.set()


def root() -> list[ReadableSpan]:
    return [ended_span()]


def orphan() -> list[ReadableSpan]:
    """A span of a trace whose root does not end."""
    own = ended_span().context
    assert own is not None
    parent = SpanContext(own.trace_id, 99, is_remote=False, trace_flags=SAMPLED)
    return [ReadableSpan("child", own, parent, start_time=1, end_time=2)]


def pair() -> list[ReadableSpan]:
    """A trace of two spans."""
    (child,) = orphan()
    assert child.parent is not None
    return [child, ReadableSpan("root", child.parent, start_time=1, end_time=2)]


@pytest.mark.parametrize("phase", [None, Phase.OBSERVE])
@pytest.mark.parametrize("max_queue_size", [1, 8, 30])
@pytest.mark.parametrize("trace", [root, orphan, pair])
@pytest.mark.parametrize("max_batches", [0, None, 1, 4])
def test_never_more_than_there_may_be(
    max_batches: int | None,
    trace: Callable[[], list[ReadableSpan]],
    max_queue_size: int,
    phase: Phase | None,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a collector hangs: for a processor (0), and for an exporter with and without max_batches."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    inner = RecordingExporter(gate=gate)
    settings = {"schedule_delay_millis": 1.0, "memory_limit_bytes": 2**50, "max_held_spans": 1000}
    config = ShedConfig(max_queue_size=max_queue_size, **settings)  # type: ignore[arg-type]
    shedder = LoadShedder(config, meter_provider=provider)
    end, stats = faces(shedder, inner, max_batches)
    end([ended_span()])
    inner.wait_until_called()
    if phase is not None:
        shedder.force_phase(phase)
    for _ in range(20):
        end([span for _ in range(3) for span in trace()])
        now = stats()
        assert now.queue_capacity == max_queue_size
        assert now.queued <= max_queue_size
        assert now.undecided == 0 or not max_batches
        assert 0.0 <= now.utilization <= 1.0
    metrics = read(reader)
    assert metrics["otel.sdk.processor.span.queue.capacity"] == max_queue_size
    # Decisions may go on meanwhile, which only ever let go of spans; more come in no longer.
    assert stats().queued <= metrics["otel.sdk.processor.span.queue.size"] <= now.queued
    assert now.queued > 0
    gate.set()
    provider.shutdown()


def faces(shedder: LoadShedder, inner: RecordingExporter, max_batches: int | None) -> tuple[End, Callable[[], Stats]]:
    if max_batches == 0:
        processor = shedder.span_processor(inner)

        def end(spans: list[ReadableSpan]) -> None:
            for span in spans:
                processor.on_end(span)

        return end, shedder.stats
    exporter = SheddingSpanExporter(inner, max_batches=max_batches, shedder=shedder)
    return exporter.export, exporter.stats


def read(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: metric.data.data_points[0].value  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if "queue" in metric.name
    }


def test_a_batch_larger_than_the_queue(gate: threading.Event) -> None:
    """With max_batches too the newest spans stay, as many as there may be, and are delivered."""
    inner = RecordingExporter(gate=gate)
    shedder = LoadShedder(ShedConfig(max_queue_size=8, memory_limit_bytes=2**50))
    exporter = SheddingSpanExporter(inner, max_batches=3, shedder=shedder)
    exporter.export([ended_span()])
    inner.wait_until_called()
    exporter.export([ended_span(str(number)) for number in range(20)])
    assert exporter.stats().dropped == {"queue_full": 12}
    assert exporter.stats().utilization == 1.0
    gate.set()
    assert exporter.force_flush()
    assert [span.name for span in inner.spans[1:]] == [str(number) for number in range(12, 20)]


class Moving(OrderedDict[int, HeldTrace]):
    """Traces one of which is decided on in the middle of each reading of the oldest."""

    def values(self) -> Iterator[HeldTrace]:  # type: ignore[override]
        oldest = iter(super().values())
        del self[next(iter(self))]
        return oldest


def test_stats_are_read_while_traces_are_decided_on() -> None:
    """A trace that goes in the middle of a reading, which takes no lock for it, does not fail that."""
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=2**50))
    processor = shedder.span_processor(RecordingExporter())
    shedder.force_phase(Phase.OBSERVE)
    for _ in range(100):
        processor.on_end(*orphan())
    until(lambda: shedder.stats().undecided == 100)
    store = processor._pipeline.intake.store
    assert isinstance(store, Traces)
    held = store._undecided.traces
    store._undecided.traces = Moving(held)
    assert shedder.stats().queued == 100
    store._undecided.traces = held
    assert processor.force_flush()
    processor.shutdown()
