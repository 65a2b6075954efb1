"""The exporter's own metrics: each span once, the last attempt's cause, one duration for each call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockExporter
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from otel_shed.instruments import SDK_METRICS_ENABLED
from otel_shed.otlp import exporter as exporter_module
from otel_shed.otlp.operations import error_type, server_of
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.retry import Attempt, Verdict, no_answer
from otel_shed.otlp.settings import ExporterSettings
from otel_shed.outcome import DropReason, Outcome
from otel_shed.testing.receiver import Receiver
from otel_shed.testing.transport import ACCEPTED, ScriptedTransport
from tests.conftest import ended_span
from tests.metrics.conftest import nothing_global, provider, reader
from tests.metrics.readings import collected, in_a_child
from tests.otlp.made_spans import made_span

__all__ = ["nothing_global", "provider", "reader"]

EXPORTED = "otel.sdk.exporter.span.exported"
IN_FLIGHT = "otel.sdk.exporter.span.inflight"
DURATION = "otel.sdk.exporter.operation.duration"
ON = {SDK_METRICS_ENABLED: "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
REFUSED = Attempt(Verdict.PERMANENT, "INVALID_ARGUMENT", "no")

Made = Callable[..., OTLPSpanExporter]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, provider: MeterProvider) -> Made:
    """Makes an exporter whose collector gives these answers, and keeps it: metrics do not."""
    kept: list[OTLPSpanExporter] = []

    def make(*answers: Any, gate: threading.Event | None = None, **options: Any) -> OTLPSpanExporter:
        transport = ScriptedTransport(answers, gate=gate)
        monkeypatch.setattr(exporter_module, "_transport", lambda *_: transport)
        kept.append(OTLPSpanExporter(**{"environ": ON, "meter_provider": provider} | options))
        return kept[-1]

    return make


def spans(count: int) -> list[Any]:
    return [made_span(f"span-{number}") for number in range(count)]


def exported(reader: InMemoryMetricReader) -> dict[str | None, int]:
    """Spans by error.type."""
    return {point.attributes.get("error.type"): point.value for point in collected(reader).get(EXPORTED, [])}


def operations(reader: InMemoryMetricReader) -> list[tuple[int, dict[str, Any]]]:
    """How many calls there were, with the attributes that are not the exporter's."""
    own = ("otel.component.type", "otel.component.name", "server.address", "server.port")
    return [
        (point.value[0], {name: value for name, value in point.attributes.items() if name not in own})
        for point in collected(reader).get(DURATION, [])
    ]


def test_what_the_collector_took(reader: InMemoryMetricReader, made: Made) -> None:
    """Without an error.type; the exporter is named by its protocol and by where it sends."""
    exporter = made()
    assert exporter.export(spans(3)) is SpanExportResult.SUCCESS
    assert exporter.send_records([encode_span(span) for span in spans(2)], budget=1.0).accepted == 2
    (point,) = collected(reader)[EXPORTED]
    assert point.value == 5
    name = point.attributes["otel.component.name"]
    assert name.startswith("otlp_grpc_span_exporter/shed-")
    assert point.attributes == {
        "otel.component.type": "otlp_grpc_span_exporter",
        "otel.component.name": name,
        "server.address": "collector",
        "server.port": 4317,
    }
    assert operations(reader) == [(2, {"rpc.response.status_code": "OK"})]


@pytest.mark.parametrize(
    ("answer", "cause", "status"),
    [
        (REFUSED, "INVALID_ARGUMENT", {"rpc.response.status_code": "INVALID_ARGUMENT"}),
        (Attempt(Verdict.PERMANENT, "404"), "404", {"http.response.status_code": 404}),
        (Attempt(Verdict.PERMANENT, "200"), "not_retryable", {"http.response.status_code": 200}),
        (no_answer("connection refused", retryable=False), "connection_refused", {}),
        (no_answer("timed out", timed_out=True, retryable=False), "timeout", {}),
        (OSError("a fault"), "exporter_error", {}),
    ],
)
def test_what_was_lost(
    reader: InMemoryMetricReader, made: Made, answer: Any, cause: str, status: dict[str, Any]
) -> None:
    """With the cause of the last attempt: a status, what came instead of one, or the reason where it is ours."""
    assert made(answer).export(spans(3)) is SpanExportResult.FAILURE
    assert exported(reader) == {cause: 3}
    assert operations(reader) == [(1, {"error.type": cause, **status})]


def test_what_the_collector_rejected(reader: InMemoryMetricReader, made: Made) -> None:
    """Rejected spans count as failed, the others as exported, and the operation as failed."""
    made(Attempt(Verdict.ACCEPTED, "200", rejected=1)).export(spans(3))
    assert exported(reader) == {None: 2, "rejected": 1}
    assert operations(reader) == [(1, {"error.type": "rejected", "http.response.status_code": 200})]


def test_attempts_in_between_do_not_count(reader: InMemoryMetricReader, made: Made) -> None:
    """A batch that gets through at the second attempt is exported, once, in one operation."""
    exporter = made(Attempt(Verdict.RETRYABLE, "UNAVAILABLE", retry_after=0.001), ACCEPTED)
    assert exporter.export(spans(3)) is SpanExportResult.SUCCESS
    assert exported(reader) == {None: 3}
    assert operations(reader) == [(1, {"rpc.response.status_code": "OK"})]


def test_a_call_in_pieces_is_one_operation(reader: InMemoryMetricReader, made: Made) -> None:
    """Each piece counts its own spans; what failed last is the operation's error."""
    exporter = made(REFUSED, ACCEPTED, max_request_bytes=1024)
    assert exporter.export(spans(50)) is SpanExportResult.FAILURE
    found = exported(reader)
    assert set(found) == {None, "INVALID_ARGUMENT"}
    assert sum(found.values()) == 50
    ((count, attributes),) = operations(reader)
    assert (count, attributes["error.type"]) == (1, "INVALID_ARGUMENT")


def test_a_span_that_cannot_be_encoded_was_passed_to_the_exporter(
    reader: InMemoryMetricReader, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it counts, as a failure of ours."""
    exporter = made()
    monkeypatch.setattr(exporter, "_encoded", lambda spans: ([encode_span(span) for span in spans[1:]], 1))
    exporter.export(spans(3))
    assert exported(reader) == {None: 2, "encode_failed": 1}


def test_after_shutdown(reader: InMemoryMetricReader, made: Made) -> None:
    """The counts stay readable, and what comes too late is counted as such."""
    exporter = made()
    exporter.export(spans(3))
    exporter.shutdown()
    exporter.export(spans(2))
    assert exported(reader) == {None: 3, "already_shutdown": 2}
    assert operations(reader)[1:] == [(1, {"error.type": "already_shutdown"})]


def test_in_flight_from_beginning_to_end(reader: InMemoryMetricReader, provider: MeterProvider, made: Made) -> None:
    """All spans of a call, until it has returned; also for a provider that comes in the middle of it."""
    gate = threading.Event()
    exporter = made(gate=gate, meter_provider=None)
    thread = threading.Thread(target=exporter.export, args=(spans(3),), daemon=True)
    thread.start()
    assert exporter._client._transports[0].entered.acquire(timeout=10.0)  # type: ignore[attr-defined]
    set_meter_provider(provider)
    assert [point.value for point in collected(reader)[IN_FLIGHT]] == [3]
    gate.set()
    thread.join()
    assert [point.value for point in collected(reader)[IN_FLIGHT]] == [0]
    assert exported(reader) == {None: 3}


def test_a_call_that_raises_is_settled_all_the_same(
    reader: InMemoryMetricReader, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours loses the spans; they are not in flight for ever."""
    exporter = made()
    monkeypatch.setattr(exporter._client, "deliver", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exporter.send_records([encode_span(span) for span in spans(2)], budget=1.0)
    assert exported(reader) == {"exporter_error": 2}
    assert [point.value for point in collected(reader)[IN_FLIGHT]] == [0]


def test_a_meter_provider_that_fails_is_not_the_batch_s_fault(
    made: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The spans were taken, and that is what export says; the fault is one line."""
    exporter = made()
    monkeypatch.setattr(exporter._operations._duration, "record", lambda *_: 1 / 0)
    assert exporter.export(spans(1)) is SpanExportResult.SUCCESS
    assert ["duration was not recorded" in record.getMessage() for record in caplog.records] == [True]


def test_are_off_unless_asked_for(reader: InMemoryMetricReader, made: Made) -> None:
    """They are in development in the conventions, so they are opt-in, as the stock exporters' are."""
    made(environ={}).export(spans(1))
    assert collected(reader) == {}


def test_under_the_stock_processor(reader: InMemoryMetricReader, made: Made) -> None:
    """The exporter reports by itself, whatever stands before it."""
    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(made()))
    traces.get_tracer(__name__).start_span("work").end()
    assert traces.force_flush()
    assert exported(reader) == {None: 1}
    traces.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_counts_its_own(reader: InMemoryMetricReader, made: Made) -> None:
    """What the parent exported is in the parent's metrics."""
    exporter = made()
    exporter.export(spans(3))

    def child() -> dict[str | None, int]:
        exporter.export(spans(2))
        return exported(reader)

    assert in_a_child(child) == {None: 2}


@pytest.mark.parametrize(
    ("protocol", "endpoint", "address", "port"),
    [
        ("grpc", "http://collector:4317", "collector", 4317),
        ("grpc", "https://collector", "collector", 443),
        ("grpc", "collector:4317", "collector", 4317),
        ("grpc", "[::1]:4317", "::1", 4317),
        ("grpc", "dns:///collector:4317", "collector", 4317),
        ("grpc", "dns://8.8.8.8/collector", "collector", 443),
        ("grpc", "ipv4:10.0.0.1:4317,10.0.0.2:4317", "10.0.0.1", 4317),
        ("grpc", "unix:/run/collector.sock", "/run/collector.sock", None),
        ("grpc", "unix:///run/collector.sock", "/run/collector.sock", None),
        ("grpc", "vsock:3:x", "vsock:3:x", None),
        ("http/protobuf", "http://collector:4318/v1/traces", "collector", 4318),
        ("http/protobuf", "https://collector/v1/traces", "collector", 443),
        ("http/protobuf", "http://[::1]/v1/traces", "::1", 80),
    ],
)
def test_the_server_is_told_from_the_endpoint(protocol: str, endpoint: str, address: str, port: int | None) -> None:
    """server.address, and server.port unless there is no port, as with a socket in the file system."""
    found = server_of(ExporterSettings.resolve({}, protocol=protocol, endpoint=endpoint))
    assert (found["server.address"], found.get("server.port")) == (address, port)


def test_without_an_attempt_the_cause_is_ours() -> None:
    """The exporter's last attempt was another batch's."""
    outcome = Outcome(0, reason=DropReason.TOO_LARGE, attempts=0)
    assert error_type(outcome, REFUSED) == "too_large"
    assert error_type(outcome, None) == "too_large"


def test_of_a_stock_exporter_nothing_is_said_twice(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reports by itself, so a processor of ours before it does not."""
    monkeypatch.setenv(SDK_METRICS_ENABLED, "true")
    with Receiver() as receiver:
        stock = StockExporter(endpoint=f"{receiver.http_endpoint}/v1/traces", meter_provider=provider)
        processor = SheddingSpanProcessor(stock, meter_provider=provider)
        processor.on_end(ended_span())
        assert processor.force_flush()
        (point,) = collected(reader)[EXPORTED]
        assert point.value == 1
        assert "shed" not in point.attributes["otel.component.name"]
        processor.shutdown()
