"""Compressed requests to a real receiver: it reads what was sent, whoever compressed it."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.otlp import transport_http
from otel_shed.otlp.compress import compression_library
from otel_shed.otlp.request import build_request
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import GRPC, HTTP, RECORDS, sent


@pytest.mark.parametrize("library", [zlib, compression_library()], ids=["zlib", "the quickest"])
@pytest.mark.parametrize(("protocol", "compression"), [(HTTP, "gzip"), (HTTP, "deflate"), (GRPC, "gzip")])
def test_a_receiver_reads_what_was_compressed(
    protocol: str, compression: str, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very bytes of the request, each time, on a connection that is kept and when it is sent again."""
    monkeypatch.setattr(transport_http, "compression_library", lambda: library)
    answers = [Answer(), Answer(status=503, code="UNAVAILABLE"), Answer(), Answer()]

    def answer(_: Request) -> Answer:
        return answers.pop(0)

    with Receiver(answer=answer, keep=4) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        exporter = OTLPSpanExporter(protocol, endpoint, compression=compression, environ={})
        assert [sent(exporter)[0].accepted for _ in range(3)] == [5] * 3
        exporter.shutdown()
        assert [request.payload for request in receiver.requests] == [build_request(RECORDS)] * 4
        if protocol == HTTP:
            assert [request.encoding for request in receiver.requests] == [compression] * 4
