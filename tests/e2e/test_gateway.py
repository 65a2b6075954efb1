"""A real gateway that limits, refuses and delays: what it asks for is kept to, and nothing is lost that need not be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from tests.e2e.collectors import Envoy, Rotel
from tests.e2e.envoy_config import DELAY_SECONDS, RETRY_SECONDS
from tests.launched import until

_ACCEPTED = {"OK", 200}


def _processor(gateway: Envoy, listener: str, protocol: str, **settings: float) -> SheddingSpanProcessor:
    endpoint = gateway.endpoint(listener)
    exporter = OTLPSpanExporter(
        protocol=protocol, endpoint=endpoint if protocol == "grpc" else f"{endpoint}/v1/traces", **settings
    )
    return SheddingSpanProcessor(exporter, max_export_batch_size=10)


def _end_spans(processor: SheddingSpanProcessor, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer(__name__)
    for number in range(count):
        tracer.start_span(f"span-{number}").end()


def _waits_after_refusals(gateway: Envoy, requests: int) -> list[float]:
    """Seconds from each request that was turned away to the next one."""
    arrivals = gateway.arrivals(requests)
    return [later - earlier for (earlier, answer), (later, _) in pairwise(arrivals) if answer not in _ACCEPTED]


@pytest.mark.parametrize(("listener", "protocol"), [("limited", "http/protobuf"), ("limited_retry_info", "grpc")])
def test_the_wait_that_was_asked_for_is_kept(gateway: Envoy, collector: Rotel, listener: str, protocol: str) -> None:
    """429 with Retry-After, RESOURCE_EXHAUSTED with RetryInfo: nothing is sent before that time, and all arrives."""
    processor = _processor(gateway, listener, protocol)
    _end_spans(processor, 30)
    assert processor.force_flush(25_000)
    waits = _waits_after_refusals(gateway, 4)
    print(f"\n{listener} {protocol}: waits {waits}")
    assert waits
    assert all(RETRY_SECONDS - 0.01 <= wait < RETRY_SECONDS * 1.5 for wait in waits)
    collector.wait_for_spans(30)
    processor.shutdown()
    assert (processor.stats().exported, dict(processor.stats().dropped), collector.spans) == (30, {}, 30)


@pytest.mark.parametrize(("listener", "protocol"), [("limited", "http/protobuf"), ("limited_retry_info", "grpc")])
def test_the_wait_outlasts_the_time_limit_of_a_request(
    gateway: Envoy, collector: Rotel, listener: str, protocol: str
) -> None:
    """With a time-out shorter than the wait neither this batch nor the next is sent into it."""
    processor = _processor(gateway, listener, protocol, timeout=RETRY_SECONDS / 2)
    _end_spans(processor, 30)
    assert processor.force_flush(25_000)
    assert min(_waits_after_refusals(gateway, 4)) >= RETRY_SECONDS - 0.01
    collector.wait_for_spans(30)
    processor.shutdown()
    assert collector.spans == processor.stats().exported == 30


def test_resource_exhausted_without_retry_info_is_final(gateway: Envoy, collector: Rotel) -> None:
    """A batch that is refused so is not sent again, and is counted as what it is."""
    processor = _processor(gateway, "limited", "grpc")
    _end_spans(processor, 30)
    assert processor.force_flush(10_000) is False
    answers = [answer for _, answer in gateway.arrivals(3)]
    stats = processor.stats()
    taken = 10 * sum(answer == "OK" for answer in answers)
    assert (len(answers), set(answers)) == (3, {"OK", "ResourceExhausted"})
    assert (stats.exported, dict(stats.dropped)) == (taken, {"not_retryable": 30 - taken})
    collector.wait_for_spans(taken)
    processor.shutdown()
    assert collector.spans == taken


def test_unavailable_is_tried_again(gateway: Envoy, collector: Rotel) -> None:
    """UNAVAILABLE without a wait is retried after a back-off of our own, until everything has arrived."""
    processor = _processor(gateway, "limited_unavailable", "grpc")
    _end_spans(processor, 30)
    assert processor.force_flush(25_000)
    waits = _waits_after_refusals(gateway, 4)
    assert waits
    assert min(waits) >= 0.79  # a second, less a fifth of jitter
    collector.wait_for_spans(30)
    processor.shutdown()
    assert collector.spans == processor.stats().exported == 30


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_circuit_breaker(gateway: Envoy, collector: Rotel, protocol: str) -> None:
    """While one request occupies the breaker a second exporter is turned away; both deliver once it is free."""
    collector.stall()
    first, second = (_processor(gateway, "breaker", protocol) for _ in range(2))
    _end_spans(first, 10)
    until(lambda: first.stats().in_flight == 10, what="the first request under way")
    _end_spans(second, 10)
    until(lambda: any(answer not in _ACCEPTED for _, answer in gateway.arrivals(1)), what="an answer of the breaker")
    collector.resume()
    assert first.force_flush(10_000)
    assert second.force_flush(10_000)
    collector.wait_for_spans(20)
    for processor in (first, second):
        processor.shutdown()
        assert (processor.stats().exported, dict(processor.stats().dropped)) == (10, {})
    assert collector.spans == 20


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_slow_gateway(gateway: Envoy, collector: Rotel, protocol: str) -> None:
    """Requests that are answered late, but in time, are neither lost nor sent twice."""
    processor = _processor(gateway, "delayed", protocol, timeout=DELAY_SECONDS * 5)
    _end_spans(processor, 30)
    assert processor.force_flush(15_000)
    collector.wait_for_spans(30)
    processor.shutdown()
    assert [answer in _ACCEPTED for _, answer in gateway.arrivals(3)] == [True] * 3
    assert collector.spans == processor.stats().exported == 30
