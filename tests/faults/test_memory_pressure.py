"""A process that is near its memory limit, by what the operating system says of it."""

from __future__ import annotations

from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import run, value_of


def test_memory_that_runs_out_and_is_freed() -> None:
    """Near OTEL_SHED_MEMORY_LIMIT it is DEGRADE for `memory`, and NORMAL again when the memory is freed."""
    with Receiver(grpc_port=None) as receiver:
        code, output = run("memory_pressure.py", receiver.http_endpoint, OTEL_SHED_CALM="500")
    assert code == 0, output
    assert value_of(output, "pressed") == "degrade memory"
    assert value_of(output, "freed") == "normal"
    changes = [line for line in output.splitlines() if "phase " in line]
    assert [line.partition(" -> ")[2].split()[0] for line in changes] == ["degrade", "recovery", "normal"], output
    assert "memory" in changes[0]
    assert value_of(output, "unaccounted") == "0"
