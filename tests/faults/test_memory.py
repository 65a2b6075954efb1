"""The bound on memory, measured from outside: what the process has resident, not what we count."""

from __future__ import annotations

import socket

import pytest

from otel_shed import ShedConfig
from tests.faults.delivered import run, value_of

_MEBIBYTE = 2**20


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_resident_memory_with_a_stalled_collector(protocol: str) -> None:
    """400 MB of spans at up to 10,000 a second to nobody: the process grows by max_held_bytes and 64 MiB at most."""
    limit = ShedConfig().max_held_bytes
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        endpoint = f"http://127.0.0.1:{stalled.getsockname()[1]}"
        code, output = run("memory.py", protocol, endpoint)
    assert code == 0, output
    print(f"\n{protocol}: {output.replace(chr(10), ', ')}")
    assert int(value_of(output, "growth")) < limit + 64 * _MEBIBYTE
    assert limit // 2 < int(value_of(output, "most held")) <= limit
    assert int(value_of(output, "dropped")) > 0
    assert int(value_of(output, "unaccounted")) == 0
