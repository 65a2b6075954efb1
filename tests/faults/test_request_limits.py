"""A collector, or a proxy before it, with a limit below ours: on real sockets, through the pipeline, all counted."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import HTTP, PROTOCOLS

LIMIT = 1_000_000
SPANS = 3_000
_REFUSED = Answer(
    code="RESOURCE_EXHAUSTED",
    details="grpc: received message larger than max (3500000 vs. 1000000)",
    status=413,
    body=b"<html><head><title>413 Request Entity Too Large</title></head></html>",
    headers={"Content-Type": "text/html"},
)


def limited(request: Request) -> Answer:
    return _REFUSED if len(request.payload) > LIMIT else Answer()


def numbers(request: Request) -> list[int]:
    message = ExportTraceServiceRequest.FromString(request.payload)
    found = [span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return [span.attributes[0].value.int_value for span in found]


@PROTOCOLS
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_limit_below_ours(protocol: str, at_once: int, caplog: pytest.LogCaptureFixture) -> None:
    """Batch after batch arrives, but for the one span that is too large alone; nothing is shed, and one line tells."""
    with Receiver(keep=1_000, answer=limited) as receiver, caplog.at_level(logging.WARNING, "otel_shed"):
        endpoint = f"{receiver.http_endpoint}/v1/traces" if protocol == HTTP else receiver.grpc_endpoint
        config = ShedConfig(
            max_queue_size=8_000, max_export_batch_size=1_000, schedule_delay_millis=60_000, concurrent_requests=at_once
        )
        shedder = LoadShedder(config, exporter=OTLPSpanExporter(protocol, endpoint, environ={}))
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(shedder.span_processor())
        tracer = provider.get_tracer(__name__)
        for number in range(SPANS):
            body = "x" * (1_200_000 if number == 700 else 2_500)
            tracer.start_span("work", attributes={"number": number, "body": body}).end()
        assert not provider.force_flush()  # one is lost
        stats = shedder.stats()
        assert (stats.exported, dict(stats.dropped), stats.unaccounted) == (SPANS - 1, {"not_retryable": 1}, 0)
        assert stats.phase is Phase.NORMAL
        taken = [request for request in receiver.requests if len(request.payload) <= LIMIT]
        arrived = sorted(number for request in taken for number in numbers(request))
        assert arrived == [number for number in range(SPANS) if number != 700]
        refused = len(receiver.requests) - len(taken)
        for number in range(SPANS):
            tracer.start_span("work", attributes={"number": number, "body": "x" * 2_500}).end()
        assert provider.force_flush()
        again = sum(len(request.payload) > LIMIT for request in receiver.requests) - refused
        assert again == 0
        provider.shutdown()
    lines = [line for line in caplog.messages if "OTEL_SHED_MAX_REQUEST_BYTES" in line]
    assert len(lines) == 1
    assert "too large" in lines[0]
