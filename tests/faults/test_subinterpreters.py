"""Sub-interpreters, as mod_wsgi has them: one that ends must not find a thread of ours, or the process aborts."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from otel_shed.testing.receiver import Receiver

TIMES = 5


@pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="nothing to make sub-interpreters with")
@pytest.mark.parametrize("how", ["shutdown", "exit", "nothing", "forgotten"])
def test_an_interpreter_can_end(how: str) -> None:
    """Whoever shuts the processor down, or nobody does: its spans arrive, and the process goes on."""
    with Receiver(grpc_port=None) as receiver:
        endpoint = f"{receiver.http_endpoint}/v1/traces"
        command = [sys.executable, "-m", "tests.faults.programs.subinterpreter", endpoint, how, str(TIMES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        left = ["['MainThread']"] if how == "shutdown" else []
        assert done.stdout.split("\n") == [*[*left, "ended"] * TIMES, ""]
        assert receiver.counts.spans >= 1200 * TIMES
