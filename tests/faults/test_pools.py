"""Pools of processes under the launcher: however a pool ends one of its own, the spans of that one arrive."""

from __future__ import annotations

import importlib.util
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from otel_shed.testing.receiver import Receiver
from tests.faults.sending import PROTOCOLS
from tests.launched import Launched, free_port, until

_PROGRAMS = Path(__file__).parent / "programs"
_LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"


def _launched(receiver: Receiver, protocol: str, *command: str | Path, **variables: str) -> Launched:
    """A command of the environment's, set up by variables alone; no batch is due before the end."""
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    return Launched(
        [_LAUNCHER, *command],
        {
            "OTEL_PYTHON_DISTRO": "shed",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
            **variables,
        },
        cwd=_PROGRAMS,
    )


@PROTOCOLS
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_that_is_ended_by_sigterm(method: str, protocol: str) -> None:
    """SIGTERM comes while a child delivers at its end: that goes on, all arrives, and nobody waits for the grace."""
    with (
        Receiver() as receiver,
        _launched(
            receiver, protocol, sys.executable, "pools_under_launcher.py", method, OTEL_SHED_SHUTDOWN_GRACE="300000"
        ) as program,
    ):
        assert program.wait(100) == 0, program.output
        assert receiver.counts.spans == 8


def _is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None  # not imported, which changes things for good


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("multiprocessing", "fork"),
        ("concurrent.futures", "forkserver"),
        ("billiard", "fork"),
        ("billiard", "spawn"),
        ("billiard.Process", "fork"),
    ],
)
def test_a_pool_that_replaces_its_workers(kind: str, method: str) -> None:
    """A worker that has done its share ends past atexit, and its span arrives."""
    if kind.startswith("billiard") and _is_missing("billiard"):
        pytest.skip("billiard is not installed")
    if kind == "concurrent.futures" and sys.version_info < (3, 11):
        pytest.skip("concurrent.futures replaces no workers here")
    with (
        Receiver() as receiver,
        _launched(receiver, "http/protobuf", sys.executable, "pools_that_replace.py", kind, method) as program,
    ):
        assert program.wait(100) == 0, program.output
        assert receiver.counts.spans == 8


def _answers(url: str) -> bool:
    """Whether a worker has answered; one that is about to be replaced may not."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent", "eventlet"])
def test_gunicorn_replaces_its_workers(worker: str) -> None:
    """Workers that have had as many requests as they may, and those that there are when it is told to end, deliver."""
    if _is_missing("gunicorn") or _is_missing(f"gunicorn.workers.g{worker}" if "event" in worker else "gunicorn"):
        pytest.skip("not installed, or a gunicorn that has no such workers")
    if worker in ("gevent", "eventlet") and _is_missing(worker):
        pytest.skip(f"{worker} is not installed")
    port = free_port()
    command = ("gunicorn", "web_app:app", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--worker-class", worker)
    variables = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "wsgi"}
    with (
        Receiver() as receiver,
        _launched(receiver, "http/protobuf", *command, "--max-requests", "2", **variables) as program,
    ):
        program.wait_until_listening(port, timeout=60)
        for _ in range(8):
            until(lambda: _answers(f"http://127.0.0.1:{port}/"), what=lambda: program.output)
        program.send(signal.SIGTERM)
        assert program.wait(60) == 0, program.output
        # A request whose answer was lost may have been made twice.
        assert receiver.counts.spans >= 8, program.output
        assert "otel-shed:" not in program.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1"),
        ("--pool", "prefork", "--concurrency", "2"),
        ("--pool", "threads"),
        ("--pool", "eventlet"),
        ("--pool", "gevent"),
    ],
    ids=lambda arguments: " ".join(arguments[1:]),
)
def test_celery(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Children that celery replaces, and those that it has when it is told to end, deliver; with each of its pools."""
    needed = {"celery", arguments[1]} & {"celery", "eventlet", "gevent"}
    if any(map(_is_missing, needed)):
        pytest.skip(f"not installed: {needed}")
    variables = {"CELERY_FOLDER": str(tmp_path), "C_FORCE_ROOT": "true"}
    with Launched([sys.executable, _PROGRAMS / "celery_tasks.py"], variables) as sender:
        assert sender.wait(60) == 0, sender.output
    worker = ("celery", "-A", "celery_tasks", "worker", "--loglevel", "error", *arguments)
    with Receiver() as receiver, _launched(receiver, "http/protobuf", *worker, **variables) as program:
        until(
            lambda: program.output.count("done") == 8 or program.returncode is not None,
            timeout=60,
            what=lambda: program.output,
        )
        program.send(signal.SIGTERM)
        assert program.wait(60) == 0, program.output
        assert receiver.counts.spans == 8, program.output
