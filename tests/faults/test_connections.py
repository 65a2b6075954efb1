"""Connections that are kept, those that the server had closed, and collectors that come back: no span is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from otel_shed.testing.receiver import Receiver
from tests.faults.raw_server import OK, Connection, RawServer
from tests.faults.sending import GRPC, HTTP, PROTOCOLS, exporting, sent
from tests.launched import free_port


@pytest.mark.parametrize("end", [Connection.close, Connection.reset, Connection.half_close])
@pytest.mark.parametrize("when", ["idle", "asked"])
def test_a_kept_connection_that_the_server_closed(end: Callable[[Connection], None], when: str) -> None:
    """The next export succeeds at the first attempt, be it closed while idle or as the request comes."""

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(OK)
        if when == "asked":
            connection.request()
        end(connection)
        connection.wait() if end is Connection.half_close else None

    with RawServer(serve) as server, exporting(server.port, HTTP) as exporter:
        for _ in range(3):
            outcome, _ = sent(exporter)
            assert (outcome.accepted, outcome.reason, outcome.attempts) == (5, None, 1)
            time.sleep(0.1)
        assert server.connections == 3


def test_a_connection_is_kept() -> None:
    """Ten requests on one connection."""

    def serve(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(OK)

    with RawServer(serve) as server, exporting(server.port, HTTP) as exporter:
        assert [sent(exporter)[0].accepted for _ in range(10)] == [5] * 10
        assert (server.connections, len(server.requests)) == (1, 10)


@PROTOCOLS
def test_a_collector_that_comes_back_is_found(protocol: str) -> None:
    """Stopped and started again at the same port: spans arrive within a few seconds, those of the gap included."""
    port = free_port()
    grpc_port, http_port = (port, None) if protocol == GRPC else (None, port)
    with exporting(port, protocol) as exporter:
        with Receiver(grpc_port=grpc_port, http_port=http_port):
            assert sent(exporter)[0].accepted == 5
        assert sent(exporter, budget=0.6)[0].accepted == 0
        with Receiver(grpc_port=grpc_port, http_port=http_port) as receiver:
            outcome, took = sent(exporter)
            assert outcome.accepted == receiver.counts.spans == 5
            assert took < 4.0
