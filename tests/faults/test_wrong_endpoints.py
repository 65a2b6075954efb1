"""Endpoints that are no collector's, and forms of endpoints, over real sockets."""

from __future__ import annotations

import logging
import struct

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as StockGRPCExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from otel_shed.outcome import DropReason
from otel_shed.testing.answers import Answer
from otel_shed.testing.receiver import Receiver
from tests.faults.raw_server import Connection, RawServer

HTTP = "http/protobuf"
PAGE = b"<!doctype html><title>It works!</title>"


def exported(answer: Answer, caplog: pytest.LogCaptureFixture) -> tuple[bool, int, list[str], str]:
    """Ten spans through a processor: whether the flush held, spans lost as not retryable, what was logged, the URL."""
    with Receiver() as receiver:
        receiver.answer = lambda _: answer
        exporter = OTLPSpanExporter(HTTP, receiver.http_endpoint, environ={})
        processor = SheddingSpanProcessor(exporter)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        for _ in range(10):
            provider.get_tracer("test").start_span("span").end()
        flushed = provider.force_flush(10_000)
        provider.shutdown()
        assert receiver.counts.requests == 1, "the request was made again"
        lines = [record.getMessage() for record in caplog.records if record.name == "otel_shed"]
        lost = processor.stats().dropped.get(DropReason.NOT_RETRYABLE, 0)
        return flushed, lost, lines, exporter.settings.endpoint


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}], ids=["typed", "untyped"])
def test_a_web_page_loses_the_batch(headers: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """The flush says so, the request is not made again, and one line says what was found at which URL."""
    flushed, lost, lines, url = exported(Answer(body=PAGE, headers=headers), caplog)
    assert (flushed, lost) == (False, 10)
    (line,) = [line for line in lines if "HTML" in line and "spans lost" in line]
    assert f'200: an HTML page, "It works!", at {url}, where a collector was expected' in line


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("", b""), ("text/plain", b"OK"), ("application/json", b"{}"), ("", b"taken"), ("text/html", b"")],
)
def test_all_other_answers_of_200_are_successes(
    content_type: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that arrived is counted as lost, and nothing is said."""
    headers = {"Content-Type": content_type} if content_type else {}
    flushed, lost, lines, _ = exported(Answer(body=body, headers=headers), caplog)
    assert (flushed, lost, lines) == (True, 0, [])


def test_a_redirect_loses_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    """One line says from where to where, and that it is not followed."""
    flushed, lost, lines, url = exported(Answer(status=308, headers={"Location": "/elsewhere"}), caplog)
    assert (flushed, lost) == (False, 10)
    (line,) = [line for line in lines if "redirect" in line and "spans lost" in line]
    elsewhere = url.replace("/v1/traces", "/elsewhere")
    assert f"308: a redirect, which is not followed, from {url} to {elsewhere}" in line


def test_a_redirect_by_grpc_is_told(span: ReadableSpan) -> None:
    """gRPC does not tell where it leads; that it is one, and that it is not followed, is said."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def redirecting(connection: Connection) -> None:
        connection.send(frame(4, 0, 0, b""))  # SETTINGS
        connection.receive_until(b"\x01\x04\x00\x00\x00\x01")  # HEADERS of the first stream
        connection.send(frame(1, 5, 1, b"\x00\x07:status\x03308\x00\x08location\x09https://x"))
        connection.receive_all()

    with RawServer(redirecting) as server:
        exporter = OTLPSpanExporter("grpc", f"http://127.0.0.1:{server.port}", environ={})
        assert exporter.export([span]) is SpanExportResult.FAILURE
        attempt = exporter.last_attempt
        exporter.shutdown()
    assert attempt is not None
    assert f"HTTP 308, a redirect, which is not followed, from 127.0.0.1:{server.port}" in attempt.words


def test_a_page_whose_connection_breaks_off(span: ReadableSpan) -> None:
    """A page that says it is longer than what comes is a page."""

    def half_a_page(connection: Connection) -> None:
        if connection.request() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 900\r\n\r\n<html>")

    with RawServer(half_a_page) as server:
        exporter = OTLPSpanExporter(HTTP, f"http://127.0.0.1:{server.port}", environ={})
        assert exporter.export([span]) is SpanExportResult.FAILURE
        exporter.shutdown()
        assert len(server.requests) == 1


@pytest.fixture
def span() -> ReadableSpan:
    """One that has ended."""
    started = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span")
    started.end()
    assert isinstance(started, ReadableSpan)
    return started


@pytest.mark.parametrize(
    "form",
    [
        *("http://{}", "grpc://{}", "tcp://{}", "h2c://{}", "//{}", "{}", "dns://{}", "dns:///{}", "dns:{}"),
        *("ipv4:{}", "ipv4://{}", "xds://{}", "unix://{}", "grpc://{}/path?query#fragment", "{}?query", " http://{}"),
    ],
)
def test_every_form_that_the_stock_exporter_takes(
    form: str, span: ReadableSpan, caplog: pytest.LogCaptureFixture
) -> None:
    """A span arrives through the stock gRPC exporter and through ours."""
    caplog.set_level(logging.CRITICAL)
    with Receiver() as receiver:
        endpoint = form.format(f"127.0.0.1:{receiver.grpc_port}")
        for exporter in (
            StockGRPCExporter(endpoint=endpoint, insecure=True, timeout=10),
            OTLPSpanExporter("grpc", endpoint, insecure=True, environ={}),
            OTLPSpanExporter(
                environ={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_INSECURE": "true"},
            ),
        ):
            before = receiver.counts.spans
            assert exporter.export([span]) is SpanExportResult.SUCCESS
            assert receiver.counts.spans == before + 1
            exporter.shutdown()
