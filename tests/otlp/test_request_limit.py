"""A collector that takes only smaller requests: halves, down to single spans, and what is remembered of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed import OTLPSpanExporter
from otel_shed.otlp import exporter as exporter_module
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.request_limit import MOST_IN_VAIN, REMEMBERED_SECONDS
from otel_shed.otlp.retry import Attempt, Verdict, grpc_failure, http_answer, no_answer
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.sender import OTLPSender
from otel_shed.record import SpanRecord
from otel_shed.testing.answers import retry_info
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.transport import ACCEPTED
from tests.otlp.made_spans import made_span

REFUSED = Attempt(Verdict.PERMANENT, "413", "Request Entity Too Large", too_large=True)
BAD = Attempt(Verdict.PERMANENT, "400", "bad data")
NOBODY = no_answer("connection refused")

Answer = Callable[[list[str]], Attempt]


def spans(count: int, size: int = 1_000, start: int = 0) -> list[ReadableSpan]:
    return [made_span(f"span-{number}", attributes={"text": "x" * size}) for number in range(start, start + count)]


def records(count: int, size: int = 1_000, start: int = 0) -> list[SpanRecord]:
    return [encode_span(span) for span in spans(count, size, start)]


def names(payload: bytes) -> list[str]:
    message = ExportTraceServiceRequest.FromString(payload)
    return [span.name for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]


def numbered(first: int, end: int) -> list[str]:
    return [f"span-{number}" for number in range(first, end)]


class Limited:
    """A transport to a collector that takes requests of so many bytes. taken: the names of each request's spans."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.answer: Answer = lambda _: ACCEPTED
        self.taken: list[list[str]] = []
        self.refused: list[int] = []

    def send(self, payload: bytes, timeout: float) -> Attempt:
        if len(payload) > self.limit:
            self.refused.append(len(payload))
            return REFUSED
        attempt = self.answer(names(payload))
        if attempt.accepted:
            self.taken.append(names(payload))
        return attempt

    def cancel(self) -> None: ...

    def close(self) -> None: ...

    def after_fork_in_child(self) -> None: ...


Made = Callable[..., tuple[OTLPSpanExporter, Limited]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> Iterator[Made]:
    """Makes an exporter whose collector has this limit."""
    exporters: list[OTLPSpanExporter] = []

    def make(limit: int, **options: Any) -> tuple[OTLPSpanExporter, Limited]:
        collector = Limited(limit)
        monkeypatch.setattr(exporter_module, "_transport", lambda *_: collector)
        exporter = OTLPSpanExporter(environ={}, clock=clock, **options)
        exporter._client._wait = clock.wait
        exporters.append(exporter)
        return exporter, collector

    yield make
    for exporter in exporters:
        exporter.shutdown()


def sent(exporter: OTLPSpanExporter, batch: Sequence[SpanRecord], budget: float = 10.0) -> Outcome:
    return exporter.send_records(batch, budget=budget)


def test_a_batch_that_is_too_large_goes_in_halves(made: Made) -> None:
    """All of it arrives, once and in order, in requests that the collector takes; it is no failure."""
    exporter, collector = made(300_000)
    outcome = sent(exporter, records(1_000))
    assert (outcome.accepted, outcome.rejected, outcome.reason, outcome.attempts) == (1_000, 0, None, 1)
    assert [name for request in collector.taken for name in request] == numbered(0, 1_000)
    assert len(collector.taken) == 4
    # A half as large as one that was refused is cut at once.
    assert len(collector.refused) == 2


def test_down_to_single_spans(made: Made) -> None:
    """Where two are too many, each goes alone; one that is too large alone is lost, and it alone."""
    exporter, collector = made(1_500)
    outcome = sent(exporter, [*records(5), *records(1, 5_000, start=5), *records(6, start=6)])
    assert (outcome.accepted, outcome.reason) == (11, DropReason.NOT_RETRYABLE)
    assert outcome.message == "413: Request Entity Too Large"
    assert collector.taken == [[name] for name in numbered(0, 12) if name != "span-5"]


def test_one_span_that_is_too_large(made: Made) -> None:
    """There is nothing to cut: one request, and it is lost."""
    exporter, collector = made(1_500)
    assert sent(exporter, records(1, 5_000)).reason is DropReason.NOT_RETRYABLE
    assert len(collector.refused) == 1


def test_the_limit_is_remembered(made: Made, clock: FakeClock) -> None:
    """For ten minutes batches are split to what was taken, and none is refused; then the whole size is tried again."""
    exporter, collector = made(300_000)
    sender = OTLPSender(exporter, export_timeout=10.0, max_request_bytes=4_000_000)
    batch = records(1_000)
    assert sender.split(batch) == [batch]
    assert [outcome.accepted for outcome in sender.send_all(sender.split(batch))] == [1_000]
    refused = len(collector.refused)
    for _ in range(3):
        pieces = sender.split(batch)
        assert len(pieces) in (4, 5)
        assert sum(outcome.accepted for outcome in sender.send_all(pieces)) == 1_000
    assert len(collector.refused) == refused
    clock.advance(REMEMBERED_SECONDS)
    collector.limit = 4_000_000
    assert sender.split(batch) == [batch]
    assert sent(exporter, batch).accepted == 1_000
    clock.advance(REMEMBERED_SECONDS)
    assert sender.split(batch) == [batch]


def test_a_setting_that_is_smaller_stays(made: Made) -> None:
    """What was found out makes no request larger than the setting has it."""
    exporter, _ = made(300_000)
    sent(exporter, records(1_000))
    assert exporter.request_bytes(50_000) == 50_000
    assert 200_000 < exporter.request_bytes(4_000_000) <= 300_000


def test_a_limit_that_is_lowered(made: Made) -> None:
    """The largest request that was taken is no promise."""
    exporter, collector = made(4_000_000)
    batch = records(1_000)
    assert sent(exporter, batch).accepted == 1_000
    collector.limit = 100_000
    assert sent(exporter, batch).accepted == 1_000
    assert exporter.request_bytes(4_000_000) <= 100_000


def test_a_single_span_says_nothing_of_larger_requests_that_were_taken(made: Made) -> None:
    """A limit on what is compressed may refuse it and take them."""
    exporter, collector = made(4_000_000)
    assert sent(exporter, records(1_000)).accepted == 1_000
    collector.limit = 1_500
    assert sent(exporter, records(1, 5_000)).reason is DropReason.NOT_RETRYABLE
    assert exporter.request_bytes(4_000_000) == 4_000_000


def test_a_collector_that_refuses_everything_for_its_size(made: Made) -> None:
    """After 32 spans in vain nothing is cut any more: one request a batch."""
    exporter, collector = made(0)
    outcome = sent(exporter, records(512))
    assert (outcome.accepted, outcome.reason) == (0, DropReason.NOT_RETRYABLE)
    assert len(collector.refused) < 3 * MOST_IN_VAIN
    collector.refused.clear()
    for _ in range(3):
        assert sent(exporter, records(512)).accepted == 0
    assert len(collector.refused) == 3
    assert exporter.request_bytes(4_000_000) == 4_000_000
    collector.limit = 4_000_000
    assert sent(exporter, records(512)).accepted == 512


def test_other_failures_of_a_half(made: Made) -> None:
    """One that is refused for what is in it is lost alone; the first that nobody answers ends the batch; all count."""
    exporter, collector = made(300_000)

    def answer(sent: list[str]) -> Attempt:
        return BAD if "span-0" in sent else NOBODY if "span-600" in sent else ACCEPTED

    collector.answer = answer
    outcome = sent(exporter, records(1_000))
    assert collector.taken == [numbered(250, 500)]
    assert (outcome.accepted, outcome.reason, outcome.refused) == (250, DropReason.RETRY_EXHAUSTED, 250)
    ledger = Ledger()
    ledger.in_flight = 1_000
    ledger.settle(1_000, outcome)
    dropped = {reason.value: count for reason, count in ledger.dropped.items() if count}
    assert (ledger.exported, dropped) == (250, {"not_retryable": 250, "retry_exhausted": 500})


def test_partial_successes_of_halves_are_added(made: Made) -> None:
    """What the collector rejected of each half."""
    exporter, collector = made(300_000)
    collector.answer = lambda _: Attempt(Verdict.ACCEPTED, "200", "old", rejected=3)
    outcome = sent(exporter, records(1_000))
    assert (outcome.accepted, outcome.rejected, outcome.reason, outcome.message) == (988, 12, None, "old")


def test_halves_in_lanes(made: Made) -> None:
    """Requests that are made at once are cut each by itself, and each has one outcome."""
    exporter, collector = made(100_000)
    pieces = [records(300, start=300 * number) for number in range(3)]
    outcomes = list(exporter.send_requests(pieces, budget=lambda: 10.0, at_once=3))
    assert [outcome.accepted for outcome in outcomes] == [300] * 3
    assert sorted(name for request in collector.taken for name in request) == sorted(numbered(0, 900))


def test_under_a_processor_of_the_sdks(made: Made, clock: FakeClock) -> None:
    """export() cuts too, within its time as a whole; a second batch is split beforehand."""
    exporter, collector = made(300_000, timeout=10.0)
    assert exporter.export(spans(1_000)) is SpanExportResult.SUCCESS
    refused = len(collector.refused)
    assert exporter.export(spans(1_000)) is SpanExportResult.SUCCESS
    assert len(collector.refused) == refused

    def slow(_: list[str]) -> Attempt:
        clock.advance(4.0)
        return ACCEPTED

    collector.answer, collector.limit = slow, 60_000
    began = clock()
    assert exporter.export(spans(1_000)) is SpanExportResult.FAILURE
    assert clock() - began <= 16.0


def test_one_line_names_the_setting(made: Made, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is refused, and found out again."""
    exporter, _ = made(300_000, endpoint="http://collector:4317")
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for _ in range(4):
            sent(exporter, records(1_000))
            clock.advance(REMEMBERED_SECONDS)
    (line,) = caplog.messages
    assert "OTEL_SHED_MAX_REQUEST_BYTES" in line
    assert line.startswith("otel-shed: the collector at http://collector:4317 refuses requests of ")
    assert "The program goes on and is not affected" in line
    assert "413: Request Entity Too Large" in line
    assert f"at most {exporter._limit._best:,} bytes" in line


def test_a_collector_that_takes_nothing_is_told_too(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    """In the same one line."""
    exporter, _ = made(0)
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for _ in range(3):
            sent(exporter, records(100))
    (line,) = caplog.messages
    assert "taken none of them yet" in line
    assert "OTEL_SHED_MAX_REQUEST_BYTES" in line


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5554999 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message after decompression larger than max 4194304"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5 vs. 4)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5554999"),
        ("RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
        ("OUT_OF_RANGE", "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
        ("UNKNOWN", "Received http2 header with status: 413"),
        ("UNKNOWN", "Payload Too Large"),
    ],
)
def test_refused_by_grpc_for_its_size(code: str, details: str) -> None:
    """The words of each kind of server; the same bytes are not sent again, whatever the code says."""
    attempt = grpc_failure(code, details, None)
    assert attempt == Attempt(Verdict.PERMANENT, code, details, too_large=True)
    assert attempt.lasting(1.0).too_large
    assert not attempt.throttled


def test_refused_by_grpc_for_something_else() -> None:
    """One that asks for a wait is throttling; other words are not of the size."""
    assert not grpc_failure("RESOURCE_EXHAUSTED", "larger than max", retry_info(1)).too_large
    for details in (None, "", "quota of spans is used up", "an attribute is larger than it may be"):
        assert not grpc_failure("RESOURCE_EXHAUSTED", details, None).too_large
    assert not grpc_failure("UNAVAILABLE", "larger than max", None, answered=False).too_large


@pytest.mark.parametrize(
    ("status", "body", "too_large"),
    [
        (413, b"", True),
        (413, b"<html><title>413 Request Entity Too Large</title></html>", True),
        (400, b"http: request body too large", True),
        (400, b"bad data", False),
        (500, b"http: request body too large", False),
        (200, b"", False),
    ],
)
def test_refused_by_http_for_its_size(status: int, body: bytes, too_large: bool) -> None:
    """413, and what the Collector says with 400."""
    attempt = http_answer(status, {}, body, now=0.0)
    assert attempt.too_large is too_large
    assert (attempt.verdict is Verdict.PERMANENT) is (status != 200)
