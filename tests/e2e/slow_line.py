"""A line on loopback that is as slow as one around the world: it hands on every piece after a while."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType

_CHUNK = 65536


class SlowLine:
    """Connects whoever connects to ``port`` with the port ``to``; ``delay``: seconds for each piece, each way."""

    def __init__(self, to: int, *, delay: float) -> None:
        self._to = to
        self._delay = delay
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:  # closed
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._hand_on, args=(source, sink), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(_CHUNK):
                time.sleep(self._delay)
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self) -> SlowLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for each in self._open:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        for each in (self._server, *self._open):
            each.close()
