"""Five spans for a server that misbehaves, by an exporter that is shut down in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.retry import Attempt
from otel_shed.outcome import Outcome
from tests.conftest import ended_span

GRPC, HTTP = "grpc", "http/protobuf"
PROTOCOLS = pytest.mark.parametrize("protocol", [GRPC, HTTP])
RECORDS = [encode_span(ended_span(f"span-{number}", span_id=number + 1)) for number in range(5)]


@contextmanager
def exporting(
    port: int | None, protocol: str, *, timeout: float = 10.0, scheme: str = "http"
) -> Iterator[OTLPSpanExporter]:
    endpoint = f"{scheme}://127.0.0.1:{port}"
    exporter = OTLPSpanExporter(protocol, endpoint, timeout=timeout, environ={})
    try:
        yield exporter
    finally:
        exporter.shutdown()


def sent(exporter: OTLPSpanExporter, budget: float = 10.0) -> tuple[Outcome, float]:
    """What became of five spans, and how long that took."""
    began = time.monotonic()
    outcome = exporter.send_records(RECORDS, budget=budget)
    return outcome, time.monotonic() - began


def one_attempt(exporter: OTLPSpanExporter) -> Attempt:
    """What the only attempt comes to of an exporter that was told to hurry."""
    exporter.hurry()
    sent(exporter)
    assert exporter.last_attempt is not None
    return exporter.last_attempt
