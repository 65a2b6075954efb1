"""The two servers of a receiver: gRPC on grpcio, HTTP on the standard library; loopback is up to the caller.

Each owns its threads and sockets. ``handle`` is called by those threads, several at a time. The rule: once ``close``
has returned there are none left.
"""

from __future__ import annotations

import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from otel_shed.native import end_connection
from otel_shed.otlp.transport import MAX_REQUEST_BYTES
from otel_shed.otlp.transport_grpc import METHOD
from otel_shed.testing.answers import Answer

# protocol, payload, headers, path, content encoding
Handle = Callable[[str, bytes, Mapping[str, str], str, str], Answer]

GRPC_THREADS = 8
_WINDOWS = {"gzip": 31, "deflate": 15}


class GRPCServer:
    """Serves Export on ``port``; TLS with ``credentials``."""

    def __init__(self, host: str, port: int, handle: Handle, credentials: grpc.ServerCredentials | None) -> None:
        self._handle = handle
        self._threads = ThreadPoolExecutor(GRPC_THREADS, thread_name_prefix="otlp-receiver-grpc")
        self._server = grpc.server(
            self._threads,
            handlers=(_Method(self._answer),),
            options=(
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ),
        )
        address = f"{host}:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def _answer(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        answer = self._handle("grpc", payload, headers, METHOD, "")
        context.set_trailing_metadata(answer.trailers)
        if answer.code != "OK":
            context.abort(grpc.StatusCode[answer.code], answer.details)
        return answer.body

    def close(self) -> None:
        self._server.stop(0).wait()
        self._threads.shutdown()


class _Method(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Takes and gives bytes: no serializers."""

    def __init__(self, answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._answer = answer

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self._answer) if call.method == METHOD else None


class HTTPServer:
    """Serves POST on ``port``, any path; TLS with ``context``."""

    def __init__(self, host: str, port: int, handle: Handle, context: ssl.SSLContext | None) -> None:
        self._server = _Listener((host, port), handle, context)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="otlp-receiver-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect_all()
        self._server.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() joins them
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handle: Handle, context: ssl.SSLContext | None) -> None:
        self.handle_export = handle
        self._context = context
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._context is not None:
            # The handshake is for the connection's own thread: here it would keep others from being accepted.
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or a handshake that fails, is nothing to print about."""

    def disconnect_all(self) -> None:
        for connection in list(self._connections):
            end_connection(connection)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Listener

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            self._respond(Answer(status=413 if length.isdigit() else 411))
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        encoding = headers.get("content-encoding", "")
        answer = self.server.handle_export("http/protobuf", _decoded(body, encoding), headers, self.path, encoding)
        if answer.disconnect or answer.hang:
            self.close_connection = True
            end_connection(self.connection)
        else:
            self._respond(answer)

    def _respond(self, answer: Answer) -> None:
        self.send_response(answer.status)
        given = {name.lower() for name in answer.headers}
        if "content-type" not in given:
            self.send_header("Content-Type", "application/x-protobuf")
        if "content-length" not in given and answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.status != 204:
            self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding not in _WINDOWS:
        return body
    try:
        return zlib.decompressobj(_WINDOWS[encoding]).decompress(body, MAX_REQUEST_BYTES)
    except zlib.error:
        return b"\xff"  # no message
