"""An OTLP receiver on loopback, gRPC and HTTP, that counts what it gets and answers as it is told.

Owns the counts, which the servers' threads write under one lock. For tests in the same process, or by itself:

    python -m otel_shed.testing.receiver --grpc-port 0 --http-port 0

prints its ports as one line of JSON; each line on its standard input has it print its counts, as does SIGTERM (or the
end of a pipe on its standard input), which also ends it. With --unread it counts spans without looking into
them: so it disturbs a program that it shares the machine with less. The rule: it listens on loopback only, and closing
it leaves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import ssl
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from otel_shed.testing.answers import Answer, Request, Script, accept, count_spans, count_unread
from otel_shed.testing.servers import GRPCServer, HTTPServer

if TYPE_CHECKING:
    import grpc

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Counts:
    """requests: all. spans: of requests that were taken. refused_spans: of the others."""

    requests: int = 0
    spans: int = 0
    refused_spans: int = 0


class Receiver:
    """Listens as soon as it is made, until ``close``; a context manager that closes it.

    grpc_port, http_port: 0 for any that is free, None for no such server; the attributes have the real ones.
    answer: decides about each request; may be replaced at any time, and may be called by several threads at once.
    keep: how many of the latest requests to keep in ``requests``. count: how many spans a payload has, None if it is no
    request. ssl_context, grpc_credentials: for TLS.
    """

    def __init__(
        self,
        *,
        grpc_port: int | None = 0,
        http_port: int | None = 0,
        answer: Script = accept,
        keep: int = 0,
        count: Callable[[bytes], int | None] = count_spans,
        ssl_context: ssl.SSLContext | None = None,
        grpc_credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.answer = answer
        self._count = count
        self.requests: deque[Request] = deque(maxlen=keep)
        self._counts = Counts()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._grpc = None if grpc_port is None else GRPCServer(HOST, grpc_port, self._handle, grpc_credentials)
        self._http = None if http_port is None else HTTPServer(HOST, http_port, self._handle, ssl_context)
        self.grpc_port = self._grpc.port if self._grpc else None
        self.http_port = self._http.port if self._http else None
        self._tls = (grpc_credentials is not None, ssl_context is not None)

    @property
    def grpc_endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be for gRPC."""
        return f"{'https' if self._tls[0] else 'http'}://{HOST}:{self.grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT is to be for http/protobuf."""
        return f"{'https' if self._tls[1] else 'http'}://{HOST}:{self.http_port}"

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        with self._changed:
            return self._counts

    def wait_for_spans(self, count: int, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for so many spans in all; whether they came."""
        with self._changed:
            return self._changed.wait_for(lambda: self._counts.spans >= count, timeout)

    def _handle(self, protocol: str, payload: bytes, headers: Mapping[str, str], path: str, encoding: str) -> Answer:
        spans = self._count(payload)
        with self._changed:
            number = self._counts.requests
            request = Request(number, protocol, payload, headers, path, encoding, spans)
            self.requests.append(request)
            self._counts = Counts(number + 1, self._counts.spans, self._counts.refused_spans)
        answer = self.answer(request)
        if answer.hang or answer.delay:
            self._closing.wait(None if answer.hang else answer.delay)
        with self._changed:
            before = self._counts
            taken, refused = (spans or 0, 0) if answer.accepts else (0, spans or 0)
            self._counts = Counts(before.requests, before.spans + taken, before.refused_spans + refused)
            self._changed.notify_all()
        return answer

    def close(self) -> None:
        """Stop listening, end every connection and thread."""
        self._closing.set()
        for server in (self._grpc, self._http):
            if server is not None:
                server.close()
        self._grpc = self._http = None

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def main(arguments: list[str] | None = None) -> int:
    """Run as a program until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m otel_shed.testing.receiver", description=__doc__)
    parser.add_argument("--grpc-port", type=int, default=4317)
    parser.add_argument("--http-port", type=int, default=4318)
    parser.add_argument(
        "--unread", action="store_true", help="count spans without looking into them, their resources and scopes"
    )
    options = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    count = count_unread if options.unread else count_spans
    with Receiver(grpc_port=options.grpc_port, http_port=options.http_port, count=count) as receiver:
        _say({"grpc_port": receiver.grpc_port, "http_port": receiver.http_port})
        threading.Thread(target=_read_commands, args=(receiver, ended), daemon=True).start()
        ended.wait()
    _say(asdict(receiver.counts))
    return 0


def _read_commands(receiver: Receiver, ended: threading.Event) -> None:
    if sys.stdin is None:
        return
    for _ in sys.stdin:
        _say(asdict(receiver.counts))
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        ended.set()  # whoever started it is gone


def _say(line: Mapping[str, object]) -> None:
    try:
        print(json.dumps(line), flush=True)  # noqa: T201
    except BrokenPipeError:  # nobody listens any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
