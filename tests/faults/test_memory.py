"""The bound on memory, measured from outside: what the process has resident, not what we count."""

from __future__ import annotations

import socket

import pytest

from otel_shed import ShedConfig
from otel_shed.compiled import extension
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


compiled_only = pytest.mark.skipif(extension is None, reason="the compiled parts are not built, or not wanted")


@compiled_only
def test_the_compiled_parts_keep_nothing() -> None:
    """Of 300,000 spans, some shed, some too many, not one block of memory each is left in use."""
    code, output = run("compiled_parts.py", "600000", timeout=300.0)
    assert code == 0, output
    # The trace ids that two pipelines remember come and go, within twice 65,536.
    assert int(value_of(output, "kept:")) < 200_000, output


@compiled_only
@pytest.mark.parametrize("overrun", [False, True])
def test_the_compiled_parts_stay_within_what_they_allocate(overrun: bool) -> None:
    """With an allocator that checks what is freed; one byte too many, and it would end the program."""
    more = ["overrun"] if overrun else []
    code, output = run("compiled_parts.py", "20000", *more, timeout=300.0, PYTHONMALLOC="debug")
    assert (code == 0) is not overrun, output
    assert ("done: 1" in output) is not overrun, output
