"""The benchmarks that rows name, each run once and small: that they measure what they say, not how fast it is here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def printed_by(benchmark: str, *arguments: str) -> list[str]:
    """The lines of a run, which must not fail."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{benchmark}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def on_end() -> dict[str, dict[str, float]]:
    """What the benchmark of on_end prints: by situation and processor, the figures by their columns."""
    head, *lines = printed_by("on_end.py", "--calls", "5000", "--rounds", "1")
    columns = head[40:].split()[:5]
    read: dict[str, dict[str, float]] = {}
    for line in lines:
        label, who, figures = line[:28].strip(), line[28:40].strip(), line[40:].split()
        if label and who in ("stock", "otel-shed"):
            read[f"{label}: {who}"] = dict(zip(columns, map(float, figures), strict=True))
    read["cost"] = {
        line.split(":")[0]: float(line.split(" costs ")[1].split()[0]) for line in lines if " costs " in line
    }
    return read


def test_h1(on_end: dict[str, dict[str, float]]) -> None:
    """8 threads end spans through on_end, so many a second, beside the stock processor."""
    for who in ("stock", "otel-shed"):
        assert on_end[f"8 threads, healthy: {who}"]["spans/s"] > 0.0


def test_h2(on_end: dict[str, dict[str, float]]) -> None:
    """Spans a second with 1, 2, 4 and 8 threads, and what a span costs with 8 against what it does with 1."""
    for threads in ("1 thread", "2 threads", "4 threads", "8 threads"):
        assert on_end[f"{threads}, healthy: otel-shed"]["spans/s"] > 0.0
    one, eight = (on_end[f"{threads}, healthy: otel-shed"]["spans/s"] for threads in ("1 thread", "8 threads"))
    assert on_end["cost"]["otel-shed"] == pytest.approx(one / eight, abs=0.01)


def test_h3(on_end: dict[str, dict[str, float]]) -> None:
    """p50, p99 and the worst of on_end: alone, with 8 threads, and with the queue full and the exporter hung."""
    for situation in ("1 thread, healthy", "8 threads, healthy", "1 thread, hung and full", "8 threads, hung and full"):
        for who in ("stock", "otel-shed"):
            figures = on_end[f"{situation}: {who}"]
            assert 0.0 < figures["p50"] <= figures["p99"] <= figures["max"]


def test_r7() -> None:
    """CPU seconds for each span that the receiver counted, of ours and of stock, over both protocols."""
    lines = printed_by("pipeline.py", "--spans", "200", "--rounds", "1")
    rows = [line.split() for line in lines if " stock " in line or " otel-shed " in line]
    assert [row[:2] for row in rows if len(row) == 5] == [
        [protocol, who] for protocol in ("grpc", "http/protobuf") for who in ("stock", "otel-shed")
    ]
    assert {row[3] for row in rows if len(row) == 5} == {"100%"}
