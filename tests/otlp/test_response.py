"""Answers that are read at once: as all others are read, or not at all."""

from __future__ import annotations

import http.client
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.otlp.response import FinalResponse, usual_response

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"

names = st.sampled_from(["Content-Type", "content-length", "Date", "X-A", "Connection", "Transfer-Encoding"])
values = st.sampled_from(
    ["0", "3", "5", "keep-alive", "close", "chunked", " text ", "application/x-protobuf", "caf\xe9"]
)
heads = st.lists(st.tuples(names, values), max_size=5)
statuses = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content"])


def response_of(status: bytes, head: list[tuple[str, str]], body: bytes) -> bytes:
    return b"\r\n".join([status, *(f"{name}: {value}".encode("latin-1") for name, value in head), b"", body])


def by_http_client(received: bytes) -> http.client.HTTPResponse:
    class Source:
        def makefile(self, _: str) -> io.BytesIO:
            return io.BytesIO(received)

    response = FinalResponse(Source(), method="POST")  # type: ignore[arg-type]
    response.begin()
    return response


@settings(max_examples=400, deadline=None)
@given(status=statuses, head=heads, length=st.booleans(), body=st.binary(max_size=6))
def test_a_response_that_is_read_at_once_is_what_http_client_reads(
    status: bytes, head: list[tuple[str, str]], length: bool, body: bytes
) -> None:
    """The same status, body and headers, on a connection that stays open; anything else is left to http.client."""
    received = response_of(status, [*head, ("Content-Length", str(len(body)))] if length else head, body)
    if (usual := usual_response(received)) is None:
        return
    expected = by_http_client(received)
    assert (usual.status, usual.body) == (expected.status, expected.read()) == (200, body)
    assert not expected.will_close
    # Space after a value is no part of it (RFC 9110 5.5); http.client leaves it there.
    assert {name: expected.headers[name].rstrip(" \t") for name in usual.headers} == usual.headers
    assert len(expected.headers) == len(usual.headers)


@pytest.mark.parametrize(
    ("received", "is_usual"),
    [
        (OK, True),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "3")], b"abc"), True),
        (OK[:-1], False),
        (b"", False),
        (OK + b"x", False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "3")], b"ab"), False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "+3")], b"abc"), False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "3"), ("Content-Length", "3")], b"abc"), False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "0"), ("connection", "close")], b""), False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "0"), ("content-encoding", "gzip")], b""), False),
        (response_of(b"HTTP/1.1 200 OK", [("content-length", "0"), ("transfer-encoding", "chunked")], b""), False),
        (response_of(b"HTTP/1.1 200 OK", [], b""), False),
        (response_of(b"HTTP/1.1 503 Busy", [("content-length", "0")], b""), False),
        (response_of(b"HTTP/1.1 100 Continue", [], b"") + OK, False),
        (b"HTTP/1.1 200 OK\r\nX: folded\r\n text\r\ncontent-length: 0\r\n\r\n", False),
    ],
)
def test_what_is_read_at_once(received: bytes, is_usual: bool) -> None:
    """A whole 200 with its length said and nothing else to it."""
    assert (usual_response(received) is not None) is is_usual
