"""The time limits of flush and shutdown, in real time, with exporters and collectors that take longer than they."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter
from tests.launched import free_port, until


class SlowExporter(SpanExporter):
    """Takes its time with each batch and lets nothing interrupt it."""

    def __init__(self, seconds: float) -> None:
        self.entered = threading.Event()
        self.taken = 0
        self._seconds = seconds

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        time.sleep(self._seconds)
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def _end_spans(processor: SheddingSpanProcessor, count: int) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer(__name__)
    for number in range(count):
        tracer.start_span(f"span-{number}").end()
    return provider


def _timed(call: Callable[[], object]) -> tuple[object, float]:
    began = time.monotonic()
    result = call()
    return result, time.monotonic() - began


@pytest.fixture(params=["refused", "silent"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port on which connections are refused, or one that takes them and then says nothing."""
    if request.param == "refused":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(params=["grpc", "http/protobuf"])
def absent(request: pytest.FixtureRequest, port: int) -> OTLPSpanExporter:
    """Our exporter to a collector that is not there, over each protocol."""
    return OTLPSpanExporter(protocol=request.param, endpoint=f"http://127.0.0.1:{port}")


def test_flush_without_a_collector_is_false_and_in_time(absent: OTLPSpanExporter) -> None:
    """force_flush(1000) is False within 1.2 s, and the shutdown that follows takes no longer than it may."""
    processor = SheddingSpanProcessor(absent, max_queue_size=1000, max_export_batch_size=100)
    provider = _end_spans(processor, 300)
    until(lambda: processor.stats().in_flight, what="an export under way")
    delivered, took = _timed(lambda: provider.force_flush(1000))
    assert delivered is False
    assert 0.9 < took < 1.2
    _, took = _timed(lambda: processor.shutdown(500))
    assert took < 0.8
    stats = processor.stats()
    assert (stats.exported, sum(stats.dropped.values()), stats.unaccounted) == (0, 300, 0)


def test_shutdown_without_a_collector_ends_within_four_seconds(absent: OTLPSpanExporter) -> None:
    """TracerProvider.shutdown() with five spans in hand is back within 4 s, and says what it left behind."""
    processor = SheddingSpanProcessor(absent)
    provider = _end_spans(processor, 5)
    _, took = _timed(provider.shutdown)
    assert took < 4.0
    stats = processor.stats()
    assert dict(stats.dropped) == {"shutdown": 5}
    assert stats.shutdown_was_lossy


def test_flush_of_a_slow_exporter_is_false_and_in_time() -> None:
    """With an export of 3 s under way force_flush(100) is False within 0.3 s."""
    exporter = RecordingExporter(delay=3.0)
    processor = SheddingSpanProcessor(exporter, schedule_delay_millis=10)
    provider = _end_spans(processor, 1)
    exporter.wait_until_called()
    delivered, took = _timed(lambda: provider.force_flush(100))
    assert delivered is False
    assert took < 0.3


def test_shutdown_keeps_to_its_time_and_accounts_for_what_it_leaves() -> None:
    """shutdown(3000) of 55 spans at 2 s a batch of ten is back within 3.3 s; then each span is exported or dropped."""
    exporter = SlowExporter(2.0)
    processor = SheddingSpanProcessor(exporter, max_export_batch_size=10)
    _end_spans(processor, 55)
    assert exporter.entered.wait(10)
    _, took = _timed(lambda: processor.shutdown(3000))
    assert took < 3.3
    stats = processor.stats()
    assert stats.shutdown_was_lossy
    assert stats.exported + sum(stats.dropped.values()) == 55
    assert set(stats.dropped) == {"shutdown"}
    # The export under way at the limit ends all the same, and is moved over.
    until(lambda: exporter.taken == 20, what="the second batch")
    until(lambda: processor.stats().exported == 20, what="the second batch in the account")
    assert dict(processor.stats().dropped) == {"shutdown": 35}


def test_ending_spans_waits_for_no_exporter() -> None:
    """10,000 spans into 16 places with an export of 200 ms: ending them takes what it takes without an exporter."""
    exporter = RecordingExporter(delay=0.2)
    processor = SheddingSpanProcessor(exporter, max_queue_size=16)
    _end_spans(processor, 100)
    _, took = _timed(lambda: _end_spans(processor, 10_000))
    assert took < 2.5
    stats = processor.stats()
    assert stats.ended == 10_100
    assert set(stats.dropped) <= {"queue_full", "over_budget"}
    assert sum(stats.dropped.values()) >= 10_000 - 16 - 16 * (took / 0.2 + 2)
    assert processor.force_flush(10_000)
    stats = processor.stats()
    assert stats.exported == len(exporter.spans) == 10_100 - sum(stats.dropped.values())
