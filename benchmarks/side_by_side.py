"""What the benchmarks have in common: their options, taking turns, and how figures are told.

Each yields figures (otel_shed/command/comparison.py), which are printed as they come. Candidates take turns within a
round, so that what slows the machine down slows them all, and ratios are of rounds. Where the figures are to be had in
plain Python too, the benchmark runs itself once more with OTEL_SHED_PURE_PYTHON=true. What was found is in the file of
``--json`` after each figure, and a benchmark that is ended, by Ctrl-C, by SIGTERM, or because whoever asked for it with
``--ends-with-input`` is gone, completes the round that it is in, tells what the rounds came to, and ends what it has
started; asked a second time, it ends at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.neighbours import Neighbours
from otel_shed.command.comparison import HEADING, NONE, STOCK, Figure, as_json, from_json
from otel_shed.command.output import check_writable
from otel_shed.compiled import extension

ROOT = Path(__file__).resolve().parent.parent
COMPILED, PLAIN = "otel-shed", "plain Python"
OURS = PLAIN if extension is None else COMPILED
# What of this process is ours, and where the compiled parts are missing, is plain Python.
__all__ = ["COMPILED", "NONE", "OURS", "PLAIN", "STOCK", "options", "plain_too", "present", "take_turns"]
_ENDING_SECONDS = 6.0


def options(doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often candidates take turns ({rounds})")
    parser.add_argument("--quick", action="store_true", help="a short run: what is printed is rough")
    parser.add_argument("--no-plain", action="store_true", help="not once more in plain Python")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--at-most", type=float, metavar="SECONDS", help="after so many there is one round of everything that is left"
    )
    parser.add_argument("--ends-with-input", action="store_true", help=argparse.SUPPRESS)
    return parser


class _Time:
    """What there is left of it; for the benchmark's main thread.

    ends: when only one round is left of everything. is_turning: whether a round is being made. is_interrupted: whether
    none is to be made any more.
    """

    ends: float | None = None
    is_turning = False
    is_interrupted = False

    @classmethod
    def is_over(cls) -> bool:
        return cls.is_interrupted or (cls.ends is not None and time.monotonic() > cls.ends)

    @classmethod
    def interrupt(cls, *_: object) -> None:
        """A signal handler: of rounds that have begun one more is completed, everything else ends at once."""
        at_once = cls.is_interrupted or not cls.is_turning
        cls.is_interrupted = True
        if at_once:
            raise KeyboardInterrupt


def take_turns(
    works: Mapping[str, Callable[[], float]], rounds: int, *, collect: bool = True
) -> dict[str, list[float]]:
    """What each returns in each round; who begins changes from round to round.

    ``collect``: garbage is collected before each turn, so that nobody pays for another's. It ends after a round if the
    benchmark's time (``--at-most``) is over, or it is to end early: the rounds up to then are whole. KeyboardInterrupt
    where it was to end before the first.
    """
    if _Time.is_interrupted:
        raise KeyboardInterrupt
    told: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    _Time.is_turning = True
    try:
        for number in range(rounds):
            if number and _Time.is_over():
                break
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                if collect:
                    gc.collect()
                told[name].append(works[name]())
    finally:
        _Time.is_turning = False
    return told


def plain_too(benchmark: str, arguments: argparse.Namespace) -> Iterator[Figure]:
    """The figures of plain Python, from a process of its own; none where this one is it, or where it is not wanted.

    A quick run does without.
    """
    if OURS == PLAIN or arguments.no_plain or arguments.quick:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        given = [word for word in sys.argv[1:] if not word.startswith("--json")]
        if arguments.json is not None and str(arguments.json) in given:
            given.remove(str(arguments.json))
        command = [sys.executable, "-m", f"benchmarks.{benchmark}", *given, "--json", str(file), "--ends-with-input"]
        environ = {**os.environ, "OTEL_SHED_PURE_PYTHON": "true"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        ) as process:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                _end(process)
                yield from _of_ours(file)
                raise
        if status:
            raise subprocess.CalledProcessError(status, command)
        yield from _of_ours(file)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End its input, on which it completes its round and ends; and if it does not, end it."""
    try:
        process.communicate(timeout=_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _of_ours(file: Path) -> Iterator[Figure]:
    found = read(file) if file.is_file() else []
    yield from (figure for figure in found if figure.who not in (STOCK, NONE))


def present(arguments: argparse.Namespace, figures: Iterable[Figure]) -> int:
    """Print them as they come, and write them where they are wanted; the exit status."""
    # Lines about what is lost are made, as in a program, and not written.
    logging.getLogger().addHandler(logging.NullHandler())
    if arguments.at_most is not None:
        _Time.ends = time.monotonic() + arguments.at_most
    if arguments.json is not None:
        check_writable([arguments.json])
    with _interruptions():
        try:
            if arguments.ends_with_input:
                threading.Thread(target=_end_with_input, daemon=True).start()
            _present(arguments.json, figures)
        except (KeyboardInterrupt, subprocess.CalledProcessError) as error:
            if isinstance(error, subprocess.CalledProcessError) and not _Time.is_interrupted:
                raise  # it failed; interrupted, a terminal has ended it together with this process
            _Time.is_interrupted = True
    if _Time.is_interrupted:
        print("Interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


@contextmanager
def _interruptions() -> Iterator[None]:
    """Signals that end the benchmark let the round that it is in come to its end first."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {each: signal.getsignal(each) for each in (getattr(signal, name) for name in names)}
    if threading.current_thread() is threading.main_thread():
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(each, _Time.interrupt)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for each, handler in before.items():
                signal.signal(each, handler)


def _present(file: Path | None, figures: Iterable[Figure]) -> None:
    print(HEADING, flush=True)
    told: list[Figure] = []
    neighbours = Neighbours()
    for figure in figures:
        # What has it already was measured in another process.
        others = neighbours.share() if figure.others is None else figure.others
        found = dataclasses.replace(figure, others=others)
        print(found.line(), flush=True)
        told.append(found)
        if file is not None:
            # In one piece: whoever reads it when this process is gone finds all figures until then.
            new = file.with_name(f"{file.name}.new")
            new.write_text(json.dumps([as_json(figure) for figure in told], indent=1))
            new.replace(file)
    if file is not None and not told:
        file.write_text("[]")
    judged = [found for found in told if found.met is not None]
    if judged:
        print(f"{sum(found.met is True for found in judged)} of {len(judged)} goals met.", flush=True)


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored by what a shell has started in the background
    threading.Event().wait(_ENDING_SECONDS)
    os._exit(1)  # whatever holds it up


def read(file: Path) -> list[Figure]:
    """What ``present`` has written."""
    return [from_json(told) for told in json.loads(file.read_text())]
