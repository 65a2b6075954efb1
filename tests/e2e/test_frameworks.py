"""Web programs under the launcher, set up by environment variables alone: what they deliver and how they end."""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.collectors import Rotel
from tests.launched import Launched, free_port, until

_PROGRAMS = Path(__file__).parent / "programs"
_LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"
# Each is answered with a span of the framework's and one of the program's: no whole number of batches of 512.
_REQUESTS = 150


@contextmanager
def _serving(*command: str, endpoint: str, protocol: str = "grpc", **variables: str) -> Iterator[tuple[Launched, int]]:
    """The program under the launcher, ready for requests, and its port."""
    port = free_port()
    program = Launched(
        [_LAUNCHER, *(part.format(port=port) for part in command)],
        {
            "OTEL_PYTHON_DISTRO": "shed",
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            # No batch is due before the end but for a full one.
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
            **variables,
        },
        cwd=_PROGRAMS,
    )
    with program:
        program.wait_until_listening(port)
        yield program, port


_UVICORN = ("uvicorn", "fastapi_app:app", "--port", "{port}", "--log-level", "warning")
_GUNICORN = ("gunicorn", "flask_app:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning", "--workers", "2")


def _order(port: int, *numbers: int) -> list[dict[str, int]]:
    """The answers to so many requests, each over a connection of its own."""
    answers = []
    for number in numbers:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", f"/orders/{number}")
            response = connection.getresponse()
            assert response.status == 200
            answers.append(json.loads(response.read()))
        finally:
            connection.close()
    return answers


def _end(program: Launched, signum: signal.Signals, *, within: float) -> float:
    """Seconds that the program takes to end after the signal."""
    began = time.monotonic()
    program.send(signum)
    program.wait(within)
    return time.monotonic() - began


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_delivers_every_answered_request(
    naming_collector: Rotel, protocol: str, signum: signal.Signals
) -> None:
    """Whichever signal ends uvicorn, both spans of every request that it answered reach the collector."""
    endpoint = naming_collector.grpc if protocol == "grpc" else naming_collector.http
    with _serving(*_UVICORN, endpoint=endpoint, protocol=protocol) as (program, port):
        _order(port, *range(_REQUESTS))
        took = _end(program, signum, within=30)
    print(f"{protocol} {signum.name}: ended in {took:.2f} s")
    naming_collector.wait_for_spans(4 * _REQUESTS)  # two more for the head and the body of each answer
    assert [naming_collector.names[f"order-{number}"] for number in range(_REQUESTS)] == [1] * _REQUESTS
    assert naming_collector.names["GET /orders/{number}"] == _REQUESTS


def test_the_configurator_alone_delivers_them_too(naming_collector: Rotel) -> None:
    """Beside the stock distro, OTEL_PYTHON_CONFIGURATOR=shed is enough for SIGTERM to flush what uvicorn answered."""
    named = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "shed"}
    with _serving(*_UVICORN, endpoint=naming_collector.grpc, **named) as (program, port):
        _order(port, *range(30))
        _end(program, signal.SIGTERM, within=30)
    naming_collector.wait_for_spans(4 * 30)
    assert [naming_collector.names[f"order-{number}"] for number in range(30)] == [1] * 30


@pytest.mark.parametrize(
    ("protocol", "trouble", "signum"),
    [
        ("grpc", "refused", signal.SIGINT),
        ("http/protobuf", "refused", signal.SIGINT),
        ("grpc", "stopped", signal.SIGINT),
        ("http/protobuf", "stopped", signal.SIGINT),
        ("grpc", "stopped", signal.SIGTERM),
    ],
)
def test_uvicorn_ends_soon_without_a_collector(
    collector: Rotel, protocol: str, trouble: str, signum: signal.Signals
) -> None:
    """Whether the collector refuses connections or has stopped to answer, the program ends within 4 s of a signal."""
    took = _time_to_end(collector, protocol, trouble, signum)
    if took >= 4.0:  # most of it is our grace of 3 s, the rest the interpreter's end on a machine that may be busy
        collector.kill()
        collector.start()
        took = _time_to_end(collector, protocol, trouble, signum)
    print(f"{protocol} {trouble} {signum.name}: ended in {took:.2f} s")
    assert took < 4.0


def _time_to_end(collector: Rotel, protocol: str, trouble: str, signum: signal.Signals) -> float:
    endpoint = collector.grpc if protocol == "grpc" else collector.http
    variables = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"}
    with _serving(*_UVICORN, endpoint=endpoint, protocol=protocol, **variables) as (program, port):
        taken = collector.spans
        _order(port, *range(30))
        collector.wait_for_spans(taken + 100)  # a connection is there
        if trouble == "refused":
            collector.kill()
        else:
            collector.stall()
        _order(port, *range(_REQUESTS))
        return _end(program, signum, within=60)


@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_gunicorn_workers_deliver_their_spans(naming_collector: Rotel, worker: str) -> None:
    """Workers that were forked after the SDK was set up deliver every span once when SIGTERM ends the server."""
    answers: list[dict[str, int]] = []

    def both_have_answered() -> bool:
        answers.extend(_order(port, len(answers)))
        return len({answer["pid"] for answer in answers}) == 2

    with _serving(*_GUNICORN, "--preload", "--worker-class", worker, endpoint=naming_collector.grpc) as (program, port):
        # A new worker has the server's SIGTERM handler until gunicorn sets its own. A SIGTERM before is lost, whatever
        # the program, and the server then waits for the worker for 30 s, as long as we wait for the server.
        until(both_have_answered, what=lambda: f"an answer of each worker:\n{program.output}")
        answers += _order(port, *range(len(answers), _REQUESTS))
        _end(program, signal.SIGTERM, within=30)
    naming_collector.wait_for_spans(2 * len(answers))
    assert [naming_collector.names[f"order-{number}"] for number in range(len(answers))] == [1] * len(answers)
