"""Batches that are full by bytes go out as one request each, as full as it can be, and not as two."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig
from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.proof import encode_span
from otel_shed.testing.answers import count_spans
from otel_shed.testing.transport import ScriptedTransport
from tests.conftest import ended_span
from tests.control.spans import span

SIZES = pytest.mark.parametrize(
    ("size", "limit"),
    # As many as fit, as many as fit but for what is around them, one and a bit, hardly any.
    [
        (20_000, 4_000_000),
        (19_800, 4_000_000),
        (39_900, 4_000_000),
        (60_000, 100_000),
        (300, 1_024),
        (7_700, 4_000_000),
    ],
)


class Collector:
    """A pipeline to a collector that is held up until ``open``, and what it has been sent."""

    def __init__(self, *, limit: int, concurrent: int = 1) -> None:
        self._gate = threading.Event()
        self._transports: list[ScriptedTransport] = []
        exporter = OTLPSpanExporter(max_request_bytes=limit)
        exporter._client = OTLPClient(self._transport(), timeout=10.0)
        exporter._new_transport = self._transport  # type: ignore[assignment]
        config = ShedConfig(
            max_request_bytes=limit,
            concurrent_requests=concurrent,
            schedule_delay_millis=60_000,
            memory_limit_bytes=2**50,
        )
        self.shedder = LoadShedder(config, exporter=exporter)
        self.processor = self.shedder.span_processor()

    def _transport(self) -> ScriptedTransport:
        self._transports.append(ScriptedTransport(gate=self._gate))
        return self._transports[-1]

    def hold_up(self) -> None:
        """A first span is on its way, so that everything after it is queued."""
        self.processor.on_end(ended_span())
        threading.Thread(target=self.processor.force_flush, daemon=True).start()
        assert self._transports[0].entered.acquire(timeout=10.0)

    def requests(self) -> list[tuple[int | None, int]]:
        """Spans and bytes of each request but the first, once all that is queued has been sent."""
        self.open()
        assert self.processor.force_flush()
        sent = [payload for transport in self._transports for payload in transport.payloads]
        return [(count_spans(payload), len(payload)) for payload in sent[1:]]

    def open(self) -> None:
        self._gate.set()


@pytest.fixture
def collectors() -> Iterator[list[Collector]]:
    """Those that a test makes; all of them answer when it is over, however that ended."""
    made: list[Collector] = []
    yield made
    for collector in made:
        collector.open()


def made_span(size: int) -> ReadableSpan:
    return span("work", text="x" * size)


def most_that_fit(size: int, limit: int) -> int:
    """So many of them, each a little larger than its text, for which a request has room."""
    return max(1, (limit - 1500) // (encode_span(made_span(size)).length + 6)) if limit > 10_000 else 2


@SIZES
def test_one_batch_is_one_request(size: int, limit: int, collectors: list[Collector]) -> None:
    """All but the last are as full as they can be, give or take a span."""
    collectors.append(collector := Collector(limit=limit))
    collector.hold_up()
    for _ in range(1000 if size < 30_000 else 500):
        collector.processor.on_end(made_span(size))
    requests = collector.requests()
    assert all(length <= limit for _, length in requests)
    full = min(512, most_that_fit(size, limit))
    assert min(count or 0 for count, _ in requests[:-1]) >= full - 1


@pytest.mark.parametrize("concurrent", [2, 5])
def test_several_at_once(concurrent: int, collectors: list[Collector]) -> None:
    """The same where several requests are made at a time."""
    collectors.append(collector := Collector(limit=1_000_000, concurrent=concurrent))
    collector.hold_up()
    for _ in range(49 * concurrent * 4):
        collector.processor.on_end(made_span(20_000))
    assert {count for count, _ in collector.requests()} == {49}


def test_whole_traces(collectors: list[Collector]) -> None:
    """The same where traces are held, and go out whole."""
    collectors.append(collector := Collector(limit=1_000_000))
    collector.shedder.force_phase(Phase.OBSERVE)
    collector.hold_up()
    for _ in range(49 * 6):
        collector.processor.on_end(made_span(20_000))
    requests = [count or 0 for count, _ in collector.requests()]
    assert sum(requests) == 49 * 6
    assert min(requests[:-1]) >= 48


def test_one_that_is_larger_than_a_batch_goes_alone(collectors: list[Collector]) -> None:
    """A span that fills a request by itself neither stops the others nor is stopped."""
    collectors.append(collector := Collector(limit=100_000))
    collector.hold_up()
    for size in (10, 98_000, 10, 98_000, 98_000, 10):
        collector.processor.on_end(made_span(size))
    requests = collector.requests()
    assert sum(count or 0 for count, _ in requests) == 6
    assert all(length <= 100_000 for _, length in requests)
