"""Bytes of an answer on a connection that is used again: none of them becomes the answer to another request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_shed.otlp.connection
from otel_shed.otlp.response import MOST_INTERIM
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.otlp.settings import ExporterSettings
from otel_shed.otlp.transport_http import HTTPTransport
from tests.faults.raw_server import OK, Connection, RawServer
from tests.otlp.certificates import authority, server_context

BAD = b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(autouse=True, params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a request and its answer are exchanged on a connection that is kept."""
    if request.param == "plain":
        monkeypatch.setattr(otel_shed.otlp.connection, "_in_one_step", None)
    elif otel_shed.otlp.connection._in_one_step is None:
        pytest.skip("the compiled parts are not in use")
    return str(request.param)


def transport_to(port: int, **options: str) -> HTTPTransport:
    scheme = "https" if options else "http"
    endpoint = f"{scheme}://127.0.0.1:{port}/v1/traces"
    return HTTPTransport(ExporterSettings.resolve({}, protocol="http/protobuf", endpoint=endpoint, **options))


def codes(script: Callable[[Connection], None], count: int) -> tuple[list[str], RawServer]:
    """What so many requests came to, the first of which makes the connection."""
    with RawServer(script) as server:
        transport = transport_to(server.port)
        attempts = [transport.send(b"%d" % number, 5.0) for number in range(count)]
        transport.close()
    return [attempt.code for attempt in attempts], server


def answering(*answers: tuple[bytes, ...]) -> Callable[[Connection], None]:
    """Of each connection the requests get these, each in pieces that are sent one by one; then it is closed."""
    left = list(answers)

    def serve(connection: Connection) -> None:
        while left and connection.request() is not None:
            for piece in left.pop(0):
                connection.send(piece)

    return serve


@pytest.mark.parametrize("interim", [(HINTS,), (PROCESSING, HINTS, PROCESSING), (CONTINUE, HINTS)])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_interim_response_is_no_answer(interim: tuple[bytes, ...], in_pieces: bool) -> None:
    """A 103 or a 102 is skipped; each request gets the final answer to itself, on a new connection and a kept one."""
    finals = OK, BAD, OK, BAD
    pieces = [(*interim, final) if in_pieces else (b"".join(interim) + final,) for final in finals]
    found, server = codes(answering(*pieces), 4)
    assert found == ["200", "400", "200", "400"]
    assert (server.connections, len(server.requests)) == (1, 4)


def test_an_answer_that_is_late_after_an_interim_one() -> None:
    """What the client has read of the first does not make the final answer the next request's."""
    read = threading.Event()
    receive = otel_shed.otlp.connection._DeadlineReader.readinto

    def serve(connection: Connection) -> None:
        for final in (OK, BAD, OK):
            connection.request()
            read.clear()
            connection.send(HINTS)
            assert read.wait(5.0)
            connection.send(final)

    def reading(self: otel_shed.otlp.connection._DeadlineReader, buffer: bytearray) -> int | None:
        if self._exchange.heard and not self._received:
            read.set()  # the interim response has been read, and more is waited for
        return receive(self, buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otel_shed.otlp.connection._DeadlineReader, "readinto", reading)
        found, server = codes(serve, 3)
    assert found == ["200", "400", "200"]
    assert server.connections == 1


def test_interim_responses_without_end() -> None:
    """A server that sends nothing else is no HTTP server, and its connection is given up."""
    endless = (HINTS * (MOST_INTERIM + 1) + BAD, OK)
    found, server = codes(answering((OK,), endless, (OK,)), 3)
    assert found == ["200", "not HTTP", "200"]
    assert server.connections == 2
    found, _ = codes(answering((CONTINUE * (MOST_INTERIM + 1) + OK,), (HINTS * MOST_INTERIM + OK,)), 2)
    assert found == ["not HTTP", "200"]


def test_switching_protocols_ends_the_connection() -> None:
    """A 101, which nobody asked for, is final: what follows it is not HTTP."""
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    found, server = codes(answering((OK,), (switched, BAD), (switched + BAD,), (OK,)), 4)
    assert found == ["200", "101", "101", "200"]
    assert server.connections == 3


LENGTHS = [
    b"Content-Length: 0\r\nContent-Length: 6",
    b"Content-Length: 6\r\nContent-Length: 0",
    b"Content-Length: 0, 6",
    b"Content-Length: +0",
    b"Content-Length: -1",
    b"Content-Length: 0x0",
    b"Content-Length: ",
]


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_lengths_that_differ_are_refused(lengths: bytes, kept: bool) -> None:
    """RFC 9112, 6.3: such an answer has no end that both sides know; it is discarded and the connection closed."""
    answer = b"HTTP/1.1 200 OK\r\n" + lengths + b"\r\n\r\n"
    script = answering(*([(OK,)] if kept else []), (answer, b"abcdef"), (OK,))
    found, server = codes(script, 3 if kept else 2)
    assert found == [*(["200"] if kept else []), "not HTTP", "200"]
    assert server.connections == 2


@pytest.mark.parametrize("lengths", [b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3, 3"])
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_a_length_that_is_said_twice_is_one(lengths: bytes, kept: bool) -> None:
    """RFC 9110, 8.6."""
    answer = b"HTTP/1.1 400 Bad\r\n" + lengths + b"\r\n\r\nbad"
    with RawServer(answering(*([(OK,)] if kept else []), (answer,), (OK,))) as server:
        transport = transport_to(server.port)
        attempts = [transport.send(b"x", 5.0) for _ in range(3 if kept else 2)]
        transport.close()
    assert attempts[-2:] == [Attempt(Verdict.PERMANENT, "400", "bad"), Attempt(Verdict.ACCEPTED, "200")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n",
    ],
)
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
def test_an_answer_whose_end_is_in_doubt_ends_its_connection(answer: bytes, kept: bool) -> None:
    """It counts, and what may come after it is not the next request's."""
    sent = threading.Event()
    answers = [OK, answer] if kept else [answer]

    def serve(connection: Connection) -> None:
        for each in answers if connection.number == 0 else [OK]:
            connection.request()
            connection.send(each)
        if connection.number == 0:
            sent.wait(5.0)
            connection.send(BAD)

    with RawServer(serve) as server:
        transport = transport_to(server.port)
        attempts = [transport.send(b"%d" % number, 5.0) for number in range(len(answers) + 1)]
        sent.set()
        transport.close()
    assert [attempt.code for attempt in attempts] == [*(each[9:12].decode() for each in answers), "200"]
    assert server.connections == 2


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize(
    "answer",
    [OK, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ids=["length", "204", "chunked"],
)
def test_more_than_an_answer(answer: bytes, kept: bool) -> None:
    """A server that says more than was asked, in the same breath, is not listened to any further."""
    goes_on = threading.Event()
    answers = [OK, answer] if kept else [answer]

    def serve(connection: Connection) -> None:
        if connection.number:
            connection.request()
            connection.send(OK)
            return
        for number, each in enumerate(answers, 1):
            connection.request()
            connection.send(each + BAD[:20] if number == len(answers) else each)
        goes_on.wait(5.0)

    with RawServer(serve) as server:
        transport = transport_to(server.port)
        attempts = [transport.send(b"%d" % number, 5.0) for number in range(len(answers) + 1)]
        goes_on.set()
        transport.close()
    assert [attempt.code for attempt in attempts] == [*(each[9:12].decode() for each in answers), "200"]
    assert server.connections == 2


@pytest.mark.parametrize("size", [b"-5", b"-1", b"zz"])
def test_a_chunk_of_no_size(size: bytes) -> None:
    """The status has come and counts; the connection is of no use any more."""
    broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nabcde\r\n0\r\n\r\n"
    found, server = codes(answering((OK,), (broken,), (broken,), (OK,)), 4)
    assert found == ["200"] * 4
    assert server.connections == 3


def test_what_tls_has_read_beyond_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than an answer in one record, beyond what is read at once, is seen before the next request."""
    issued = authority(tmp_path / "authority").issue("server", "127.0.0.1")
    monkeypatch.setattr(otel_shed.otlp.connection, "_ANSWER", len(OK))
    goes_on = threading.Event()

    def serve(connection: Connection) -> None:
        connection.use_tls(server_context(issued))
        for each in (OK, OK, OK + BAD) if connection.number == 0 else (OK,):
            connection.request()
            connection.send(each)
        goes_on.wait(5.0)

    with RawServer(serve) as server:
        transport = transport_to(server.port, certificate_file=issued.authority)
        attempts = [transport.send(b"%d" % number, 5.0) for number in range(4)]
        goes_on.set()
        transport.close()
    assert [attempt.code for attempt in attempts] == ["200"] * 4
    assert server.connections == 2


def test_a_proxy_that_is_at_it_first(tmp_path: Path) -> None:
    """Interim responses to CONNECT are skipped too."""
    issued = authority(tmp_path / "authority").issue("server", "127.0.0.1")

    def serve(connection: Connection) -> None:
        while b"\r\n\r\n" not in connection._received:
            connection._receive()
        connection._received = b""
        connection.send(PROCESSING + b"HTTP/1.1 200 Connected\r\n\r\n")
        connection.use_tls(server_context(issued))
        while connection.request() is not None:
            connection.send(HINTS + OK)

    with RawServer(serve) as server:
        settings = ExporterSettings.resolve(
            {"https_proxy": f"http://127.0.0.1:{server.port}"},
            protocol="http/protobuf",
            endpoint="https://127.0.0.1:1/v1/traces",
            certificate_file=issued.authority,
        )
        transport = HTTPTransport(settings)
        attempts = [transport.send(b"%d" % number, 5.0) for number in range(3)]
        transport.close()
    assert [attempt.code for attempt in attempts] == ["200"] * 3


def test_no_socket_is_left_open(way: str) -> None:
    """A connection that is given up is closed, not only forgotten."""
    ended = threading.Event()

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n")
        connection.receive_all()
        ended.set()

    with RawServer(serve) as server:
        transport = transport_to(server.port)
        assert transport.send(b"one", 5.0).code == "200"
        assert transport.send(b"two", 5.0).code == "not HTTP"
        assert ended.wait(5.0)
        transport.close()
