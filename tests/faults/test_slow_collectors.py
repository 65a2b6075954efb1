"""A collector that takes fewer spans in the time of a request than a batch has."""

from __future__ import annotations

import time

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig
from otel_shed.outcome import DropReason
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import GRPC, HTTP

RATE = 200.0  # spans a second: a batch of 512 takes two and a half
TIMEOUT = 0.5
LOST = 512 + 256 + 128


def slow(request: Request) -> Answer:
    return Answer(delay=(request.spans or 0) / RATE)


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_it_gets_what_it_can_take(protocol: str) -> None:
    """Three batches are lost, each half of the one before: then they are small enough, and none is lost any more."""
    with Receiver(answer=slow) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else f"{receiver.http_endpoint}/v1/traces"
        exporter = OTLPSpanExporter(protocol, endpoint, timeout=TIMEOUT)
        config = ShedConfig(export_timeout_millis=600, mode="observe", schedule_delay_millis=100)
        shedder = LoadShedder(config, exporter=exporter)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(shedder.span_processor())
        tracer = provider.get_tracer("test")
        for _ in range(LOST + 200):
            tracer.start_span("work").end()
        until = time.monotonic() + 60.0
        while shedder.stats().exported < 200 and time.monotonic() < until:
            time.sleep(0.05)
        stats = shedder.stats()
        assert (stats.exported, stats.dropped) == (200, {DropReason.EXPORT_TIMEOUT.value: LOST})
        provider.shutdown()
        assert shedder.stats().unaccounted == 0
