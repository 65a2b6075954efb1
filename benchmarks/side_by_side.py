"""What the benchmarks have in common: their options, taking turns, and how figures are told.

Each yields figures (otel_shed/command/comparison.py), which are printed as they come. Candidates take turns within a
round, so that what slows the machine down slows them all, and ratios are of rounds. Where the figures are to be had in
plain Python too, the benchmark runs itself once more with OTEL_SHED_PURE_PYTHON=true.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from otel_shed.command.comparison import HEADING, NONE, STOCK, Figure, as_json, from_json
from otel_shed.compiled import extension

ROOT = Path(__file__).resolve().parent.parent
COMPILED, PLAIN = "otel-shed", "plain Python"
OURS = PLAIN if extension is None else COMPILED
# What of this process is ours, and where the compiled parts are missing, is plain Python.
__all__ = ["COMPILED", "NONE", "OURS", "PLAIN", "STOCK", "options", "plain_too", "present", "take_turns"]


def options(doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often candidates take turns ({rounds})")
    parser.add_argument("--quick", action="store_true", help="a short run: what is printed is rough")
    parser.add_argument("--no-plain", action="store_true", help="not once more in plain Python")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def take_turns(
    works: Mapping[str, Callable[[], float]], rounds: int, *, collect: bool = True
) -> dict[str, list[float]]:
    """What each returns in each round; who begins changes from round to round.

    ``collect``: garbage is collected before each turn, so that nobody pays for another's.
    """
    told: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if collect:
                gc.collect()
            told[name].append(works[name]())
    return told


def plain_too(benchmark: str, arguments: argparse.Namespace) -> Iterator[Figure]:
    """The figures of plain Python, from a process of its own; none where this one is it, or where it is not wanted."""
    if OURS == PLAIN or arguments.no_plain:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        given = [word for word in sys.argv[1:] if not word.startswith("--json")]
        if arguments.json is not None and str(arguments.json) in given:
            given.remove(str(arguments.json))
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{benchmark}", *given, "--json", str(file)],
            cwd=ROOT,
            env={**os.environ, "OTEL_SHED_PURE_PYTHON": "true"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        yield from (figure for figure in read(file) if figure.who not in (STOCK, NONE))


def present(arguments: argparse.Namespace, figures: Iterable[Figure]) -> int:
    """Print them as they come, and write them where they are wanted."""
    # Lines about what is lost are made, as in a program, and not written.
    logging.getLogger().addHandler(logging.NullHandler())
    print(HEADING, flush=True)
    told = []
    for figure in figures:
        print(figure.line(), flush=True)
        told.append(figure)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([as_json(figure) for figure in told], indent=1))
    return 0


def read(file: Path) -> list[Figure]:
    """What ``present`` has written."""
    return [from_json(told) for told in json.loads(file.read_text())]
