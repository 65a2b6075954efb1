"""Runs a program of this folder to its end and reads what it delivered."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.launched import Launched

_PROGRAMS = Path(__file__).parent / "programs"


def start(program: str, *arguments: str | Path, **variables: str) -> Launched:
    """Start a program of this folder."""
    return Launched([sys.executable, _PROGRAMS / program, *arguments], variables)


def run(program: str, *arguments: str | Path, timeout: float = 60.0, **variables: str) -> tuple[int, str]:
    """Its exit code and its output."""
    with start(program, *arguments, **variables) as running:
        return running.wait(timeout), running.output


def delivered(path: Path) -> Counter[str]:
    """How often a span of each name was exported."""
    return Counter(line.split()[1] for line in _lines(path))


def processes(path: Path, prefix: str) -> set[str]:
    """The processes that exported spans whose names begin so."""
    return {line.split()[0] for line in _lines(path) if line.split()[1].startswith(prefix)}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def names(prefixes: Iterable[str], count: int) -> Counter[str]:
    """What ``end_spans`` ends, each once."""
    return Counter(f"{prefix}-{number}" for prefix in prefixes for number in range(count))


def value_of(output: str, word: str) -> str:
    """The rest of the line that begins with ``word``."""
    return next(line.removeprefix(word).strip() for line in output.splitlines() if line.startswith(word))
