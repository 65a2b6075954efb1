"""What servers do to connections, on real sockets: time limits are kept, answers are understood, no span is lost."""

from __future__ import annotations

import time

import pytest

from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import DropReason, Outcome
from otel_shed.testing.answers import Answer
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span
from tests.faults.raw_server import OK, Connection, RawServer, Script
from tests.faults.sending import GRPC, HTTP, PROTOCOLS, exporting, one_attempt, sent
from tests.launched import free_port

TIMEOUT = 0.6
# SETTINGS, with which an HTTP/2 server begins.
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def assert_timed_out(outcome: Outcome, took: float) -> None:
    assert (outcome.accepted, outcome.reason, outcome.attempts) == (0, DropReason.EXPORT_TIMEOUT, 1)
    assert TIMEOUT - 0.05 < took < TIMEOUT + 0.4


def assert_may_be_retried(attempt: Attempt) -> None:
    """It failed without an answer, and long before the time limit."""
    assert (attempt.verdict, attempt.answered, attempt.timed_out) == (Verdict.RETRYABLE, False, False)
    assert attempt.message
    assert attempt.duration < 3.0


# -- time limits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
@PROTOCOLS
def test_a_server_that_never_answers(protocol: str, scheme: str) -> None:
    """The time limit is kept, with TLS in the handshake, and the outcome says that it was that."""
    with RawServer(Connection.wait) as server, exporting(server.port, protocol, scheme=scheme) as exporter:
        assert_timed_out(*sent(exporter, budget=TIMEOUT))


@PROTOCOLS
def test_a_request_that_is_read_and_never_answered(protocol: str) -> None:
    """As above, where the server takes the request first."""
    with Receiver(answer=lambda _: Answer(hang=True)) as receiver:
        with exporting(receiver.grpc_port if protocol == GRPC else receiver.http_port, protocol) as exporter:
            assert_timed_out(*sent(exporter, budget=TIMEOUT))
        assert receiver.counts.requests == 1


def _drip_head(connection: Connection) -> None:
    connection.request()
    connection.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 1000)


def _drip_settings(connection: Connection) -> None:
    connection.drip(b"\x00\x0f\xfc\x04" + b"\x00" * 4000)


@pytest.mark.parametrize(("protocol", "script"), [(HTTP, _drip_head), (GRPC, _drip_settings)])
def test_a_server_that_drips_bytes(protocol: str, script: Script) -> None:
    """A byte now and then, each well within the limit, does not prolong it."""
    with RawServer(script) as server, exporting(server.port, protocol) as exporter:
        assert_timed_out(*sent(exporter, budget=TIMEOUT))


def test_a_body_that_drips_is_not_waited_for() -> None:
    """The status has come and decides: taken, at the time limit at the latest, and never sent again."""

    def drip_body(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        connection.drip(b"\x00" * 1000)

    with RawServer(drip_body) as server, exporting(server.port, HTTP) as exporter:
        outcome, took = sent(exporter, budget=TIMEOUT)
        assert (outcome.accepted, outcome.reason, outcome.attempts) == (5, None, 1)
        assert took < TIMEOUT + 0.4
        assert len(server.requests) == 1


def test_a_server_that_does_not_read() -> None:
    """A request larger than the socket's buffers, of which nothing is read: the time limit is kept."""
    record = encode_span(ended_span("x" * 16_000_000))
    with RawServer(Connection.wait) as server, exporting(server.port, HTTP) as exporter:
        began = time.monotonic()
        outcome = exporter.send_records([record], budget=TIMEOUT)
        assert outcome.reason is DropReason.EXPORT_TIMEOUT
        assert time.monotonic() - began < TIMEOUT + 0.6


# -- connections that end --------------------------------------------------------------------------------------------


@PROTOCOLS
def test_a_connection_that_is_refused(protocol: str) -> None:
    """Nobody listens: known at once, and to be retried."""
    with exporting(free_port(), protocol) as exporter:
        attempt = one_attempt(exporter)
        assert_may_be_retried(attempt)
        assert "refused" in attempt.message.lower()


def _reset_before_answer(connection: Connection) -> None:
    connection.request()
    connection.reset()


def _reset_in_head(connection: Connection) -> None:
    connection.request()
    connection.send(OK[:30])
    time.sleep(0.05)
    connection.reset()


def _half_close(connection: Connection) -> None:
    connection.request()
    connection.half_close()
    connection.receive_all()


def _garbage(connection: Connection) -> None:
    connection.request()
    connection.send(b"\x00\xff garbage\r\n" * 100)


def _garbage_at_once(connection: Connection) -> None:
    connection.send(b"\x00\xff garbage\r\n" * 100)
    connection.receive_all()


def _endless_head(connection: Connection) -> None:
    connection.request()
    while True:
        connection.send(b"a" * 65536)


def _reset_after_settings(connection: Connection) -> None:
    connection.send(SETTINGS)
    time.sleep(0.05)
    connection.reset()


def _half_close_at_once(connection: Connection) -> None:
    connection.half_close()
    connection.receive_all()


def _http_1(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("protocol", "script"),
    [
        (HTTP, Connection.close),
        (HTTP, _reset_before_answer),
        (HTTP, _reset_in_head),
        (HTTP, _half_close),
        (HTTP, _garbage),
        (HTTP, _endless_head),
        (GRPC, Connection.close),
        (GRPC, Connection.reset),
        (GRPC, _reset_after_settings),
        (GRPC, _half_close_at_once),
        (GRPC, _garbage_at_once),
        (GRPC, _http_1),
    ],
)
def test_a_connection_that_ends_without_an_answer(protocol: str, script: Script) -> None:
    """Closed, reset in the middle, half-closed or answered with garbage: known at once, and to be retried."""
    with RawServer(script) as server, exporting(server.port, protocol) as exporter:
        assert_may_be_retried(one_attempt(exporter))


@pytest.mark.parametrize(
    "script",
    [
        _reset_before_answer,
        _half_close,
        _reset_in_head,
        _garbage,
    ],
)
def test_the_attempt_after_it_succeeds(script: Script) -> None:
    """Given time the same spans are sent again, on a new connection and after the back-off."""

    def first_time(connection: Connection) -> None:
        if connection.number == 0:
            script(connection)
        else:
            connection.request()
            connection.send(OK)

    with RawServer(first_time) as server, exporting(server.port, HTTP) as exporter:
        outcome, took = sent(exporter)
        assert (outcome.accepted, outcome.reason, outcome.attempts) == (5, None, 2)
        assert took > 0.7
        assert len(server.requests) == 2


def test_a_reset_in_the_body_of_an_answer() -> None:
    """The status line has come and it decides: the spans are taken, and not sent twice."""

    def reset_in_body(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        time.sleep(0.05)
        connection.reset()

    with RawServer(reset_in_body) as server, exporting(server.port, HTTP) as exporter:
        outcome, _ = sent(exporter)
        assert (outcome.accepted, len(server.requests)) == (5, 1)


# -- answers that are too large --------------------------------------------------------------------------------------


@PROTOCOLS
def test_an_answer_larger_than_four_mebibytes(protocol: str) -> None:
    """The specification: not read to its end, and not to be retried."""
    with Receiver(answer=lambda _: Answer(body=bytes((4 << 20) + 1))) as receiver:
        port = receiver.grpc_port if protocol == GRPC else receiver.http_port
        with exporting(port, protocol) as exporter:
            outcome, _ = sent(exporter)
            assert (outcome.accepted, outcome.reason, outcome.attempts) == (0, DropReason.NOT_RETRYABLE, 1)
            assert "larger than" in outcome.message


def test_an_answer_without_an_end() -> None:
    """Chunks for ever: over at four mebibytes, and the connection is not used again."""

    def serve(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    with RawServer(serve) as server, exporting(server.port, HTTP) as exporter:
        for _ in range(2):
            assert sent(exporter)[0].reason is DropReason.NOT_RETRYABLE
        assert server.connections == 2
