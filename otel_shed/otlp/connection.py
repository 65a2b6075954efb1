"""urllib3 connections on which no wait outlasts the exchange's deadline.

Owns the socket's time limit, which it sets anew before each system call: urllib3 (like every client on top of Python's
sockets) limits one call only, so a server that sends a byte now and then could hold an export for ever. And the head of
the last request, which is the next one's but for its length: on a connection that is kept it is sent together with the
body, past urllib3, which takes a quarter of a millisecond for what is always the same; without TLS the compiled way
does that and awaits the answer in one step. Used by the sending thread; only ``Exchange.interrupt`` comes from another.
The rule: no call on the socket without a limit.
"""

from __future__ import annotations

import codecs
import http.client
import io
import re
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from otel_shed.compiled import extension
from otel_shed.native import end_connection
from otel_shed.otlp.response import FinalResponse, OtherResponse, Response, UsualResponse, usual_response

# socket.getaddrinfo() imports it with its first call. A process that forks in the middle of an import by another thread
# has a child that waits for the end of it for ever.
codecs.lookup("idna")

_CHUNK = 65536
_ANSWER = 8192  # more than answers are wont to have
# A thread that gives the interpreter up may get it back after 5 ms, and each call on a socket does so three times: for
# the time limit, to wait, and itself. Compiled, it is once for all of them.
_in_one_step: Callable[[socket.socket, bytes, bytes, float], bytes | None] | None = getattr(extension, "exchange", None)
_SERVER = re.compile(r"[a-z]+://[^/]+")
_LENGTH = re.compile(rb"(\r\ncontent-length: *)[0-9]+", re.IGNORECASE)


class Exchange:
    """One request and its response: until when, on which socket, and how far it got."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.deadline = 0.0
        self.connection: KeptConnection | None = None  # that the last request went over
        self.target = "/"  # path and query, in which there may be a key: urllib3, which logs its URL, has another
        self._socket: socket.socket | None = None
        self._interrupted = False
        self.begin()

    def begin(self) -> None:
        """Forget the one before."""
        self.connected = False
        self.requested = False
        self.heard = False
        self.has_surplus = False  # more has come than the answer

    def left(self) -> float:
        """Seconds until the deadline; TimeoutError if there are none, ConnectionAbortedError after ``interrupt``."""
        if self._interrupted:
            raise ConnectionAbortedError("interrupted")
        left = self.deadline - self._clock()
        if left <= 0:
            raise TimeoutError("the time limit has passed")
        return left

    @property
    def was_stale(self) -> bool:
        """Whether it was sent on a kept connection that never answered: the server had closed it."""
        return self.requested and not self.connected and not self.heard

    def use(self, connected: socket.socket | None) -> None:
        self._socket = connected

    def interrupt(self) -> None:
        """End the call on the socket that the sending thread is in, from another thread, and have none follow."""
        self._interrupted = True  # first: a socket that is not known yet finds it
        if (connected := self._socket) is not None:
            end_connection(connected)


class KeptConnection(Protocol):
    """A connection that a request has gone over."""

    def post(self, body: bytes) -> Response | UsualResponse | None:
        """Send another, the same but for its body; what comes back. None if it cannot go over it: it is closed."""


class _DeadlineReader(io.RawIOBase):
    """What http.client reads from: what was received already, then the socket."""

    def __init__(self, connected: socket.socket, exchange: Exchange, received: bytes) -> None:
        # The socket's own file, so that the socket stays open until this is closed, as http.client expects.
        self._raw = connected.makefile("rb", buffering=0)
        self._socket = connected
        self._exchange = exchange
        self._received = received
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._received:
            piece = self._received[: len(buffer)]
            self._received = self._received[len(piece) :]
            buffer[: len(piece)] = piece
            self._count += len(piece)
            return len(piece)
        self._socket.settimeout(self._exchange.left())
        count = self._raw.readinto(buffer)
        if count:
            self._exchange.heard = True
            self._count += count
        return count

    def tell(self) -> int:
        """How many bytes have been read, for the buffer to reckon with."""
        return self._count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _AnswerReader(io.BufferedReader):
    """The buffer that an answer is read from, and closed when it has been; what is left in it is no part of it."""

    def __init__(self, raw: _DeadlineReader, exchange: Exchange) -> None:
        super().__init__(raw, _CHUNK)
        self._source = raw
        self._exchange = exchange

    def close(self) -> None:
        if not self.closed and self.tell() < self._source.tell():
            self._exchange.has_surplus = True
        super().close()


class _DeadlineSocket:
    """What http.client makes a response of: it asks for nothing but the file."""

    def __init__(self, connected: socket.socket, exchange: Exchange, received: bytes = b"") -> None:
        self._socket = connected
        self._exchange = exchange
        self._received = received

    def makefile(self, mode: str) -> io.BufferedReader:
        return _AnswerReader(_DeadlineReader(self._socket, self._exchange, self._received), self._exchange)


class _WithDeadline(HTTPConnection):
    def __init__(self, *args: Any, exchange: Exchange, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange = exchange
        self._head: tuple[bytes, bytes] | None = None  # up to the body's length, and after it
        self._head_is_next = False
        self._is_plain = False

    def _new_conn(self) -> socket.socket:
        """Connect to one of the host's addresses; each gets its share of the time, not all of it as with urllib3."""
        addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        failure: OSError = socket.gaierror(f"no address for {self._dns_host}")
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            connected = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    connected.setsockopt(*option)
                connected.settimeout(self._exchange.left() / (len(addresses) - number))
                self._exchange.use(connected)
                connected.connect(address)
                connected.settimeout(self._exchange.left())  # what TLS's handshake keeps to, as a whole
                return connected
            except OSError as error:
                connected.close()
                failure = error
        raise failure

    def connect(self) -> None:
        self._exchange.connected = True
        super().connect()
        self._exchange.use(self.sock)
        # TLS has its own way, and so have gevent's sockets.
        kind = type(self.sock)
        self._is_plain = kind is socket.socket and kind.__module__ == "socket"

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        self._exchange.requested = True
        self._exchange.connection = self
        to_proxy = _SERVER.match(url)
        super().request(method, (to_proxy[0] if to_proxy else "") + self._exchange.target, *args, **options)

    def endheaders(self, *args: Any, **options: Any) -> None:
        self._head_is_next = True
        super().endheaders(*args, **options)

    def send(self, data: Any) -> None:
        is_head, self._head_is_next = self._head_is_next, False
        if self.sock is None:
            self.connect()  # which may itself send, to a proxy
        view = memoryview(data)
        if is_head:
            halves = _LENGTH.split(view)
            self._head = (halves[0] + halves[1], halves[2]) if len(halves) == 3 else None
        # A time limit is for sendall() as a whole, but with TLS for each record.
        step = max(1, len(view)) if type(self.sock) is socket.socket else _CHUNK
        for start in range(0, len(view), step):
            self.sock.settimeout(self._exchange.left())
            super().send(view[start : start + step])

    def _send_together(self, head: bytes, body: bytes) -> None:
        """In one packet, where there is room, and without a copy where the system takes both."""
        if type(self.sock) is not socket.socket or not hasattr(socket.socket, "sendmsg"):
            self.send(head + body)
            return
        self.sock.settimeout(self._exchange.left())
        left = len(head) + len(body) - self.sock.sendmsg((head, body))
        if left > len(body):
            self.send(head[-(left - len(body)) :] + body)
        elif left:
            self.send(memoryview(body)[-left:])

    def post(self, body: bytes) -> Response | UsualResponse | None:
        if self._head is None or self.sock is None:
            return None
        to_length, rest = self._head
        head = b"%b%d%b" % (to_length, len(body), rest)
        connected: socket.socket = self.sock
        if _in_one_step is not None and self._is_plain:
            self._exchange.requested = True
            received = _in_one_step(connected, head, body, self._exchange.left())
        else:
            received = self._post_plain(connected, head, body)
        if received is None:
            self._exchange.requested = False
            self.close()  # or urllib3, which does not see all that there is, might go on with it
            return None
        self._exchange.heard = bool(received)
        if (usual := usual_response(received)) is not None:
            return usual
        source: Any = _DeadlineSocket(connected, self._exchange, received)
        return OtherResponse(FinalResponse(source, method="POST"), self)

    def _post_plain(self, connected: socket.socket, head: bytes, body: bytes) -> bytes | None:
        """What comes of the answer first; None if something had come before, if only the end."""
        # TLS inside TLS is no socket of Python's.
        if not isinstance(connected, socket.socket) or not self.is_connected:
            return None
        if isinstance(connected, ssl.SSLSocket) and connected.pending():  # read with the last answer, and no part of it
            return None
        self._exchange.requested = True
        try:
            self._send_together(head, body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # a server may answer without having read all, and leave
        connected.settimeout(self._exchange.left())
        return connected.recv(_ANSWER)

    def response_class(self, connected: socket.socket, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        return FinalResponse(_DeadlineSocket(connected, self._exchange), **options)  # type: ignore[arg-type]


class _HTTPSWithDeadline(_WithDeadline, HTTPSConnection):
    pass


class HTTPPool(HTTPConnectionPool):
    """A pool of such connections; ``conn_kw`` must have the exchange."""

    ConnectionCls = _WithDeadline


class HTTPSPool(HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = _HTTPSWithDeadline
