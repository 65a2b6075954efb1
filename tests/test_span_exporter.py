"""SheddingSpanExporter: the pipeline behind the exporter interface (parity L1 to L6)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from otel_shed import LoadShedder, Phase, Priority, ShedConfig, SheddingSpanExporter
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.control.spans import span

SUCCESS = SpanExportResult.SUCCESS


def held_up(**settings: int) -> tuple[SheddingSpanExporter, RecordingExporter, threading.Event]:
    """An exporter whose inner one is in the middle of an export, so that everything after it is queued."""
    gate = threading.Event()
    inner = RecordingExporter(gate=gate)
    exporter = SheddingSpanExporter(inner, **settings)
    exporter.export([ended_span("first")])
    inner.wait_until_called()
    return exporter, inner, gate


def test_full_drops_the_oldest_batches_whole(spans: Callable[[int], list[ReadableSpan]]) -> None:
    """Parity L1, L2: capacity 3, six batches of 512: 0 to 2 dropped, 1,536 spans counted, 3, 4, 5 exported in order."""
    exporter, inner, gate = held_up(max_batches=3)
    batches = [spans(512) for _ in range(6)]
    for batch in batches:
        assert exporter.export(batch) is SpanExportResult.SUCCESS
    assert exporter.stats().dropped == {"queue_full": 1_536}
    gate.set()
    assert exporter.force_flush()
    assert inner.batches[1:] == batches[3:]


def test_export_returns_at_once(spans: Callable[[int], list[ReadableSpan]]) -> None:
    """Parity L3: success at once, while the collector hangs and batches are being dropped."""
    exporter, _, gate = held_up(max_batches=1)
    assert {exporter.export(spans(10)) for _ in range(100)} == {SpanExportResult.SUCCESS}
    assert exporter.stats().dropped == {"queue_full": 990}
    gate.set()


def test_counts_and_does_not_send_what_is_not_sampled() -> None:
    """Parity L5: spans without the sampled flag are counted and go no further."""
    inner = RecordingExporter()
    exporter = SheddingSpanExporter(inner)
    exporter.export([ended_span("no", sampled=False), ended_span("yes")])
    assert exporter.force_flush()
    assert [span.name for span in inner.spans] == ["yes"]
    assert exporter.stats().unsampled == 1


def test_spans_of_unknown_flags_are_sent() -> None:
    """Parity L5: a span whose flags are not known counts as sampled."""
    inner = RecordingExporter()
    exporter = SheddingSpanExporter(inner)
    exporter.export([ReadableSpan("no context")])
    assert exporter.force_flush()
    assert [span.name for span in inner.spans] == ["no context"]


def test_an_empty_batch_is_not_exported() -> None:
    """Parity L6: a batch with nothing left after the filter is not exported."""
    inner = RecordingExporter()
    exporter = SheddingSpanExporter(inner, max_batches=2)
    exporter.export([ended_span(sampled=False)])
    exporter.export([])
    assert exporter.force_flush()
    assert inner.batches == []


@pytest.mark.parametrize("max_batches", [0, -1, 1.5, "3"])
def test_refuses_a_queue_without_room(max_batches: object) -> None:
    """Parity R6: a capacity that is not a positive integer raises ValueError."""
    with pytest.raises(ValueError, match="max_batches"):
        SheddingSpanExporter(RecordingExporter(), max_batches=max_batches)  # type: ignore[arg-type]


def test_stands_behind_the_stock_processor() -> None:
    """Only the exporter is replaced: the stock BatchSpanProcessor in front, everything delivered at shutdown."""
    inner = RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(SheddingSpanExporter(inner)))
    for number in range(600):
        provider.get_tracer("test").start_span(f"span-{number}").end()
    provider.shutdown()
    assert len(inner.spans) == 600
    assert inner.shutdowns == 1


def test_sheds_what_the_phase_says() -> None:
    """In each phase the batch goes on without what is shed of it, cut shorter where the phase says so."""
    inner = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=2**50, degraded_attribute_length=5))
    exporter = SheddingSpanExporter(inner, shedder=shedder, max_batches=5)
    arrived: dict[Phase, list[tuple[str, str]]] = {}
    for phase in Phase:
        shedder.force_phase(phase)
        before = len(inner.spans)
        assert exporter.export([span(each.name, each, text="a long text") for each in Priority]) is SUCCESS
        assert exporter.force_flush()
        arrived[phase] = [(one.name, str((one.attributes or {})["text"])) for one in inner.spans[before:]]
    whole = [(priority.name, "a long text") for priority in Priority]
    cut = [(priority.name, "a lo…") for priority in Priority]
    assert arrived == {
        Phase.NORMAL: whole,
        Phase.OBSERVE: whole,
        Phase.DEGRADE: cut[1:],
        Phase.RECOVERY: cut[1:],
        Phase.SHED_OPTIONAL: cut[2:],
    }
    stats = exporter.stats()
    assert (stats.ended, stats.dropped, stats.summarized, stats.unaccounted) == (20, {"low_priority": 2}, 2, 0)


@pytest.mark.parametrize("max_batches", [None, 2])
def test_a_batch_that_is_shed_whole_is_not_exported(max_batches: int | None) -> None:
    """Parity L6: nothing of it is left, so there is no call."""
    inner = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=2**50, keep_share=0.0))
    exporter = SheddingSpanExporter(inner, shedder=shedder, max_batches=max_batches)
    shedder.force_phase(Phase.SHED_OPTIONAL)
    assert exporter.export([span(priority=priority) for priority in Priority]) is SUCCESS
    assert exporter.force_flush()
    assert (inner.batches, exporter.stats().summarized) == ([], 4)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_span_that_cannot_be_judged_is_counted_once(phase: Phase) -> None:
    """Parity L3: export neither raises nor fails, and no span is counted as two."""
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=2**50))
    inner = RecordingExporter()
    exporter = SheddingSpanExporter(inner, shedder=shedder)
    shedder.force_phase(phase)
    assert exporter.export([ReadableSpan(["a", "list"]), object(), span()]) is SUCCESS  # type: ignore[arg-type, list-item]
    assert not exporter.force_flush()  # one was lost
    stats = exporter.stats()
    assert (stats.ended, stats.dropped, stats.unaccounted) == (3, {"encode_failed": 1}, 0)
    assert stats.exported == len(inner.spans) == 2 - stats.summarized


def test_export_never_raises() -> None:
    """Whatever is handed over, the processor in front hears success, and it is counted."""
    exporter = SheddingSpanExporter(RecordingExporter())
    assert exporter.export([object()]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
    assert exporter.stats().dropped == {"encode_failed": 1}
