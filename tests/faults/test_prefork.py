"""A server that forks its workers while it sheds: each finds its locks free, and its own way back."""

from __future__ import annotations

from tests.faults.delivered import run, value_of
from tests.faults.sending import PROTOCOLS
from tests.faults.storms import collector

WORKERS = 6


@PROTOCOLS
def test_workers_that_are_forked_in_a_storm(protocol: str) -> None:
    """They begin in the parent's phase, are NORMAL within 10 s, and deliver all of their own; the parent's is told."""
    with collector(protocol, "slow", 2_000) as (_, endpoint):
        code, output = run("prefork.py", protocol, endpoint, str(WORKERS), OTEL_SHED_CALM="500")
    assert code == 0, output
    assert value_of(output, "statuses") == str([0] * WORKERS), output
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("worker ")]
    assert sorted(int(line[5]) for line in lines) == list(range(WORKERS))
    assert {line[6] for line in lines} <= {"degrade", "shed_optional"}
    for _, ended, exported, forked, unaccounted, _, _, seconds, delivered in lines:
        assert (delivered, unaccounted) == ("True", "0")
        assert float(seconds) <= 10.0
        assert int(exported) > 0
        assert int(ended) >= int(exported) + int(forked)
    assert any(int(line[3]) > 0 for line in lines), "the parent held spans as it forked"
    parent = value_of(output, "parent").split()
    assert parent[3:5] == ["0", "0"]
