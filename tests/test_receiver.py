"""The receiver that is offered to tests: what it counts, what it answers, and that it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_shed import OTLPSpanExporter
from otel_shed.otlp.transport_grpc import METHOD
from otel_shed.testing.answers import Answer, count_spans, count_unread, partial_success
from otel_shed.testing.receiver import Counts, Receiver
from tests.faults.sending import GRPC, HTTP, PROTOCOLS, exporting, sent
from tests.launched import answers, bare_environment


def port_of(receiver: Receiver, protocol: str) -> int | None:
    return receiver.grpc_port if protocol == GRPC else receiver.http_port


@PROTOCOLS
def test_spans_are_counted(protocol: str) -> None:
    """By request and by span, the refused ones apart; the latest requests are kept, as many as was asked for."""
    with Receiver(keep=2) as receiver, exporting(port_of(receiver, protocol), protocol) as exporter:
        for _ in range(3):
            sent(exporter)
        assert receiver.wait_for_spans(15, timeout=10)
        assert not receiver.wait_for_spans(16, timeout=0.01)
        receiver.answer = lambda request: Answer(code="INVALID_ARGUMENT", status=400)
        sent(exporter)
        assert receiver.counts == Counts(requests=4, spans=15, refused_spans=5)
        assert [(request.number, request.spans, request.protocol) for request in receiver.requests] == [
            (2, 5, protocol),
            (3, 5, protocol),
        ]


def test_what_is_no_request_is_refused() -> None:
    """Garbage is INVALID_ARGUMENT and 400, another method UNIMPLEMENTED and 501."""
    with Receiver() as receiver, grpc.insecure_channel(f"127.0.0.1:{receiver.grpc_port}") as channel:
        for method, code in ((METHOD, "INVALID_ARGUMENT"), ("/another/Method", "UNIMPLEMENTED")):
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(method)(b"\xff", timeout=10)
            assert raised.value.code().name == code
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for body, status in ((b"\xff", 400), (None, 501)):
            with pytest.raises(urllib.error.HTTPError) as failed:
                opener.open(urllib.request.Request(receiver.http_endpoint, data=body), timeout=10)
            failed.value.close()
            assert failed.value.code == status
        assert receiver.counts == Counts(requests=2)


def test_spans_that_are_not_looked_at_are_counted_alike() -> None:
    """Of several resources and scopes; what is no request is none, unless it is inside of these or of spans."""
    request = ExportTraceServiceRequest()
    for resource in range(3):
        for scope in range(resource):
            scopes = request.resource_spans.add(schema_url="resource").scope_spans
            scopes.add(schema_url="scope").spans.extend([Span(name="span", trace_id=b"t" * 16)] * (5 + scope))
    payload = request.SerializeToString()
    assert [count(payload) for count in (count_spans, count_unread)] == [16, 16]
    cut_off = payload[:-1]
    assert [count(cut_off) for count in (count_spans, count_unread)] == [None, None]
    broken = payload.replace(b"\x0a\x10" + b"t" * 16, b"\x0a\x7f" + b"t" * 16)
    assert [count(broken) for count in (count_spans, count_unread)] == [None, 16]
    unreadable = payload.replace(b"resource", b"\xffesource")
    assert [count(unreadable) for count in (count_spans, count_unread)] == [None, 16]
    assert [count(b"") for count in (count_spans, count_unread)] == [0, 0]


@PROTOCOLS
def test_answers_are_scripted(protocol: str) -> None:
    """The script sees each request, and its answer is what the client gets."""
    script = {0: Answer(body=partial_success(2, "two of them")), 1: Answer(code="INTERNAL", details="no", status=500)}
    with (
        Receiver(answer=lambda request: script[request.number]) as receiver,
        exporting(port_of(receiver, protocol), protocol) as exporter,
    ):
        first, second = sent(exporter)[0], sent(exporter)[0]
        assert (first.accepted, first.rejected, first.message) == (3, 2, "two of them")
        assert second.message == ("INTERNAL: no" if protocol == GRPC else "500")


@PROTOCOLS
def test_closing_ends_everything(protocol: str) -> None:
    """A request that it lets hang does not hold it up, and nothing listens afterwards."""
    with Receiver(answer=lambda request: Answer(hang=True)) as receiver:
        port = port_of(receiver, protocol)
        assert port is not None
        exporter = OTLPSpanExporter(protocol, f"http://127.0.0.1:{port}", timeout=0.2, environ={})
        assert sent(exporter, budget=0.2)[0].accepted == 0
        exporter.shutdown()
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    assert not answers(port)


def test_one_protocol_only() -> None:
    """None for a port: no such server."""
    with Receiver(grpc_port=None) as receiver:
        assert receiver.grpc_port is None
        assert receiver.http_port


@contextmanager
def program(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The receiver as a process of its own."""
    ports = ("--grpc-port", "0", "--http-port", "0")
    command = [sys.executable, "-m", "otel_shed.testing.receiver", *ports, *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=bare_environment()
    )
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize(("end", "options"), [("SIGTERM", ()), ("end of input", ("--unread",))])
def test_by_itself(end: str, options: tuple[str, ...]) -> None:
    """Tells its ports, its counts when it is asked, and at its end, which SIGTERM or the end of its input is."""
    with program(*options) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        for protocol, port in ((GRPC, ports["grpc_port"]), (HTTP, ports["http_port"])):
            with exporting(port, protocol) as exporter:
                assert sent(exporter)[0].accepted == 5
        process.stdin.write("\n")
        process.stdin.flush()
        counts = {"requests": 2, "spans": 10, "refused_spans": 0}
        assert json.loads(process.stdout.readline()) == counts
        if end == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert json.loads(process.stdout.readline()) == counts
        assert process.wait(10) == 0
