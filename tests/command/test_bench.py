"""otel-shed bench: what is run, what is written, and how figures read."""

from __future__ import annotations

import io
import json
import math
import signal
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed import cli
from otel_shed.cli import main
from otel_shed.command.bench import BENCHMARKS, INTERRUPTED, PLOT, TABLE, BenchOptions, run_bench
from otel_shed.command.comparison import (
    HEADING,
    NONE,
    STOCK,
    Figure,
    Goal,
    Spread,
    as_json,
    compared,
    from_json,
    markdown,
)
from otel_shed.command.output import OutputError
from otel_shed.command.ratios_plot import ratios_plot
from tests.launched import Launched, is_alive, until

ROOT = Path(__file__).parent.parent.parent
SVG = "{http://www.w3.org/2000/svg}"


TWO, TWENTY = Spread(2.0, 1.0, 3.0), Spread(20.0, 15.0, 31.0)


def figure(
    *,
    what: str = "a span",
    who: str = "otel-shed",
    value: Spread = TWO,
    ratio: Spread | None = TWENTY,
    goal: Goal | None = None,
    unit: str = "us",
    others: float | None = None,
) -> Figure:
    return Figure(benchmark="encode", what=what, who=who, unit=unit, value=value, ratio=ratio, goal=goal, others=others)


# -- figures -----------------------------------------------------------------------------------------------------


def test_ratios_are_of_rounds() -> None:
    """Stock's cost over ours in the same round, then the median; stock and no processor have none."""
    told = {STOCK: [10.0, 30.0, 12.0], "otel-shed": [1.0, 10.0, 2.0], NONE: [1.0, 1.0, 1.0]}
    stock, ours, none = compared("b", "w", "us", told)
    assert (stock.ratio, none.ratio) == (None, None)
    assert ours.value == Spread(2.0, 1.0, 10.0)
    assert ours.ratio == Spread(6.0, 3.0, 10.0)


def test_where_more_is_better() -> None:
    """The ratio is ours over stock's."""
    _, ours = compared("b", "w", "spans/s", {STOCK: [10.0], "otel-shed": [25.0]}, more_is_better=True)
    assert ours.ratio == Spread(2.5, 2.5, 2.5)


def test_a_cost_below_the_noise() -> None:
    """It is a thousand times cheaper at most, never a negative or an endless ratio; nothing is one time nothing."""
    _, ours = compared("b", "w", "us", {STOCK: [10.0, 10.0, 0.0], "otel-shed": [-1.0, 0.0, 0.0]})
    assert ours.ratio == Spread(1000.0, 1.0, 1000.0)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (None, None),
        (Goal(20.0), True),
        (Goal(20.1), False),
        (Goal(2.0, at_least=False, of_ratio=False), True),
        (Goal(1.9, at_least=False, of_ratio=False), False),
        (Goal(2.0, of_ratio=False), True),
        (Goal(2.1, of_ratio=False), False),
    ],
)
def test_a_goal_is_met_by_the_median(goal: Goal | None, met: bool | None) -> None:
    """At least or at most so much of the ratio, or of the value."""
    assert figure(goal=goal).met is met


def test_the_columns_of_a_line_stand_apart() -> None:
    """Also with the longest of the names, and below the words of the heading."""
    for who in (STOCK, NONE, "otel-shed, another exporter", "plain Python, another exporter"):
        line = figure(who=who, what="x" * 47).line()
        assert line.startswith(f"{'x' * 47} {who} ")
        assert line.index(" us ") == HEADING.index(" unit ")


def test_a_line_and_a_row() -> None:
    """They tell the median, the spread, the ratio and the goal; a share reads in per cent."""
    cost = figure(goal=Goal(35.0))
    assert cost.line().split("  ")[0] == "a span"
    assert cost.line().endswith("20.00x     15.0 .. 31.0   at least 35x: MISSED")
    lost = figure(unit="share", value=Spread(0.04, 0.03, 0.05), ratio=None, goal=Goal(0.05, False, False))
    assert lost.line().endswith("at most 5.0%: met")
    rows = markdown([cost, lost]).splitlines()
    assert rows[0] == "## encode"
    assert rows[-2:] == [
        "| a span | otel-shed | 2.00 us | 1.00 .. 3.00 | 20.00 | 15.0 .. 31.0 | at least 35x | **missed** |",
        "| a span | otel-shed | 4.0% | 3.0% .. 5.0% |  |  | at most 5.0% | met |",
    ]


def test_a_goal_that_is_missed_on_a_busy_machine() -> None:
    """It says so, in the line and in the table; one that is met, or missed on an idle machine, does not."""
    busy, idle = (figure(goal=Goal(35.0), others=others) for others in (0.41, 0.04))
    assert busy.line().endswith("at least 35x: MISSED, busy machine (41% other programs)")
    assert idle.line().endswith("at least 35x: MISSED")
    assert figure(goal=Goal(2.0), others=0.41).line().endswith("at least 2x: met")
    assert markdown([busy]).splitlines()[-1].endswith("| **missed**, busy machine (41% other programs) |")


spreads = st.builds(Spread, *[st.floats(-1e6, 1e6)] * 3)
figures = st.builds(
    Figure,
    benchmark=st.text(),
    what=st.text(),
    who=st.sampled_from([STOCK, "otel-shed", "plain Python", "another", "a fifth"]),
    unit=st.sampled_from(["us", "share"]),
    value=spreads,
    ratio=st.none() | spreads,
    goal=st.none() | st.builds(Goal, st.floats(0, 100), st.booleans(), st.booleans()),
    others=st.none() | st.floats(0, 1),
)


@given(figures)
def test_as_json_and_back(told: Figure) -> None:
    """Nothing is lost on the way from a benchmark to the command."""
    assert from_json(json.loads(json.dumps(as_json(told)))) == told


# -- the plot ----------------------------------------------------------------------------------------------------

printable = st.lists(figures, max_size=5)


@given(printable.filter(lambda some: all(each.isprintable() for one in some for each in (one.what, one.benchmark))))
def test_whatever_is_drawn_is_within_the_frame(some: list[Figure]) -> None:
    """The plot is well-formed, and each dot is in it; without a goal to compare with there is none."""
    plot = ratios_plot(some)
    if plot is None:
        assert not any(one.goal and one.ratio for one in some)
        return
    root = ElementTree.fromstring(plot)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for dot in root.iter(f"{SVG}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height


def test_a_line_for_each_quantity() -> None:
    """The candidates of one quantity share a line; one that no goal is set for is left out."""
    compiled, plain = figure(goal=Goal(35.0)), figure(who="plain Python", ratio=Spread(8.0, 7.0, 9.0))
    plot = ratios_plot([compiled, plain, figure(what="of no interest")])
    assert plot is not None
    root = ElementTree.fromstring(plot)
    dots = [dot for dot in root.iter(f"{SVG}circle") if dot.find(f"{SVG}title") is not None]
    assert [dot.findtext(f"{SVG}title") for dot in dots] == [
        "otel-shed: 20.00x (15.00 .. 31.00)",
        "plain Python: 8.00x (7.00 .. 9.00)",
    ]
    assert len({dot.attrib["cy"] for dot in dots}) == 1
    across = [float(dot.attrib["cx"]) for dot in dots]
    assert across[0] > across[1]
    assert math.isfinite(across[0])
    assert "of no interest" not in plot


# -- the command -------------------------------------------------------------------------------------------------

BENCHMARK = """
import json, sys
print("it runs", *sys.argv[3:])
open(sys.argv[sys.argv.index("--json") + 1], "w").write(json.dumps(json.loads({figures!r})))
"""
# It has found something, has a child that does not end with it, and does not end by itself.
ENDLESS = (
    BENCHMARK
    + """
import subprocess
print("child", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
if {deaf!r}:
    import threading
    threading.Event().wait()
sys.stdin.read()
"""
)


@pytest.fixture
def source_tree(tmp_path: Path) -> Path:
    """One with a benchmark that tells one figure, and one that fails."""
    folder = tmp_path / "tree" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "side_by_side.py").touch()
    told = json.dumps([as_json(figure(goal=Goal(35.0), others=0.5)), as_json(figure(goal=Goal(15.0)))])
    (folder / "encode.py").write_text(BENCHMARK.format(figures=told))
    (folder / "memory.py").write_text(ENDLESS.format(figures=told, deaf=False))
    (folder / "sampler.py").write_text(ENDLESS.format(figures=told, deaf=True))
    (folder / "scale.py").write_text("raise SystemExit(3)")
    return folder.parent


def test_it_runs_them_and_writes(source_tree: Path, tmp_path: Path) -> None:
    """What a benchmark prints is shown, what it found stands in a table and a plot, with what it depends on."""
    out, folder = io.StringIO(), tmp_path / "a" / "folder"
    assert run_bench(BenchOptions(names=["encode"], quick=True, out=folder), out, source_tree) == 0
    assert "\nencode\nit runs --ends-with-input --quick --at-most " in out.getvalue()
    assert "1 of 2 goals met." in out.getvalue()
    assert (
        "1 of the 1 missed goals were missed on a busy machine: other programs took up to 50% of it" in out.getvalue()
    )
    table = (folder / TABLE).read_text()
    for word in (
        "compiled parts",
        "opentelemetry-sdk",
        "Python 3",
        "CPUs",
        "a quick run",
        "**missed**",
        f"({PLOT})",
        "busy machine",
    ):
        assert word in table
    ElementTree.fromstring((folder / PLOT).read_text())


def test_one_that_fails_is_passed_over(source_tree: Path, tmp_path: Path) -> None:
    """The others are run and written, it is named, and the status is 1."""
    out = io.StringIO()
    assert run_bench(BenchOptions(names=["scale", "encode"], out=tmp_path), out, source_tree) == 1
    assert out.getvalue().endswith("scale failed; its figures are missing.\n")
    table = (tmp_path / TABLE).read_text()
    assert "scale failed" in table
    assert "| a span |" in table


COMMAND = """
import sys
from pathlib import Path
from otel_shed.command.bench import BenchOptions, run_bench
sys.exit(run_bench(BenchOptions(names=sys.argv[3:], out=Path(sys.argv[2])), sys.stdout, Path(sys.argv[1])))
"""


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize("name", ["memory", "sampler"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(source_tree: Path, tmp_path: Path, signum: signal.Signals, name: str) -> None:
    """What was found until then is written, also of the one that ran, and none of its processes is left."""
    with Launched([sys.executable, "-c", COMMAND, source_tree, tmp_path, "encode", name, "scale"]) as command:
        command.wait_for_line("child ")
        children = children_of(command.pid)
        assert len(children) == 2
        command.send(signum)
        assert command.wait(20) == INTERRUPTED, command.output
    assert f"Interrupted in {name}; its other figures are missing." in command.lines
    assert "Not run: scale." in command.lines
    assert "2 of 4 goals met." in command.output
    table = (tmp_path / TABLE).read_text()
    assert table.count("| a span |") == 4
    assert "- Not run: scale." in table
    until(lambda: not any(is_alive(child) for child in children), timeout=5)


def test_killed(source_tree: Path, tmp_path: Path) -> None:
    """A benchmark whose command is gone ends by itself."""
    with Launched([sys.executable, "-c", COMMAND, source_tree, tmp_path, "memory"]) as command:
        command.wait_for_line("child ")
        children = children_of(command.pid)
        command.send(signal.SIGKILL)
        command.wait(5)
        until(lambda: not is_alive(children[0]), timeout=10)
        children[1].kill()


def test_a_quick_run_has_an_end(source_tree: Path, tmp_path: Path) -> None:
    """What does not come to its end in time is ended; what it found is there, what was not reached is named."""
    out = io.StringIO()
    options = BenchOptions(names=["memory", "encode"], quick=True, out=tmp_path)
    began = time.monotonic()
    assert run_bench(options, out, source_tree, quick_seconds=1.0) == 1
    assert time.monotonic() - began < 15
    assert "memory was ended, the time was over; its other figures are missing.\n" in out.getvalue()
    assert out.getvalue().endswith("encode was ended, the time was over; its figures are missing.\n")
    assert (tmp_path / TABLE).read_text().count("| a span |") == 2


def test_without_a_source_tree(tmp_path: Path) -> None:
    """It says where the benchmarks are, writes nothing, and the status is 1."""
    out = io.StringIO()
    assert run_bench(BenchOptions(out=tmp_path / "out"), out, tmp_path) == 1
    assert "part of the source tree" in out.getvalue()
    assert not (tmp_path / "out").exists()


def test_every_benchmark_is_there() -> None:
    """Each name is a file of the source tree."""
    assert [name for name in BENCHMARKS if not (ROOT / "benchmarks" / f"{name}.py").is_file()] == []


def test_what_the_command_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its arguments are the options."""
    asked: list[BenchOptions] = []
    monkeypatch.setattr(cli, "run_bench", lambda options, _: asked.append(options) or 0)
    assert main(["bench"]) == 0
    assert main(["bench", "scale", "encode", "--quick", "--out", str(tmp_path)]) == 0
    assert asked == [BenchOptions(names=[]), BenchOptions(names=["scale", "encode"], quick=True, out=tmp_path)]


def test_a_benchmark_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and a line that names those that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", "faster"])
    assert ended.value.code == 2
    assert "'faster' is none of encode, place" in capsys.readouterr().err


def test_a_table_that_cannot_be_written(source_tree: Path, tmp_path: Path) -> None:
    """That is said before anything is measured."""
    (tmp_path / TABLE).mkdir()
    out = io.StringIO()
    with pytest.raises(OutputError, match=str(tmp_path / TABLE)):
        run_bench(BenchOptions(names=["encode"], out=tmp_path), out, source_tree)
    assert out.getvalue() == ""


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 and a line, no traceback."""
    (tmp_path / "file").touch()
    assert main(["bench", "encode", "--out", str(tmp_path / "file")]) == 1
    assert "otel-shed bench: " in capsys.readouterr().err
