"""Pools of processes under the launcher: however a pool ends one of its own, the spans of that one arrive."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from otel_shed.testing.receiver import Receiver
from tests.faults.sending import PROTOCOLS
from tests.launched import Launched

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
            receiver, protocol, sys.executable, "pools_under_launcher.py", method, OTEL_SHED_SHUTDOWN_GRACE="30000"
        ) as program,
    ):
        began = time.monotonic()
        assert program.wait(60) == 0, program.output
        assert time.monotonic() - began < 30
        assert receiver.counts.spans == 8
