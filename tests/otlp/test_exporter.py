"""OTLPSpanExporter against a receiver: what arrives, in which pieces, with which headers, and what export() says."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from otel_shed import OTLPSpanExporter
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.proof import encode_span
from otel_shed.outcome import DropReason
from otel_shed.record import SpanRecord
from otel_shed.testing.answers import Answer, Request, partial_success
from otel_shed.testing.receiver import Receiver
from tests.launched import bare_environment, until
from tests.otlp.made_spans import made_span

PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(keep=100) as receiver:
        yield receiver


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made_exporter(receiver: Receiver, protocol: str, **options: Any) -> OTLPSpanExporter:
    """One whose environment is the receiver's address alone."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return OTLPSpanExporter(environ=environ, **options)


@pytest.fixture
def exporter(receiver: Receiver, protocol: str) -> Iterator[OTLPSpanExporter]:
    exporter = made_exporter(receiver, protocol)
    yield exporter
    exporter.shutdown()


def made_spans(count: int) -> list[ReadableSpan]:
    return [made_span(f"span-{number}") for number in range(count)]


def made_records(count: int) -> list[SpanRecord]:
    return [encode_span(span) for span in made_spans(count)]


def names(request: Request) -> list[str]:
    message = ExportTraceServiceRequest.FromString(request.payload)
    return [span.name for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]


def test_spans_arrive_under_the_stock_processor(receiver: Receiver, exporter: OTLPSpanExporter, protocol: str) -> None:
    """Each span that ended arrives once and in order, by the protocol and at the path that were asked for."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1000, max_export_batch_size=100))
    tracer = provider.get_tracer(__name__)
    for number in range(250):
        tracer.start_span(f"span-{number}").end()
    assert provider.force_flush()
    provider.shutdown()
    assert [name for request in receiver.requests for name in names(request)] == [f"span-{n}" for n in range(250)]
    assert {request.protocol for request in receiver.requests} == {protocol}
    if protocol != "grpc":
        assert {request.path for request in receiver.requests} == {"/v1/traces"}


def test_records_arrive_as_one_request(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """send_records makes one request, and says that the collector took it."""
    outcome = exporter.send_records(made_records(300), budget=10.0)
    assert (outcome.accepted, outcome.rejected, outcome.reason, outcome.attempts) == (300, 0, None, 1)
    (request,) = receiver.requests
    assert names(request) == [f"span-{number}" for number in range(300)]
    assert exporter.last_attempt is not None
    assert exporter.last_attempt.accepted


@pytest.mark.parametrize(
    ("protocol", "compression"), [("grpc", "gzip"), ("http/protobuf", "gzip"), ("http/protobuf", "deflate")]
)
def test_compressed_requests_arrive(receiver: Receiver, protocol: str, compression: str) -> None:
    """gzip over both protocols, deflate over HTTP: the receiver reads the spans, and the header says how."""
    exporter = made_exporter(receiver, protocol, compression=compression)
    assert exporter.export(made_spans(200)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    (request,) = receiver.requests
    assert len(names(request)) == 200
    if protocol != "grpc":
        assert request.encoding == compression
        assert int(request.headers["content-length"]) < len(request.payload) / 2


def test_headers_and_user_agent_arrive(receiver: Receiver, protocol: str) -> None:
    """The headers that were set, and a user agent that begins with our product token, then the specification's."""
    exporter = made_exporter(receiver, protocol, headers={"Api-Key": "a, b", "x-tenant": "shop"})
    assert exporter.export(made_spans(1)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    headers = receiver.requests[0].headers
    assert (headers["api-key"], headers["x-tenant"]) == ("a, b", "shop")
    first, second = headers["user-agent"].split()[:2]
    assert first.startswith("otel-shed/")
    assert second.startswith("OTel-OTLP-Exporter-Python/")
    if protocol != "grpc":
        assert headers["content-type"] == "application/x-protobuf"


def test_a_large_batch_is_split(receiver: Receiver, protocol: str) -> None:
    """No request of export() is over max_request_bytes, no span is left out or sent twice, and the order stays."""
    exporter = made_exporter(receiver, protocol, max_request_bytes=1024)
    assert exporter.export(made_spans(100)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert len(receiver.requests) > 4
    assert max(len(request.payload) for request in receiver.requests) <= 1024
    assert [name for request in receiver.requests for name in names(request)] == [f"span-{n}" for n in range(100)]


@pytest.mark.parametrize("size", [1023, (64 << 20) + 1])
def test_a_bad_request_size_is_an_error(size: int) -> None:
    """From 1 KiB to the specification's 64 MiB."""
    with pytest.raises(ValueError, match="max_request_bytes must be an integer from 1024 to 67108864, not "):
        OTLPSpanExporter(max_request_bytes=size, environ={})


def test_a_refused_request_is_a_failure(
    receiver: Receiver, exporter: OTLPSpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that must not be retried: FAILURE after one request, with one warning in the collector's words."""
    receiver.answer = lambda _: Answer(
        code="PERMISSION_DENIED",
        details="wrong key",
        status=403,
        body=b"wrong key",
        headers={"Content-Type": "text/plain"},
    )
    assert exporter.export(made_spans(3)) is SpanExportResult.FAILURE
    assert exporter.export(made_spans(3)) is SpanExportResult.FAILURE
    assert len(receiver.requests) == 2
    (line,) = [record.getMessage().removeprefix(PREFIX) for record in caplog.records if record.name == "otel_shed"]
    assert line.startswith("3 spans lost: the collector at ")
    assert "wrong key" in line


def test_one_lost_piece_is_a_failure(receiver: Receiver, protocol: str) -> None:
    """Of a batch in pieces the others are sent all the same."""
    receiver.answer = lambda request: Answer(code="INTERNAL", status=500) if request.number == 1 else Answer()
    exporter = made_exporter(receiver, protocol, max_request_bytes=1024)
    assert exporter.export(made_spans(100)) is SpanExportResult.FAILURE
    exporter.shutdown()
    counts = receiver.counts
    assert counts.requests > 4
    assert counts.spans + counts.refused_spans == 100
    assert counts.refused_spans == receiver.requests[1].spans


def test_rejected_spans_are_a_success_with_a_warning(
    receiver: Receiver, exporter: OTLPSpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """A partial success is the collector's business: never sent again, warned about, with its words."""
    receiver.answer = lambda _: Answer(body=partial_success(2, "too old"))
    assert exporter.export(made_spans(3)) is SpanExportResult.SUCCESS
    outcome = exporter.send_records(made_records(3), budget=10.0)
    assert (outcome.accepted, outcome.rejected, outcome.reason) == (1, 2, None)
    assert len(receiver.requests) == 2
    (line,) = caplog.messages
    assert line.startswith(f"{PREFIX}2 spans lost: the collector at ")
    assert "took the request and rejected them (too old). The program goes on and is not affected" in line


def test_an_answer_that_may_be_retried_is(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """UNAVAILABLE and 503: the same request again after the back-off, and then SUCCESS."""
    receiver.answer = lambda request: Answer() if request.number else Answer(code="UNAVAILABLE", status=503)
    assert exporter.export(made_spans(3)) is SpanExportResult.SUCCESS
    first, second = receiver.requests
    assert first.payload == second.payload


def test_nothing_is_sent_after_shutdown(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """shutdown() may come twice; after it export() fails, send_records() says why, and no request is made."""
    assert exporter.export(made_spans(1)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(made_spans(1)) is SpanExportResult.FAILURE
    outcome = exporter.send_records(made_records(2), budget=10.0)
    assert (outcome.accepted, outcome.reason, outcome.attempts) == (0, DropReason.ALREADY_SHUTDOWN, 0)
    assert exporter.force_flush()
    assert receiver.counts.requests == 1


def test_an_empty_batch_makes_no_request(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """No envelopes without spans: the specification forbids them."""
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert receiver.counts.requests == 0


def test_shutdown_ends_a_request_that_gets_no_answer(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """After its time shutdown() interrupts the export under way, which is a FAILURE at once."""
    receiver.answer = lambda _: Answer(hang=True)
    results: list[SpanExportResult] = []
    exporting = threading.Thread(target=lambda: results.append(exporter.export(made_spans(1))))
    exporting.start()
    until(lambda: receiver.counts.requests, what="a request")
    began = time.monotonic()
    exporter.shutdown(300)
    exporting.join(10)
    assert results == [SpanExportResult.FAILURE]
    assert 0.25 < time.monotonic() - began < 1.5


def test_a_request_under_way_is_waited_for(receiver: Receiver, exporter: OTLPSpanExporter) -> None:
    """shutdown() lets an export that the collector is about to answer end."""
    receiver.answer = lambda _: Answer(delay=0.5)
    results: list[SpanExportResult] = []
    exporting = threading.Thread(target=lambda: results.append(exporter.export(made_spans(1))))
    exporting.start()
    until(lambda: receiver.counts.requests, what="a request")
    exporter.shutdown(10_000)
    exporting.join(10)
    assert results == [SpanExportResult.SUCCESS]


def test_no_variable_of_the_process_is_needed(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Everything in code: spans arrive though the process's own variables say otherwise."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    exporter = OTLPSpanExporter("grpc", receiver.grpc_endpoint)
    assert exporter.export(made_spans(1)) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_greenlets_share_an_exporter(receiver: Receiver) -> None:
    """Under gevent's patches, stock processor included: who waits for a request under way lets its greenlet go on."""
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, sys, time
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from otel_shed import OTLPSpanExporter

        exporter = OTLPSpanExporter("http/protobuf", sys.argv[1])
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=1, max_queue_size=10))
        provider.get_tracer("test").start_span("first").end()
        gevent.sleep(0.2)  # its export is under way
        began = time.monotonic()
        exporter.shutdown(10_000)
        print(time.monotonic() - began)
        provider.shutdown()
    """
    receiver.answer = lambda _: Answer(delay=1.0)
    command = [sys.executable, "-c", textwrap.dedent(program), f"{receiver.http_endpoint}/v1/traces"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=bare_environment())
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 3.0
    assert receiver.counts.spans == 1
