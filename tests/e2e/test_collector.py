"""Our exporter and our processor against a real collector: what we call exported is what it took, once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor, Stats
from tests.e2e.collectors import Rotel
from tests.e2e.slow_line import SlowLine
from tests.launched import Launched

_PROGRAMS = Path(__file__).parent / "programs"


def _endpoint(collector: Rotel, protocol: str) -> str:
    return collector.grpc if protocol == "grpc" else f"{collector.http}/v1/traces"


def _end_spans(processor: SheddingSpanProcessor, count: int, *, size: int = 10) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer(__name__)
    for number in range(count):
        tracer.start_span(f"span-{number}", attributes={"body": "x" * size}).end()


def _account(stats: Stats) -> tuple[int, dict[str, int], int]:
    return stats.exported, dict(stats.dropped), stats.unaccounted


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_every_span_arrives_once(naming_collector: Rotel, protocol: str, compression: str) -> None:
    """A thousand spans in batches of 64 are all taken, and flush and account say so."""
    exporter = OTLPSpanExporter(
        protocol=protocol, endpoint=_endpoint(naming_collector, protocol), compression=compression
    )
    processor = SheddingSpanProcessor(exporter, max_export_batch_size=64)
    _end_spans(processor, 1000)
    assert processor.force_flush(10_000)
    assert _account(processor.stats()) == (1000, {}, 0)
    naming_collector.wait_for_spans(1000)
    processor.shutdown()
    assert naming_collector.names == Counter(f"span-{number}" for number in range(1000))


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_batch_over_the_collectors_limit_is_split(collector: Rotel, protocol: str) -> None:
    """Sixty spans of 100 kB, which no receiver of 4 MiB takes at once, all arrive; one of 5 MB is dropped by name."""
    processor = SheddingSpanProcessor(
        OTLPSpanExporter(protocol=protocol, endpoint=_endpoint(collector, protocol)), max_queue_size=100
    )
    _end_spans(processor, 60, size=100_000)
    assert processor.force_flush(10_000)
    _end_spans(processor, 1, size=5_000_000)
    assert processor.force_flush(10_000) is False
    assert _account(processor.stats()) == (60, {"too_large": 1}, 0)
    collector.wait_for_spans(60)
    assert len(collector.requests) >= 2
    processor.shutdown()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_stalls_and_goes_on(collector: Rotel, protocol: str) -> None:
    """While it stalls a flush is False; once it goes on everything that was held is delivered, once."""
    processor = SheddingSpanProcessor(
        OTLPSpanExporter(protocol=protocol, endpoint=_endpoint(collector, protocol)), max_export_batch_size=50
    )
    _end_spans(processor, 100)
    assert processor.force_flush(10_000)
    collector.stall()
    _end_spans(processor, 500)
    assert processor.force_flush(300) is False
    assert processor.stats().in_flight == 50
    collector.resume()
    assert processor.force_flush(10_000)
    assert _account(processor.stats()) == (600, {}, 0)
    collector.wait_for_spans(600)
    processor.shutdown()
    assert collector.spans == 600


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_collector_that_is_far_away(collector: Rotel, protocol: str) -> None:
    """Where a round trip takes more than a second the connection comes about, and the spans arrive."""
    port = collector.grpc_port if protocol == "grpc" else collector.http_port
    with SlowLine(port, delay=0.6) as line:
        endpoint = f"http://127.0.0.1:{line.port}" + ("" if protocol == "grpc" else "/v1/traces")
        processor = SheddingSpanProcessor(OTLPSpanExporter(protocol=protocol, endpoint=endpoint))
        _end_spans(processor, 10)
        assert processor.force_flush(15_000)
        collector.wait_for_spans(10)
        processor.shutdown()
    assert collector.spans == processor.stats().exported == 10


@pytest.mark.parametrize("patched", ["as it is", "gevent"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_forked_children_have_connections_of_their_own(naming_collector: Rotel, protocol: str, patched: str) -> None:
    """Parent and children, forked with a connection open and a request under way, each deliver their own spans."""
    program = [sys.executable, _PROGRAMS / "forks_with_open_connection.py", protocol, patched]
    with Launched([*program, _endpoint(naming_collector, protocol)]) as running:
        assert running.wait(60) == 0, running.output
    assert running.output == "statuses {0}"
    who = ["before", "after", *(f"child-{number}" for number in range(6))]
    once = Counter(f"{each}-{number}" for each in who for number in range(20))
    during = [f"during-{number}" for number in range(20)]
    naming_collector.wait_for_spans(once.total() + len(during))
    # A fork interrupts the request under way, and its batch is sent anew: the collector may have taken it already.
    assert all(naming_collector.names.pop(name) for name in during)
    assert naming_collector.names == once
