"""Each example runs as its own text says, and does what it says."""

from __future__ import annotations

import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_shed.testing.receiver import Receiver
from tests.launched import Launched, free_port

_ROOT = Path(__file__).parent.parent
_EXAMPLES = _ROOT / "examples"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def _run(example: str, **variables: str) -> str:
    with Launched([sys.executable, _EXAMPLES / example], variables, cwd=_ROOT) as program:
        assert program.wait(30) == 0, program.output
        return program.output


@pytest.mark.parametrize("example", sorted(path.name for path in _EXAMPLES.glob("*.py")))
def test_examples_are_short(example: str) -> None:
    """An example can be read at a glance: fewer than 60 lines."""
    assert len((_EXAMPLES / example).read_text().splitlines()) < 60


def test_with_code(receiver: Receiver) -> None:
    """Three spans for each of a hundred orders arrive, and the example says so."""
    output = _run("with_code.py", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc_endpoint)
    assert output == "everything delivered: True\nended 300, exported 300, dropped {}, unknown 0"
    assert receiver.counts.spans == 300


def test_with_code_without_a_collector() -> None:
    """Without a collector the example ends as well, within seconds, and says what is lost."""
    began = time.monotonic()
    output = _run("with_code.py", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - began < 15
    assert "everything delivered: False" in output
    assert "ended 300, exported 0, dropped {'shutdown': 300}, unknown 0" in output


def test_drop_in() -> None:
    """Two of the six batches fail, which flush and account tell."""
    output = _run("drop_in.py")
    assert "everything delivered: False" in output
    assert "ended 60, exported 40, dropped {'exporter_error': 20}, unknown 0" in output


def test_environment_only(receiver: Receiver) -> None:
    """The command in the example serves requests, and their spans arrive when SIGTERM ends it."""
    port = free_port()
    variables = {
        "OTEL_PYTHON_DISTRO": "shed",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    launcher = Path(sys.executable).parent / "opentelemetry-instrument"
    command = [launcher, "uvicorn", "--app-dir", "examples", "environment_only:app", "--port", str(port)]
    with Launched(command, variables, cwd=_ROOT) as program:
        program.wait_until_listening(port)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for number in range(5):
            with opener.open(f"http://127.0.0.1:{port}/orders/{number}", timeout=10) as response:
                assert response.read() == f'{{"order":{number}}}'.encode()
        program.send(signal.SIGTERM)
        assert program.wait(20) == -signal.SIGTERM
    # Of each request: the framework's span, its two for the answer's head and body, and the program's own.
    assert receiver.counts.spans == 5 * 4
