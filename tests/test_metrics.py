"""The processor's own metrics, by the semantic conventions."""

from __future__ import annotations

import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_shed import SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span

Points = dict[tuple[str, str | None], int]


def read(reader: InMemoryMetricReader) -> Points:
    """The values by metric and error.type."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        (metric.name.removeprefix("otel.sdk.processor.span."), point.attributes.get("error.type")): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("otel.sdk.processor.span.")
        for point in metric.data.data_points
    }


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    return InMemoryMetricReader()


def test_tell_what_was_processed_and_what_was_dropped(reader: InMemoryMetricReader) -> None:
    """Submitted spans count as processed whatever becomes of them; what the processor drops has an error.type."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    processor = SheddingSpanProcessor(
        exporter, max_queue_size=2, max_export_batch_size=1, meter_provider=MeterProvider([reader])
    )
    processor.on_end(ended_span())
    exporter.wait_until_called()
    for _ in range(5):
        processor.on_end(ended_span())
    assert read(reader) == {
        ("processed", None): 1,
        ("processed", "queue_full"): 3,
        ("queue.size", None): 2,
        ("queue.capacity", None): 2,
    }
    gate.set()
    processor.shutdown()
    processor.on_end(ended_span())
    points = read(reader)
    assert points["processed", None] == 3
    assert points["processed", "already_shutdown"] == 1
    assert points["queue.size", None] == 0


def test_are_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in development in the conventions, so they are opt-in, as the SDK's own are."""
    monkeypatch.delenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", raising=False)
    reader = InMemoryMetricReader()
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=MeterProvider([reader]))
    processor.on_end(ended_span())
    assert read(reader) == {}


def test_each_pipeline_has_one_set_of_its_own(reader: InMemoryMetricReader) -> None:
    """Parity D12: two processors are told apart by their component names, and neither is registered twice."""
    provider = MeterProvider([reader])
    processors = [SheddingSpanProcessor(RecordingExporter(), meter_provider=provider) for _ in range(2)]
    processors[0].on_end(ended_span())
    data = reader.get_metrics_data()
    assert data is not None
    names = [
        point.attributes["otel.component.name"]
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name.endswith("capacity")
        for point in metric.data.data_points
    ]
    assert len(names) == len(set(names)) == 2
    assert all(name.startswith("batching_span_processor/") for name in names)
