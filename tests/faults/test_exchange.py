"""A request and the first of its answer in one compiled step, on real sockets: whole, in parts, late, broken off."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from otel_shed.compiled import extension

exchange: Callable[[socket.socket, bytes, bytes, float], bytes | None] | None = getattr(extension, "exchange", None)
pytestmark = pytest.mark.skipif(exchange is None, reason="the compiled parts are not in use")

HEAD, BODY = b"head;", bytes(range(256)) * 8_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end with room for little, and a server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        client.settimeout(5.0)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    server.settimeout(5.0)
    with client, server:
        yield client, server


def exchanged(client: socket.socket, body: bytes = BODY, seconds: float = 5.0) -> bytes | None:
    assert exchange is not None
    return exchange(client, HEAD, body, seconds)


def serving(server: socket.socket, length: int, answer: bytes) -> tuple[threading.Thread, bytearray]:
    """A thread that receives so many bytes and answers."""
    received = bytearray()

    def serve() -> None:
        while len(received) < length and (piece := server.recv(10_000)):
            received.extend(piece)
        server.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, received


def test_all_of_it_goes_and_the_answer_comes(pair: tuple[socket.socket, socket.socket]) -> None:
    """In as many parts as the system takes it in, and again on the same socket."""
    client, server = pair
    for body, answer in ((BODY, b"first"), (b"", b"second"), (b"short", b"x" * 8192)):
        thread, received = serving(server, len(HEAD + body), answer)
        assert exchanged(client, body) == answer
        thread.join()
        assert received == HEAD + body


def test_an_answer_in_pieces_is_begun(pair: tuple[socket.socket, socket.socket]) -> None:
    """What comes first is told, the rest can be received; of one that is too long too."""
    client, server = pair
    thread, _ = serving(server, len(HEAD + BODY), b"y" * 10_000)
    first = exchanged(client)
    thread.join()
    assert first
    assert len(first) <= 8192
    rest = b""
    while len(first + rest) < 10_000:
        rest += client.recv(10_000)
    assert first + rest == b"y" * 10_000


def test_nothing_is_sent_where_something_has_come(pair: tuple[socket.socket, socket.socket]) -> None:
    """A word before any request, or the end: the connection is of no use."""
    client, server = pair
    server.sendall(b"408")
    assert client.recv(10, socket.MSG_PEEK) == b"408"
    assert exchanged(client) is None
    assert client.recv(10) == b"408"
    server.shutdown(socket.SHUT_WR)
    assert client.recv(10, socket.MSG_PEEK) == b""
    assert exchanged(client) is None
    client.close()
    assert server.recv(10) == b""


def test_a_server_that_does_not_read_takes_no_longer_than_the_limit(pair: tuple[socket.socket, socket.socket]) -> None:
    """The time limit is for sending too."""
    client, _ = pair
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        exchanged(client, seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 4.0


def test_a_server_that_does_not_answer_takes_no_longer_than_the_limit(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Whatever it has read."""
    client, _ = pair
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        exchanged(client, b"short", seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 4.0
    with pytest.raises(TimeoutError):
        exchanged(client, b"short", seconds=0.0)


def test_a_server_that_leaves_without_an_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its end is an empty answer, its reset an error; none is waited out."""
    client, server = pair
    thread, _ = serving(server, len(HEAD + BODY), b"")
    thread_end = threading.Thread(target=lambda: (thread.join(), server.shutdown(socket.SHUT_WR)))
    thread_end.start()
    assert exchanged(client) == b""
    thread_end.join()


def test_a_server_that_resets_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    """In the middle of the body: an error at once."""
    client, server = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def reset() -> None:
        server.recv(100)
        server.close()

    thread = threading.Thread(target=reset)
    thread.start()
    began = time.monotonic()
    try:
        assert exchanged(client) == b""
    except ConnectionResetError:
        pass
    assert time.monotonic() - began < 4.0
    thread.join()


@pytest.mark.parametrize("body", [BODY, b"short"], ids=["while the body goes", "while the answer is awaited"])
def test_another_thread_ends_it(pair: tuple[socket.socket, socket.socket], body: bytes) -> None:
    """As a shutdown that gives up does."""
    client, _ = pair
    timer = threading.Timer(0.1, client.shutdown, [socket.SHUT_RDWR])
    timer.start()
    assert exchanged(client, body) == b""
    timer.join()


def test_a_signal_is_handled_in_the_middle(pair: tuple[socket.socket, socket.socket]) -> None:
    """A handler that returns changes nothing; one that raises ends it."""
    client, server = pair
    calls: list[int] = []

    def handler(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(KeyboardInterrupt):
            exchanged(client, b"short")
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.0)
        answering = threading.Timer(0.3, server.sendall, [b"answer"])
        answering.start()
        assert exchanged(client, b"short") == b"answer"
        answering.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) == 4


def test_others_run_meanwhile(pair: tuple[socket.socket, socket.socket]) -> None:
    """The interpreter is free while it waits."""
    client, server = pair
    done: list[bool | None] = []
    thread = threading.Thread(target=lambda: done.append(exchanged(client, b"short") == b"answer"))
    thread.start()
    assert server.recv(100) == HEAD + b"short"
    assert done == []
    server.sendall(b"answer")
    thread.join()
    assert done == [True]


def test_what_cannot_be_sent_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    """And leaves the interpreter whole."""
    client, _ = pair
    assert exchange is not None
    for arguments in ((), (client, HEAD, BODY), (client, "head", BODY, 1.0), (client, HEAD, bytearray(1), 1.0)):
        with pytest.raises(TypeError):
            exchange(*arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        exchange(client, HEAD, BODY, "soon")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        exchange("socket", HEAD, BODY, 1.0)  # type: ignore[arg-type]
    client.close()
    with pytest.raises(ValueError, match="negative"):
        exchange(client, HEAD, BODY, 1.0)


def test_a_signal_that_ends_no_wait_is_handled_in_it(pair: tuple[socket.socket, socket.socket]) -> None:
    """One that came just before, or that the system gave to another thread: long before the time is over."""
    client, _ = pair

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    def to_itself() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    other = threading.Timer(0.1, to_itself)
    try:
        other.start()
        with pytest.raises(KeyboardInterrupt):
            exchanged(client, b"short", 60.0)
    finally:
        signal.signal(signal.SIGALRM, before)
        other.join()
