"""A server below HTTP and gRPC: what happens on each connection is a function of the test's."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"

Script = Callable[["Connection"], None]


class Connection:
    """One accepted connection. number: from 0, in order of arrival."""

    def __init__(self, server: RawServer, number: int, accepted: socket.socket) -> None:
        self.number = number
        self._server = server
        self._socket = accepted
        self._received = b""

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Go on with TLS, as its server."""
        self._socket = self._server.replaced(self._socket, context.wrap_socket(self._socket, server_side=True))

    def request(self) -> bytes | None:
        """The next HTTP request's body; None if the client is gone."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        while len(self._received) < length:
            if not self._receive():
                return None
        body, self._received = self._received[:length], self._received[length:]
        self._server.requests.append(body)
        return body

    def _receive(self) -> bool:
        piece = self._socket.recv(65536)
        self._received += piece
        return bool(piece)

    def receive_until(self, end: bytes) -> None:
        """Read until these bytes have come, or the client is gone."""
        while end not in self._received and self._receive():
            pass

    def receive_all(self) -> None:
        """Read and forget until the client is gone."""
        while self._receive():
            self._received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def drip(self, data: bytes) -> None:
        """A byte every 50 ms, until the client is gone or the server is closed."""
        for byte in data:
            self._socket.sendall(bytes([byte]))
            if self._server.closing.wait(0.05):
                return

    def half_close(self) -> None:
        """End our direction; the client's stays open."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Have the client get a reset instead of an end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def wait(self) -> None:
        """Say nothing until the server is closed."""
        self._server.closing.wait(60)

    def close(self) -> None:
        self._socket.close()


class RawServer:
    """Runs ``script`` for each connection on a thread of its own, and then closes it; a context manager.

    requests: the bodies of the HTTP requests that scripts read. failures: what scripts raised, but for OSError.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[bytes] = []
        self.closing = threading.Event()
        self.connections = 0
        self.ended = 0
        self.failures: list[Exception] = []
        self._script = script
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._server.accept()
            except OSError:  # closed
                return
            self._open.append(accepted)
            connection = Connection(self, self.connections, accepted)
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            self._script(connection)
        except OSError:  # the client is gone
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            connection.close()
            self.ended += 1

    def replaced(self, plain: socket.socket, wrapped: socket.socket) -> socket.socket:
        """Keep the socket that took the other's place, to be closed at the end."""
        self._open[self._open.index(plain)] = wrapped
        return wrapped

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.closing.set()
        for each in (self._server, *self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        for each in (self._server, *self._open):
            each.close()
        assert self.failures == []
