"""TLS with real certificates: who is trusted, who is not, and how slow a handshake may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import Outcome
from otel_shed.testing.answers import accept
from otel_shed.testing.receiver import Receiver
from tests.e2e.slow_line import SlowLine
from tests.faults.raw_server import OK, Connection, RawServer
from tests.faults.sending import GRPC, HTTP, PROTOCOLS, RECORDS
from tests.launched import until
from tests.otlp.certificates import Authority, Files, authority, server_context, server_credentials

Serve = Callable[..., Receiver]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "strangers")


@pytest.fixture(scope="module")
def server(issuer: Authority) -> Files:
    return issuer.issue("server", "127.0.0.1", "localhost")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a receiver with a certificate; ``clients``: the authority that clients must have theirs of."""
    with ExitStack() as stack:

        def start(files: Files, clients: Path | None = None) -> Receiver:
            receiver = Receiver(
                ssl_context=server_context(files, clients=clients),
                grpc_credentials=server_credentials(files, clients=clients),
                answer=accept,
            )
            return stack.enter_context(receiver)

        yield start


def sent(endpoint: str, protocol: str, trusted: Path | None, **options: Any) -> Outcome:
    """What became of five spans."""
    exporter = OTLPSpanExporter(protocol, endpoint, certificate_file=trusted, environ={}, **options)
    outcome = exporter.send_records(RECORDS, budget=10.0)
    exporter.shutdown()
    return outcome


def refused(
    receiver: Receiver, protocol: str, trusted: Path | None, *, scheme: str = "https", **options: Any
) -> Attempt:
    """The only attempt of an exporter in a hurry: nothing is taken, at once; a certificate may yet be put right."""
    endpoint = f"{scheme}://127.0.0.1:{receiver.grpc_port if protocol == GRPC else receiver.http_port}"
    exporter = OTLPSpanExporter(protocol, endpoint, certificate_file=trusted, environ={}, **options)
    exporter.hurry()
    assert exporter.send_records(RECORDS, budget=10.0).accepted == 0
    exporter.shutdown()
    attempt = exporter.last_attempt
    assert attempt is not None
    assert (attempt.verdict, attempt.answered, attempt.timed_out) == (Verdict.RETRYABLE, False, False)
    assert attempt.duration < 3.0
    assert receiver.counts.requests == 0
    return attempt


def endpoint_of(receiver: Receiver, protocol: str) -> str:
    return receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint


@PROTOCOLS
def test_a_certificate_of_a_trusted_authority(serve: Serve, server: Files, protocol: str) -> None:
    """certificate_file has the authority: spans arrive."""
    receiver = serve(server)
    outcome = sent(endpoint_of(receiver, protocol), protocol, server.authority)
    assert (outcome.accepted, receiver.counts.spans) == (5, 5)


@PROTOCOLS
@pytest.mark.parametrize("trusted", ["strangers", "system"])
def test_a_certificate_of_an_untrusted_authority(
    serve: Serve, server: Files, stranger: Authority, protocol: str, trusted: str
) -> None:
    """Neither with another authority nor with the system's is anything sent; the words say that it is TLS."""
    receiver = serve(server)
    attempt = refused(receiver, protocol, stranger.file if trusted == "strangers" else None)
    assert "certificate" in attempt.message.lower()


@PROTOCOLS
def test_a_certificate_for_another_host(serve: Serve, issuer: Authority, protocol: str) -> None:
    """A trusted authority is not enough: the name must be the endpoint's."""
    receiver = serve(issuer.issue("elsewhere", "elsewhere.test"))
    refused(receiver, protocol, issuer.file)


@PROTOCOLS
def test_the_certificate_of_a_client(serve: Serve, server: Files, issuer: Authority, protocol: str) -> None:
    """A server that asks for one takes the spans of a client that has one."""
    receiver = serve(server, clients=issuer.file)
    client = issuer.client()
    outcome = sent(
        endpoint_of(receiver, protocol),
        protocol,
        server.authority,
        client_certificate_file=client.certificate,
        client_key_file=client.key,
    )
    assert (outcome.accepted, receiver.counts.spans) == (5, 5)


@PROTOCOLS
@pytest.mark.parametrize("whose", ["none", "strangers"])
def test_a_client_without_a_certificate_that_the_server_trusts(
    serve: Serve, server: Files, issuer: Authority, stranger: Authority, protocol: str, whose: str
) -> None:
    """Without one, or with another authority's, nothing is taken, and that is known at once."""
    receiver = serve(server, clients=issuer.file)
    client = stranger.client()
    identity = {"client_certificate_file": client.certificate, "client_key_file": client.key}
    options = identity if whose == "strangers" else {}
    refused(receiver, protocol, server.authority, **options)


@PROTOCOLS
def test_a_replaced_certificate_is_used_with_the_next_connection(
    serve: Serve, server: Files, stranger: Authority, tmp_path: Path, protocol: str
) -> None:
    """The file that is trusted is put right: the exporter that failed goes on with it, without being made anew."""
    receiver = serve(server)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(stranger.file.read_bytes())
    exporter = OTLPSpanExporter(protocol, endpoint_of(receiver, protocol), certificate_file=trusted, environ={})
    assert exporter.send_records(RECORDS, budget=0.5).accepted == 0
    trusted.write_bytes(server.authority.read_bytes())
    outcome = exporter.send_records(RECORDS, budget=3.0)
    exporter.shutdown()
    assert outcome.accepted == 5


@PROTOCOLS
def test_a_server_without_tls(protocol: str, server: Files) -> None:
    """https:// to a server that speaks plainly: nothing is sent, and that is known at once."""
    with Receiver() as receiver:
        refused(receiver, protocol, server.authority)


@PROTOCOLS
def test_a_client_without_tls(serve: Serve, server: Files, protocol: str) -> None:
    """http:// to a server that speaks TLS: nothing is taken, and that is known at once."""
    refused(serve(server), protocol, None, scheme="http")


@PROTOCOLS
def test_a_handshake_over_a_slow_line(serve: Serve, server: Files, protocol: str) -> None:
    """Connecting that takes more than a second is no failure: spans arrive at the first attempt."""
    receiver = serve(server)
    port = receiver.grpc_port if protocol == GRPC else receiver.http_port
    assert port is not None
    with SlowLine(port, delay=0.4) as line:
        outcome = sent(f"https://127.0.0.1:{line.port}", protocol, server.authority)
    assert (outcome.accepted, outcome.attempts, receiver.counts.spans) == (5, 1, 5)
    assert outcome.duration > 1.2


def test_a_kept_tls_connection_that_the_server_closed(server: Files) -> None:
    """The next export succeeds at the first attempt, on a new connection."""
    context = server_context(server)

    def serve_one(connection: Connection) -> None:
        connection.use_tls(context)
        connection.request()
        connection.send(OK)

    with RawServer(serve_one) as listening:
        endpoint = f"https://127.0.0.1:{listening.port}"
        exporter = OTLPSpanExporter(HTTP, endpoint, certificate_file=server.authority, environ={})
        for number in range(1, 4):
            outcome = exporter.send_records(RECORDS, budget=10.0)
            assert (outcome.accepted, outcome.attempts) == (5, 1)
            until(lambda number=number: listening.ended == number, what="the connection's end")
        exporter.shutdown()
        assert listening.connections == 3
