"""Requests on a connection that is kept: the head of the first, and answers that mean what they meant there."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import otel_shed.otlp.connection
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.otlp.settings import ExporterSettings
from otel_shed.otlp.transport_http import HTTPTransport
from otel_shed.testing.answers import Answer, partial_success
from otel_shed.testing.receiver import Receiver
from tests.faults.raw_server import OK, Connection, RawServer
from tests.otlp.certificates import authority, server_context

PARTIAL = partial_success(2, "no")


@pytest.fixture(autouse=True, params=["compiled", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a request and its answer are exchanged on a connection that is kept."""
    if request.param == "plain":
        monkeypatch.setattr(otel_shed.otlp.connection, "_in_one_step", None)
    elif otel_shed.otlp.connection._in_one_step is None:
        pytest.skip("the compiled parts are not in use")
    return str(request.param)


def sent(script: Callable[[Connection], None], *payloads: bytes) -> tuple[list[Attempt], RawServer]:
    with RawServer(script) as server:
        settings = ExporterSettings.resolve(
            {},
            protocol="http/protobuf",
            endpoint=f"http://127.0.0.1:{server.port}/v1/traces?a=b",
            headers={"api-key": "k-e-y"},
        )
        transport = HTTPTransport(settings)
        attempts = [transport.send(payload, 10.0) for payload in payloads]
        transport.close()
    return attempts, server


def test_each_request_has_the_head_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes over a connection that is kept is what urllib3 sent first, but for length and body."""
    seen: list[bytes] = []
    receive = Connection._receive

    def receive_and_keep(self: Connection) -> bool:
        before = len(self._received)
        more = receive(self)
        seen.append(self._received[before:])
        return more

    monkeypatch.setattr(Connection, "_receive", receive_and_keep)

    def serve(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(OK)
            seen.append(b"|")

    payloads = [b"one", b"", b"x" * 200_000, b"four"]
    attempts, server = sent(serve, *payloads)
    assert [attempt.code for attempt in attempts] == ["200"] * 4
    assert (server.connections, server.requests) == (1, payloads)
    requests = b"".join(seen).split(b"|")[:4]
    head = requests[0].removesuffix(b"one").lower()
    assert b"post /v1/traces?a=b http/1.1\r\n" in head
    assert b"api-key: k-e-y\r\n" in head
    for request, payload in zip(requests, payloads, strict=True):
        assert request.removesuffix(payload).lower() == head.replace(
            b"content-length: 3\r\n", b"content-length: %d\r\n" % len(payload)
        )


@pytest.mark.parametrize("most", [1, 60, 10_000, 1_000_000])
def test_a_request_that_the_system_takes_in_parts(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The rest follows, wherever the first part ended: in the head, in the body."""

    def take_some(self: socket.socket, buffers: Sequence[bytes]) -> int:
        return self.send(b"".join(buffers)[:most])

    monkeypatch.setattr(socket.socket, "sendmsg", take_some)

    def serve(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(OK)

    payloads = [b"one", b"", b"two", bytes(range(256)) * 4_000]
    attempts, server = sent(serve, *payloads)
    assert [attempt.code for attempt in attempts] == ["200"] * 4
    assert (server.connections, server.requests) == (1, payloads)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, Attempt(Verdict.ACCEPTED, "200")),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PARTIAL), PARTIAL),
            Attempt(Verdict.ACCEPTED, "200", "no", rejected=2),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(PARTIAL), PARTIAL),
            Attempt(Verdict.ACCEPTED, "200", "no", rejected=2),
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Attempt(Verdict.ACCEPTED, "200")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Attempt(Verdict.ACCEPTED, "204")),
        (
            b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy",
            Attempt(Verdict.RETRYABLE, "429", "busy", retry_after=7.0),
        ),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad", Attempt(Verdict.PERMANENT, "400", "bad")),
    ],
    ids=["usual", "partial", "chunked", "continue", "204", "429", "400"],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_every_answer_means_what_it_means_on_a_new_connection(
    answer: bytes, expected: Attempt, in_pieces: bool
) -> None:
    """First, second and third request of one connection are answered the same, also where answers come in pieces."""

    def serve(connection: Connection) -> None:
        while connection.request() is not None:
            for piece in (answer[:20], answer[20:]) if in_pieces else (answer,):
                connection.send(piece)

    attempts, server = sent(serve, b"one", b"two", b"three")
    assert attempts == [expected] * 3
    assert (server.connections, server.requests) == (1, [b"one", b"two", b"three"])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["close", "1.0", "half a body", "no length"],
)
def test_an_answer_that_ends_its_connection(answer: bytes) -> None:
    """It counts, and the next request is made on a connection of its own, each of them once."""

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection.request()
        connection.send(answer)

    attempts, server = sent(serve, b"one", b"two", b"three", b"four")
    assert [attempt.code for attempt in attempts] == ["200"] * 4
    assert (server.connections, server.requests) == (2, [b"one", b"two", b"three", b"four"])


def test_a_kept_tls_connection(tmp_path: Path) -> None:
    """Several records of TLS to a request, and answers that are read at once."""
    server = authority(tmp_path / "authority").issue("server", "127.0.0.1")
    payloads = [bytes([65 + number]) * 150_000 for number in range(4)]
    with Receiver(grpc_port=None, ssl_context=server_context(server), keep=4, answer=lambda _: Answer()) as receiver:
        transport = HTTPTransport(
            ExporterSettings.resolve(
                {}, protocol="http/protobuf", endpoint=receiver.http_endpoint, certificate_file=server.authority
            )
        )
        attempts = [transport.send(payload, 10.0) for payload in payloads]
        assert not transport._exchange.connected  # by the last one
        transport.close()
        assert [attempt.code for attempt in attempts] == ["200"] * 4
        assert [request.payload for request in receiver.requests] == payloads


def test_an_answer_that_comes_before_the_body_was_read() -> None:
    """A server that answers early and leaves is understood, as it is on a new connection."""

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection._receive()
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        connection.half_close()
        connection.receive_all()

    attempts, _ = sent(serve, b"one", b"x" * 3_000_000)
    assert [attempt.code for attempt in attempts] == ["200", "413"]


def transport_to(server: RawServer) -> HTTPTransport:
    settings = ExporterSettings.resolve(
        {}, protocol="http/protobuf", endpoint=f"http://127.0.0.1:{server.port}/v1/traces"
    )
    return HTTPTransport(settings)


def test_a_socket_in_use_is_not_closed() -> None:
    """Its number would be given to another one, of the program's, which the request would then go to."""
    asked, closed = threading.Event(), threading.Event()
    numbers: list[int] = []
    attempts: list[Attempt] = []

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        connection.wait()

    with RawServer(serve) as server:
        transport = transport_to(server)
        transport.send(b"one", 10.0)
        connection: Any = transport._exchange.connection
        used = connection.sock

        def post(_: bytes) -> None:
            asked.set()
            assert closed.wait(10.0)
            numbers.append(used.fileno())
            raise ConnectionResetError

        connection.post = post
        sending = threading.Thread(target=lambda: attempts.append(transport.send(b"two", 10.0)))
        sending.start()
        assert asked.wait(10.0)
        transport.close()
        closed.set()
        sending.join()
        assert numbers[0] >= 0
        assert used.fileno() == -1
        attempts.append(transport.send(b"three", 10.0))
    assert [attempt.code for attempt in attempts] == ["cancelled", "cancelled"]


def test_a_connection_that_is_idle_is_closed_at_once() -> None:
    """Nobody comes by any more."""
    with RawServer(lambda connection: connection.request() and connection.send(OK)) as server:
        transport = transport_to(server)
        transport.send(b"one", 10.0)
        connection: Any = transport._exchange.connection
        used = connection.sock
        transport.close()
        assert used.fileno() == -1


def test_an_answer_that_was_not_waited_for_is_nobody_elses() -> None:
    """A signal handler that raises in the middle of a request ends its connection."""

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        if connection.request() != b"two":
            connection.send(OK)
            return
        os.kill(os.getpid(), signal.SIGALRM)
        ended.wait(10.0)
        connection.send(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")

    class Alarm(BaseException):
        pass

    def raising(*_: object) -> None:
        raise Alarm

    ended = threading.Event()
    before = signal.signal(signal.SIGALRM, raising)
    try:
        with RawServer(serve) as server:
            transport = transport_to(server)
            assert transport.send(b"one", 10.0).accepted
            with pytest.raises(Alarm):
                transport.send(b"two", 10.0)
            ended.set()
            assert transport.send(b"three", 10.0).code == "200"
            assert transport.send(b"four", 10.0).code == "200"
            transport.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert server.connections == 2


def test_what_is_cancelled_before_it_has_a_socket_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may take long to be looked up."""
    looking, cancelled = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slowly(*arguments: Any, **options: Any) -> Any:
        looking.set()
        assert cancelled.wait(10.0)
        return look_up(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    attempts: list[Attempt] = []
    with RawServer(lambda connection: connection.send(OK)) as server:
        transport = transport_to(server)
        sending = threading.Thread(target=lambda: attempts.append(transport.send(b"one", 10.0)))
        sending.start()
        assert looking.wait(10.0)
        transport.cancel()
        cancelled.set()
        sending.join()
        attempts.append(transport.send(b"two", 10.0))
        transport.close()
    assert [attempt.code for attempt in attempts] == ["cancelled", "cancelled"]
    assert server.requests == []
