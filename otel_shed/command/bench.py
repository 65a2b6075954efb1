"""``otel-shed bench``: runs the benchmarks one after the other, and writes what they found as a table and a plot.

Called by the command on its main thread. The benchmarks are not in the package but beside it, in the source tree:
nobody needs them in production. The rule: each is a process of its own, so that none is measured in what another has
left behind, and one that fails is told and passed over.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import otel_shed
from otel_shed.command.comparison import Figure, from_json, markdown
from otel_shed.command.ratios_plot import ratios_plot
from otel_shed.compiled import extension

BENCHMARKS = ("encode", "place", "on_end", "pipeline", "observer", "memory", "scale", "sampler")
TABLE, PLOT = "benchmarks.md", "benchmarks.svg"
_SOURCE_TREE = Path(otel_shed.__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """names: which, in this order; all if empty. quick: short and rough. out: the folder for the table and the plot."""

    names: Sequence[str] = ()
    quick: bool = False
    out: Path = Path("otel-shed-bench")


def run_bench(options: BenchOptions, out: TextIO, source_tree: Path = _SOURCE_TREE) -> int:
    """Run them; 0 if all went through, whether goals are met or not, else 1. OSError if ``out`` cannot be written."""
    folder = source_tree / "benchmarks"
    if not (folder / "side_by_side.py").is_file():
        out.write(
            "otel-shed bench: the benchmarks are part of the source tree, not of the installed package.\n"
            f"There are none beside {source_tree / 'otel_shed'}. In a checkout: pip install --editable . --group test\n"
        )
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    out.write("".join(f"{line}\n" for line in surroundings()))
    figures: list[Figure] = []
    failed: list[str] = []
    for name in options.names or BENCHMARKS:
        out.write(f"\n{name}\n")
        out.flush()
        found = _run(name, options.quick, out, source_tree)
        if found is None:
            failed.append(name)
        else:
            figures += found
    write_report(figures, failed, options)
    missed = sum(figure.met is False for figure in figures)
    judged = sum(figure.met is not None for figure in figures)
    out.write(f"\n{judged - missed} of {judged} goals met. Table and plot are in {options.out}.\n")
    for name in failed:
        out.write(f"{name} failed; its figures are missing.\n")
    return 1 if failed else 0


def _run(name: str, quick: bool, out: TextIO, source_tree: Path) -> list[Figure] | None:
    """What it found, None if it failed; what it prints is shown as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file), *(["--quick"] if quick else [])]
        with subprocess.Popen(command, cwd=source_tree, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                out.write(line)
                out.flush()
        if process.returncode or not file.is_file():
            return None
        return [from_json(told) for told in json.loads(file.read_text())]


def write_report(figures: Sequence[Figure], failed: Sequence[str], options: BenchOptions) -> None:
    """The table and, where something is compared with stock, the plot."""
    plot = ratios_plot(figures)
    lines = ["# Benchmarks", "", *(f"- {line}" for line in surroundings())]
    if options.quick:
        lines.append("- a quick run: the figures are rough")
    lines += [f"- {name} failed: its figures are missing" for name in failed]
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
