"""Tracing's share of the CPU, measured from outside of the library: with clocks of its own, in another process.

Over a minute it is measured by benchmarks/storm.py.
"""

from __future__ import annotations

from tests.faults.delivered import run, value_of
from tests.faults.raw_server import RawServer
from tests.faults.storms import take_all


def test_a_third_of_the_cpu_time_becomes_two_per_cent() -> None:
    """cpu_share=0.02, where tracing would take six times as much and more: it takes 0.025 at most, and says why."""
    with RawServer(take_all) as server:
        code, output = run("cpu_share.py", f"http://127.0.0.1:{server.port}", "0.02", "2", "5", "9")
    assert code == 0, output
    print(f"\n{output}")
    limited = output[output.index("\nlimited ") :]
    assert float(value_of(output, "unlimited")) > 0.12
    assert 0.005 < float(value_of(limited, "limited")) <= 0.025
    assert value_of(limited, "phase").split()[1] == "cpu_share"
    assert float(value_of(limited, "probability")) < 0.5
    assert value_of(output, "unaccounted") == value_of(limited, "unaccounted") == "0"
