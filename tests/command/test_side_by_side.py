"""The benchmarks as processes: what they write as they go, how they end, and what others took meanwhile."""

from __future__ import annotations

import argparse
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import neighbours, side_by_side
from benchmarks.neighbours import Neighbours
from otel_shed.command.comparison import Figure, Spread
from otel_shed.command.output import OutputError
from otel_shed.testing.clock import FakeClock
from tests.launched import Launched, is_alive, until


def figure(what: str, others: float | None = None) -> Figure:
    return Figure(benchmark="b", what=what, who="otel-shed", unit="us", value=Spread(1.0, 1.0, 1.0), others=others)


def arguments(file: Path | None, **more: float) -> argparse.Namespace:
    return argparse.Namespace(json=file, at_most=more.get("at_most"), ends_with_input=False)


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side._Time, "ends", None)
    monkeypatch.setattr(side_by_side._Time, "is_interrupted", False)


def test_each_figure_is_written_as_it_comes(tmp_path: Path) -> None:
    """Whoever ends a benchmark finds all that it had told until then."""
    file = tmp_path / "figures.json"
    seen: list[list[str]] = []

    def figures() -> Iterator[Figure]:
        for what in "abc":
            yield figure(what)
            seen.append([told["what"] for told in json.loads(file.read_text())])

    assert side_by_side.present(arguments(file), figures()) == 0
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_an_interrupted_one(tmp_path: Path) -> None:
    """Its status is that of an interruption, and what it had found is there."""

    def figures() -> Iterator[Figure]:
        yield figure("a")
        raise KeyboardInterrupt

    assert side_by_side.present(arguments(tmp_path / "f"), figures()) == 130
    assert [told.what for told in side_by_side.read(tmp_path / "f")] == ["a"]


def test_the_rounds_until_then_count(tmp_path: Path) -> None:
    """Interrupted within a round, it completes that, tells what the rounds came to, and makes no more."""
    turns: list[str] = []

    def work(name: str) -> float:
        turns.append(name)
        if len(turns) == 3:
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    def figures() -> Iterator[Figure]:
        for what in "ab":
            told = side_by_side.take_turns({name: functools.partial(work, name) for name in ("x", "y")}, 9)
            yield figure(f"{what}: {[len(rounds) for rounds in told.values()]}")

    assert side_by_side.present(arguments(tmp_path / "f"), figures()) == 130
    assert [told.what for told in side_by_side.read(tmp_path / "f")] == ["a: [2, 2]"]
    assert turns == ["x", "y", "y", "x"]


def test_interrupted_twice() -> None:
    """It does not complete the round."""
    turns: list[int] = []

    def work() -> float:
        turns.append(1)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return 1.0

    def figures() -> Iterator[Figure]:
        side_by_side.take_turns({"x": work, "y": work}, 9)
        yield figure("a")

    assert side_by_side.present(arguments(None), figures()) == 130
    assert turns == [1]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is found out before anything is measured."""
    with pytest.raises(OutputError):
        side_by_side.present(arguments(tmp_path), iter([figure("a")]))


def test_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round more of everything, so that there is a figure."""
    clock = FakeClock()
    monkeypatch.setattr(side_by_side.time, "monotonic", clock)

    def work() -> float:
        clock.advance(1.0)
        return 1.0

    def figures() -> Iterator[Figure]:
        for what in ("in time", "too late"):
            yield figure(f"{what}: {len(side_by_side.take_turns({'x': work}, 5)['x'])}")

    told: list[str] = []
    monkeypatch.setattr(side_by_side, "_present", lambda _, figures: told.extend(each.what for each in figures))
    side_by_side.present(arguments(None, at_most=2.5), figures())
    assert told == ["in time: 3", "too late: 1"]


def test_what_others_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all processors, without what this program took, since the last figure; what was told elsewhere stays."""
    clock = FakeClock()
    monkeypatch.setattr(neighbours.time, "monotonic", clock)
    monkeypatch.setattr(neighbours.psutil, "cpu_count", lambda: 2)
    everybody, own = iter([100.0, 109.0, 111.0]), iter([10.0, 15.0, 17.5])
    monkeypatch.setattr(neighbours, "_taken", lambda: next(everybody))
    monkeypatch.setattr(neighbours, "_own", lambda: next(own))
    asked = Neighbours()
    assert asked.share() is None
    clock.advance(10.0)
    assert asked.share() == pytest.approx(4 / 20)
    assert asked.share() == pytest.approx(4 / 20)  # at once: nothing new can be said
    clock.advance(1.0)
    assert asked.share() == 0.0  # clocks that do not tick together


def test_what_this_process_takes_is_not_others() -> None:
    """Its own time, and that of what it has started, running and ended, is counted once each."""
    before = neighbours._own()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    spent = neighbours._own() - before
    assert 0.05 < spent < 60


BENCHMARK = [sys.executable, "-m", "benchmarks.pipeline", "--rounds", "200", "--no-plain"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_ended(signum: signal.Signals) -> None:
    """By a signal, alone: its receiver does not outlive it."""
    with Launched(BENCHMARK, cwd=side_by_side.ROOT) as process:
        process.wait_for_line("median")
        until(lambda: psutil.Process(process.pid).children(), what="its receiver")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send(signum)
        assert process.wait(20) == 130, process.output
        assert "Interrupted." in process.output
    until(lambda: not any(is_alive(child) for child in children), timeout=10)


def test_a_benchmark_whose_input_ends() -> None:
    """It ends as if it had been interrupted."""
    command = [*BENCHMARK, "--ends-with-input"]
    with Launched(command, cwd=side_by_side.ROOT) as process:  # whose input is empty
        assert process.wait(30) == 130, process.output
