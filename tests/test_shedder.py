"""LoadShedder: the parts it makes, and their sum."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanExporter, SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter


def test_stats_are_the_sum_of_its_faces() -> None:
    """Two faces of one shedder, one account."""
    shedder = LoadShedder(ShedConfig())
    provider = TracerProvider(sampler=shedder.sampler(), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor(RecordingExporter()))
    provider.add_span_processor(shedder.span_processor(RecordingExporter()))
    provider.get_tracer("test").start_span("work").end()
    assert provider.force_flush()
    stats = shedder.stats()
    assert (stats.ended, stats.exported, stats.started, stats.sampled_out) == (2, 2, 1, 0)
    assert stats.queue_capacity == 2 * 2048


def test_the_sampler_counts_what_its_root_drops() -> None:
    """Parity D5: created is sampled in plus sampled out."""
    shedder = LoadShedder(ShedConfig())
    provider = TracerProvider(sampler=shedder.sampler(ALWAYS_OFF), shutdown_on_exit=False)
    for _ in range(3):
        provider.get_tracer("test").start_span("work").end()
    stats = shedder.stats()
    assert (stats.started, stats.sampled_out) == (3, 3)


def test_exports_over_otlp_unless_told_otherwise() -> None:
    """Without an exporter the faces export as OTEL_EXPORTER_OTLP_* say."""
    processor = LoadShedder(ShedConfig()).span_processor()
    assert isinstance(processor, SheddingSpanProcessor)
    assert isinstance(processor.span_exporter, OTLPSpanExporter)


def test_one_exporter_for_all_faces_if_given() -> None:
    """The exporter of the shedder is what its faces export to."""
    exporter = RecordingExporter()
    face = LoadShedder(ShedConfig(), exporter=exporter).span_exporter()
    assert isinstance(face, SheddingSpanExporter)
    assert face.span_exporter is exporter


def test_disabled_makes_the_stock_parts() -> None:
    """With enabled false, the SDK's own processor, sampler and exporter."""
    shedder = LoadShedder(ShedConfig(enabled=False))
    exporter: SpanExporter = RecordingExporter()
    processor = shedder.span_processor(exporter)
    assert type(processor) is BatchSpanProcessor
    assert type(shedder.sampler()) is ParentBased
    assert shedder.span_exporter(exporter) is exporter
    processor.shutdown()


def test_default_is_one() -> None:
    """The process-wide shedder is the same for everyone who asks."""
    assert LoadShedder.default() is LoadShedder.default()


def test_a_smaller_queue_brings_a_smaller_batch() -> None:
    """A queue given to a face lowers the batch that the shedder's settings have."""
    processor = SheddingSpanProcessor(RecordingExporter(), max_queue_size=10, shedder=LoadShedder(ShedConfig()))
    assert processor.config.max_export_batch_size == 10


def test_refuses_a_batch_larger_than_the_queue() -> None:
    """A conflict given in code raises, with a shedder too."""
    with pytest.raises(ValueError):
        SheddingSpanProcessor(RecordingExporter(), 10, max_export_batch_size=11, shedder=LoadShedder(ShedConfig()))
