"""HTTP proxies on loopback: one that forwards requests, one that opens tunnels."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import HTTP, sent
from tests.launched import free_port
from tests.otlp.certificates import authority, server_context


class Tunnels(socketserver.ThreadingTCPServer):
    """Answers CONNECT, then passes bytes on; ``heads`` are the requests that it got."""

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.answer = b"HTTP/1.1 200 OK\r\n\r\n"
        super().__init__(("127.0.0.1", 0), _Tunnel)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves early is none of our business."""


class _Tunnel(socketserver.StreamRequestHandler):
    server: Tunnels

    def handle(self) -> None:
        head = b""
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            head += line
        self.server.heads.append(head.decode())
        self.wfile.write(self.server.answer)
        if b"200" not in self.server.answer:
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            back = threading.Thread(target=_pass_on, args=(onward, self.connection))
            back.start()
            _pass_on(self.connection, onward)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def tunnels() -> Iterator[Tunnels]:
    with Tunnels() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_proxy_that_forwards() -> None:
    """http:// endpoints: the whole URL goes to the proxy, with its own credentials, and an answer is an answer."""
    with Receiver(grpc_port=None, keep=1) as proxy:
        environ = {"HTTP_PROXY": f"http://user:p%40ss@127.0.0.1:{proxy.http_port}"}
        exporter = OTLPSpanExporter(HTTP, "http://collector.invalid:4318", environ=environ)
        outcome, _ = sent(exporter)
        exporter.shutdown()
    assert outcome.accepted == proxy.counts.spans == 5
    request = proxy.requests[-1]
    assert request.path == "http://collector.invalid:4318/v1/traces"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert request.headers["host"] == "collector.invalid:4318"


def test_what_is_excepted_is_connected_to() -> None:
    """NO_PROXY: a proxy that is not there does not matter."""
    with Receiver(grpc_port=None) as receiver:
        environ = {"HTTP_PROXY": f"http://127.0.0.1:{free_port()}", "NO_PROXY": "127.0.0.1"}
        exporter = OTLPSpanExporter(HTTP, receiver.http_endpoint, environ=environ)
        outcome, _ = sent(exporter)
        exporter.shutdown()
    assert outcome.accepted == 5


def test_a_tunnel(tunnels: Tunnels, tmp_path: Path) -> None:
    """https:// endpoints: the proxy is asked for one connection, sees no request, and TLS is with the collector."""
    issuer = authority(tmp_path / "ours")
    context = server_context(issuer.issue("server", "127.0.0.1"))
    with Receiver(grpc_port=None, ssl_context=context) as receiver:
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{tunnels.server_address[1]}"}
        exporter = OTLPSpanExporter(
            HTTP, receiver.http_endpoint, certificate_file=issuer.file, headers={"api-key": "secret"}, environ=environ
        )
        assert [sent(exporter)[0].accepted for _ in range(2)] == [5, 5]
        exporter.shutdown()
    (head,) = tunnels.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{receiver.http_port} ")
    assert "secret" not in head


def test_a_tunnel_that_is_refused(tunnels: Tunnels, tmp_path: Path) -> None:
    """The proxy's refusal is not the collector's answer: it is tried again, and nothing is sent."""
    tunnels.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    environ = {"HTTPS_PROXY": f"http://127.0.0.1:{tunnels.server_address[1]}"}
    exporter = OTLPSpanExporter(HTTP, "https://127.0.0.1:1", environ=environ)
    outcome, _ = sent(exporter, budget=0.5)
    exporter.shutdown()
    assert (outcome.accepted, outcome.attempts) == (0, 1)
    assert "407" in outcome.message
