"""``otel-shed bench``: runs the benchmarks one after the other, and writes what they found as a table and a plot.

Called by the command on its main thread. The benchmarks are not in the package but beside it, in the source tree:
nobody needs them in production. The rules: each is a process of its own, so that none is measured in what another has
left behind; one that fails is told and passed over; however the command ends, what was measured until then is written,
and no process is left.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal, TextIO

import otel_shed
from otel_shed.command.companion import Companion
from otel_shed.command.comparison import Figure, from_json, markdown
from otel_shed.command.output import check_writable
from otel_shed.command.ratios_plot import ratios_plot
from otel_shed.command.surroundings import interrupted_by_sigterm
from otel_shed.compiled import extension

BENCHMARKS = ("encode", "place", "on_end", "pipeline", "observer", "memory", "scale", "sampler", "producer")
TABLE, PLOT = "benchmarks.md", "benchmarks.svg"
INTERRUPTED = 130  # the exit status: 128 + SIGINT, as shells have it
# A quick run is over after four minutes, whatever the machine; a benchmark that is to end has this long for it.
QUICK_SECONDS = 230.0
_ENDING_SECONDS = 8.0
_LOOK_SECONDS = 0.2
_SOURCE_TREE = Path(otel_shed.__file__).resolve().parent.parent

CameTo = Literal["its end", "a failure", "an interruption", "the end of its time"]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """names: which, in this order; all if empty. quick: short and rough. out: the folder for the table and the plot."""

    names: Sequence[str] = ()
    quick: bool = False
    out: Path = Path("otel-shed-bench")


@dataclass(frozen=True)
class _Ran:
    """What became of a benchmark, and what it had found until then."""

    came_to: CameTo
    figures: Sequence[Figure] = field(default_factory=list)


def run_bench(
    options: BenchOptions, out: TextIO, source_tree: Path = _SOURCE_TREE, *, quick_seconds: float = QUICK_SECONDS
) -> int:
    """Run them; 0 if all went through, whether goals are met or not, 130 if interrupted, else 1.

    Raises OutputError, before it begins, if the table and the plot cannot be written.
    """
    folder = source_tree / "benchmarks"
    if not (folder / "side_by_side.py").is_file():
        out.write(
            "otel-shed bench: the benchmarks are part of the source tree, not of the installed package.\n"
            f"There are none beside {source_tree / 'otel_shed'}. In a checkout: pip install --editable . --group test\n"
        )
        return 1
    check_writable([options.out / TABLE, options.out / PLOT], folder=options.out)
    with interrupted_by_sigterm():
        return _Bench(options, out, source_tree, quick_seconds if options.quick else None).run()


class _Bench:
    """One run of the command. seconds: after which it is over; None for no limit."""

    def __init__(self, options: BenchOptions, out: TextIO, source_tree: Path, seconds: float | None) -> None:
        self._options = options
        self._out = out
        self._source_tree = source_tree
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._figures: list[Figure] = []
        self._notes: list[str] = []

    def run(self) -> int:
        """Measure, and write; the exit status."""
        self._out.write("".join(f"{line}\n" for line in surroundings()))
        status, names = 0, list(self._options.names or BENCHMARKS)
        while names:
            name = names.pop(0)
            try:
                ran = self._benchmark(name, left=len(names) + 1)
            except KeyboardInterrupt:
                ran = _Ran("an interruption")
            self._figures += ran.figures
            match ran.came_to:
                case "a failure":
                    status = 1
                    self._notes.append(f"{name} failed; {_missing(ran)}.")
                case "the end of its time":
                    status = 1
                    self._notes.append(f"{name} was ended, the time was over; {_missing(ran)}.")
                case "an interruption":
                    status = INTERRUPTED
                    self._notes.append(f"Interrupted in {name}; {_missing(ran)}.")
                    if names:
                        self._notes.append(f"Not run: {', '.join(names)}.")
                    break
        self._conclude()
        return status

    def _benchmark(self, name: str, left: int) -> _Ran:
        """Run one; what it prints is shown as it comes. left: how many share the time that is left, with this one."""
        self._out.write(f"\n{name}\n")
        self._out.flush()
        seconds = None if self._deadline is None else self._deadline - time.monotonic()
        if seconds is not None and seconds <= 0:
            return _Ran("the end of its time")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "figures.json"
            arguments = ["--json", str(file), "--ends-with-input", *(["--quick"] if self._options.quick else [])]
            if seconds is not None:
                arguments += ["--at-most", f"{seconds / left:.1f}"]
            came_to: CameTo = "an interruption"  # unless it comes to something else
            try:
                with _Benchmark([sys.executable, "-m", f"benchmarks.{name}", *arguments], self._source_tree) as process:
                    try:
                        for line in process.lines(self._deadline):
                            self._out.write(line + "\n")
                            self._out.flush()
                        if process.status is None:
                            came_to = "the end of its time"
                        else:
                            came_to = "its end" if process.status == 0 and file.is_file() else "a failure"
                    finally:
                        process.let_go()
                        process.wait(_ENDING_SECONDS)
                        self._out.writelines(f"{line}\n" for line in process.lines(time.monotonic() + _LOOK_SECONDS))
            except KeyboardInterrupt:  # perhaps a second one: then it is not waited for
                came_to = "an interruption"
            found = json.loads(file.read_text()) if file.is_file() else []
        return _Ran(came_to, [from_json(told) for told in found])

    def _conclude(self) -> None:
        write_report(self._figures, self._notes, self._options)
        missed = [figure for figure in self._figures if figure.met is False]
        judged = sum(figure.met is not None for figure in self._figures)
        self._out.write(f"\n{judged - len(missed)} of {judged} goals met. Table and plot are in {self._options.out}.\n")
        for note in (*_about_missed(missed), *self._notes):
            self._out.write(f"{note}\n")


class _Benchmark(Companion):
    """A benchmark's process; it ends with its standard input, and then its own end too."""

    def __init__(self, command: Sequence[str], source_tree: Path) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        super().__init__(command, ends_with_pipe=True, cwd=source_tree)

    def _take(self, line: str) -> None:
        self._lines.put(line)

    def lines(self, deadline: float | None) -> Iterator[str]:
        """What it prints, until it has ended, or until ``deadline``."""
        while deadline is None or time.monotonic() < deadline:
            has_ended = not self.running
            if has_ended:
                self.wait(0)  # and what it said last
            try:
                yield self._lines.get(timeout=0 if has_ended else _LOOK_SECONDS)
            except Empty:
                if has_ended:
                    return


def _missing(ran: _Ran) -> str:
    return "its other figures are missing" if ran.figures else "its figures are missing"


def _about_missed(missed: Sequence[Figure]) -> Iterator[str]:
    """Which goals were missed where it may not be ours."""
    busy = [figure.others for figure in missed if figure.missed_when_busy and figure.others is not None]
    if busy:
        yield (
            f"{len(busy)} of the {len(missed)} missed goals were missed on a busy machine: other programs took up to "
            f"{max(busy):.0%} of it meanwhile. Run it again when it is idle."
        )


def write_report(figures: Sequence[Figure], notes: Sequence[str], options: BenchOptions) -> None:
    """The table and, where something is compared with stock, the plot. notes: about what is missing."""
    plot = ratios_plot(figures)
    lines = ["# Benchmarks", "", *(f"- {line}" for line in surroundings())]
    if options.quick:
        lines.append("- a quick run: the figures are rough")
    lines += [f"- {note}" for note in (*_about_missed([each for each in figures if each.met is False]), *notes)]
    lines += ["", "Medians of rounds in which the candidates took turns, with the least and the most of them.", ""]
    if plot is not None:
        (options.out / PLOT).write_text(plot)
        lines += [f"![How many times better than stock]({PLOT})", ""]
    (options.out / TABLE).write_text("\n".join(lines) + "\n" + markdown(figures))


def surroundings() -> list[str]:
    """What the figures depend on."""
    return [
        f"otel-shed {_version('otel-shed')}, compiled parts {'not in use' if extension is None else 'in use'}",
        f"opentelemetry-sdk {_version('opentelemetry-sdk')}, grpcio {_version('grpcio')}, "
        f"protobuf {_version('protobuf')}",
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs",
    ]


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
