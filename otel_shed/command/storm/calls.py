"""The call from a storm's first process to its second: HTTP on loopback, with the context of the standard propagator.

The caller's threads own a connection each; the listener's threads only put down what has come, for the thread that
makes the spans. The rule: neither end keeps that thread waiting.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

from opentelemetry.context import Context
from opentelemetry.trace import Span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_shed.command.storm.shapes import CALLS

_HOST = "127.0.0.1"
_THREADS = 4
_CALL_SECONDS = 5.0
_PATHS = {False: "/payments", True: "/payments/that-fail"}

_propagator = TraceContextTextMapPropagator()


class Caller:
    """Calls the process that listens at ``port``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._calls: SimpleQueue[tuple[str, dict[str, str]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self.lost = 0
        self._threads = [threading.Thread(target=self._run, name="storm-caller", daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def began(self, span: Span, place: int, failed: bool) -> None:
        """A span of the front has begun; if it is the one that calls, the call goes out."""
        if place == CALLS:
            headers: dict[str, str] = {}
            _propagator.inject(headers, set_span_in_context(span, Context()))
            self._calls.put((_PATHS[failed], headers))

    def close(self) -> None:
        """Return once all calls are made."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_CALL_SECONDS)
        while (call := self._calls.get()) is not None:
            path, headers = call
            try:
                connection.request("POST", path, headers=headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.lost += 1
        connection.close()


class Listener:
    """Takes calls at ``port``; ``calls`` has what came and is not begun yet: a context, and whether it is to fail."""

    def __init__(self) -> None:
        self.calls: deque[tuple[Context, bool]] = deque()
        calls = self.calls

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                calls.append((_propagator.extract(dict(self.headers.items()), Context()), self.path == _PATHS[True]))
                self.send_response_only(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((_HOST, 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="storm-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
