"""The benchmarks that rows name, each run once and small: that they measure what they say, not how fast it is here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from otel_shed.command.comparison import Figure, from_json

ROOT = Path(__file__).parent.parent.parent
WHO = ("stock", "otel-shed")


def found_by(benchmark: str, folder: Path, *arguments: str) -> dict[tuple[str, str], Figure]:
    """The figures of a run, which must not fail, by what they are of and whose they are."""
    file = folder / f"{benchmark}.json"
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", "--no-plain", "--json", str(file), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = [from_json(told) for told in json.loads(file.read_text())]
    return {(figure.what, figure.who.replace("plain Python", "otel-shed")): figure for figure in figures}


@pytest.fixture(scope="module")
def on_end(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Figure]:
    """What the benchmark of on_end finds."""
    return found_by("on_end", tmp_path_factory.mktemp("on_end"), "--calls", "2000", "--rounds", "1")


def test_h1(on_end: dict[tuple[str, str], Figure]) -> None:
    """8 threads end spans through on_end, so many a second, beside the stock processor."""
    for who in WHO:
        assert on_end["8 threads, healthy: all threads", who].value.median > 0.0


def test_h2(on_end: dict[tuple[str, str], Figure]) -> None:
    """Spans a second with 1, 2, 4 and 8 threads, and what a span costs with 8 against what it does with 1."""
    rates = {
        threads: on_end[f"{threads}, healthy: all threads", "otel-shed"].value.median
        for threads in ("1 thread", "2 threads", "4 threads", "8 threads")
    }
    assert min(rates.values()) > 0.0
    times = on_end["by the clock, 8 threads to 1", "otel-shed"].value.median
    assert times == pytest.approx(rates["1 thread"] / rates["8 threads"])


def test_h3(on_end: dict[tuple[str, str], Figure]) -> None:
    """p50, p99 and the worst of on_end: alone, with 8 threads, and with the queue full and the exporter hung."""
    for situation in ("1 thread, healthy", "8 threads, healthy", "1 thread, hung and full", "8 threads, hung and full"):
        for who in WHO:
            p50, p99, most = (on_end[f"{situation}: {name}", who].value.median for name in ("p50", "p99", "most"))
            assert 0.0 < p50 <= p99 <= most


def test_r7(tmp_path: Path) -> None:
    """CPU seconds for each span that the receiver counted, of ours and of stock, over both protocols."""
    figures = found_by("pipeline", tmp_path, "--spans", "200", "--burst", "500", "--rounds", "1")
    for protocol in ("grpc", "http/protobuf"):
        for who in WHO:
            assert figures[f"{protocol}, none: delivered", who].value.median == 1.0
            assert (f"{protocol}, none: extra CPU, delivered", who) in figures
