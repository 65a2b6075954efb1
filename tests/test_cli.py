"""The command: its arguments, its exit statuses, and what the demo prints."""

from __future__ import annotations

import importlib.metadata
import io
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otel_shed import cli
from otel_shed.cli import main
from otel_shed.command import demo
from otel_shed.command.account import Evidence, verdict, write_account
from otel_shed.command.demo import DemoOptions
from otel_shed.command.outage import OutageOptions
from otel_shed.command.storm.run import Plan
from otel_shed.command.surroundings import as_before, logs_to
from otel_shed.command.view import LiveView
from otel_shed.command.workload import Shop
from otel_shed.processor import SheddingSpanProcessor
from otel_shed.stats import Stats
from otel_shed.testing.exporters import RecordingExporter
from tests.launched import Launched, bare_environment, until

# -- arguments ---------------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version is the installed one."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"otel-shed {importlib.metadata.version('otel-shed')}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """--help has each command with a word on it."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert {"demo", "outage", "doctor", "bench"} <= set(out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["outage", "--seconds", "0"],
        ["outage", "--seconds", "soon"],
        ["outage", "--stopped", "-1"],
        ["outage", "--rate", "inf"],
        ["outage", "--collector", "other"],
        ["demo", "--mode", "fast"],
        ["demo", "--capacity", "0"],
        ["demo", "--outage"],
        ["doctor", "--timeout", "nan"],
        ["doctor", "--protocol", "http/json"],
    ],
)
def test_arguments_that_cannot_be(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and a line that says why."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_an_outage_at_an_endpoint_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and the exporter's own words, before anything starts."""
    assert main(["outage", "--endpoint", "http://"]) == 2
    assert "endpoint must be a URL" in capsys.readouterr().err


def test_what_the_demo_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its arguments make the plan and say where the page goes; the defaults make it pleasant."""
    asked: list[DemoOptions] = []

    def run(options: DemoOptions, out: object) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(demo, "run_demo", run)
    numbers = ["--seconds", "7", "--calm", "2", "--rate", "900", "--capacity", "90"]
    others = ["--mode", "reject", "--protocol", "http/protobuf", "--collector", "receiver", "--out", str(tmp_path)]
    assert main(["demo", *numbers, *others]) == 0
    plan = Plan(seconds=7, calm=2, rate=900, capacity=90, mode="reject", protocol="http/protobuf", collector="receiver")
    assert main(["demo", "--no-html"]) == 0
    assert asked == [
        DemoOptions(plan=plan, page=tmp_path),
        DemoOptions(plan=Plan(seconds=10, calm=6), page=None),
    ]


def test_a_demo_that_cannot_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says why, and status 1."""

    def missing(*_: object, **__: object) -> object:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", missing)
    assert main(["demo", "--no-html"]) == 1
    assert "a process could not be started: no processes left" in capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a command does not deal with it, it is one line and 130."""

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_doctor", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_the_sdk_is_imported_late() -> None:
    """The SDK reads the environment when it is imported, so the command's modules leave it alone."""
    code = (
        "import sys, otel_shed.cli, otel_shed.command.demo, otel_shed.command.outage, otel_shed.command.doctor\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_a_reader_that_has_had_enough() -> None:
    """``otel-shed doctor | head -1`` ends without a traceback."""
    command = f"{sys.executable} -m otel_shed doctor --endpoint http://127.0.0.1:1 | head -1"
    with Launched(["sh", "-c", command]) as process:
        process.wait(30)
        assert len(process.lines) == 1


# -- the live view -----------------------------------------------------------------------------------------------


def test_rows_are_rewritten_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row replaces the one before, is no wider than the terminal, and stays when the view is closed."""
    monkeypatch.setenv("COLUMNS", "20")
    out = io.StringIO()
    view = LiveView(out, "heading", in_place=True)
    view.open()
    view.row(0.0, "first row")
    view.row(0.1, "a second row that is too wide")
    view.close()
    assert out.getvalue() == "heading\n\r\x1b[Kfirst row\r\x1b[Ka second row that i\n"


def test_rows_elsewhere() -> None:
    """In a file there is a row every two seconds, and one that is forced."""
    out = io.StringIO()
    view = LiveView(out, "heading", in_place=False)
    view.open()
    for tenth in range(45):
        view.row(tenth / 10, f"row {tenth / 10}")
    view.row(4.5, "last row", force=True)
    view.close()
    assert out.getvalue().splitlines() == ["heading", "row 0.0", "row 2.0", "row 4.0", "last row"]


def test_a_log_line_does_not_break_the_row() -> None:
    """It is printed above the row, which is shown again below it."""
    out = io.StringIO()
    view = LiveView(out, "heading", in_place=True)
    view.row(0.0, "the row")
    with logs_to(view):
        logging.getLogger("otel_shed").warning("%d spans lost", 3)
    assert out.getvalue() == "\r\x1b[Kthe row\r\x1b[K  log: warning: otel-shed: 3 spans lost\nthe row"


def test_log_lines_from_many_threads() -> None:
    """Each line is whole, whoever logs while the row is rewritten."""
    out = io.StringIO()
    view = LiveView(out, "heading", in_place=False, interval=0.0001)
    logger = logging.getLogger("otel_shed")

    def log() -> None:
        for number in range(200):
            logger.warning("line %d", number)

    with logs_to(view):
        threads = [threading.Thread(target=log) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(200):
            view.row(number, f"row {number}")
        for thread in threads:
            thread.join()
    lines = out.getvalue().splitlines()
    assert len(lines) == 1000
    assert all(line.startswith(("row ", "  log: warning: otel-shed: line ")) for line in lines)


def test_what_is_borrowed_is_given_back() -> None:
    """The environment and the loggers are as before, also after a fault."""
    environ = {"KEPT": "1", "CHANGED": "1", "DELETED": "1"}
    before, logger = dict(environ), logging.getLogger("otel_shed")
    handlers, propagate = list(logger.handlers), logger.propagate

    def borrow() -> None:
        with as_before(environ), logs_to(logging.NullHandler()):
            environ.update(CHANGED="2", ADDED="2")
            del environ["DELETED"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        borrow()
    assert environ == before
    assert (logger.handlers, logger.propagate) == (handlers, propagate)


# -- the account -------------------------------------------------------------------------------------------------

STATS = Stats(ended=100, exported=70, dropped={"shutdown": 10, "queue_full": 20}, queue_capacity=2048)


def evidence(
    stats: Stats = STATS, *, recorded: int = 100, counted: int | None = 70, counts: bool = True, outage: bool = True
) -> Evidence:
    times = [number / 1e6 for number in range(1, 101)]
    return Evidence(stats=stats, recorded=recorded, end_times=times, counted=counted, counts=counts, outage=outage)


def rows(found: Evidence) -> dict[str, str]:
    """The account's rows by their labels, white space evened out."""
    out = io.StringIO()
    write_account(found, out)
    lines = [line for line in out.getvalue().splitlines() if line]
    return {line[:30].strip(): " ".join(line[30:].split()) for line in lines}


def test_the_account() -> None:
    """It has the whole, each part with its reason, the collector's count, and the times of Span.end()."""
    found = rows(evidence())
    assert found["ended"] == "100"
    assert found["exported"] == "70 the collector counted 70"
    assert found["dropped"] == "30"
    assert found["queue_full"].startswith("20 the oldest, while the collector was stopped")
    assert found["shutdown"] == "10"
    assert found["unaccounted"].startswith("0")
    assert found["Span.end(), median"] == "50 microseconds"
    assert found["Span.end(), 99th percentile"] == "99 microseconds"
    assert found["Span.end(), worst"] == "100 microseconds"


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (evidence(), 0, "the collector counted what the account has exported"),
        (evidence(counts=False, counted=None), 0, "every span is accounted for."),
        (evidence(counted=71), 1, "the collector counted 71 spans, the account has 70 exported"),
        (evidence(counted=None), 1, "the collector did not tell what it received"),
        (evidence(recorded=101), 1, "the workload ended 101 spans and the account has 100"),
        (evidence(Stats(ended=100, exported=70)), 1, "30 spans are unaccounted for"),
    ],
)
def test_the_verdict(found: Evidence, status: int, words: str) -> None:
    """Status 0 only if nothing is unaccounted for and all three counts agree; what does not is said."""
    assert verdict(found)[0] == status
    assert words in verdict(found)[1]


@pytest.mark.parametrize(("seconds", "outage", "stopped"), [(20, 5, (5, 10)), (6, 6, (0, 6)), (3, 0, (1, 1))])
def test_when_the_collector_is_stopped(seconds: float, outage: float, stopped: tuple[float, float]) -> None:
    """Within the time of the show, with more of it after than before."""
    assert OutageOptions(seconds=seconds, outage=outage).stopped == stopped


# -- the workload ------------------------------------------------------------------------------------------------


def test_the_shop() -> None:
    """Its spans make whole traces with one root each, some of them fail, and its count is the account's."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import StatusCode

    exporter = RecordingExporter()
    processor = SheddingSpanProcessor(exporter, max_queue_size=100_000)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    shop = Shop(provider, spans_per_second=5000, seed=1)
    shop.start()
    until(lambda: shop.recorded > 1000)
    shop.stop()
    provider.shutdown()
    spans = exporter.spans
    assert shop.recorded == len(shop.end_times()) == processor.stats().ended == len(spans)
    assert shop.end_times() == sorted(shop.end_times())
    ids = {span.context.span_id for span in spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in spans)
    roots = [span for span in spans if span.parent is None]
    assert len(roots) == len({span.context.trace_id for span in spans})
    assert {root.name for root in roots} == {"GET /products", "POST /cart", "POST /checkout"}
    failed = [span for span in spans if span.status.status_code is StatusCode.ERROR]
    assert failed
    assert any(event.name == "exception" for span in failed for event in span.events)
    # A failure shows at the root of its trace too.
    assert {span.context.trace_id for span in failed} == {
        root.context.trace_id for root in roots if root.status.status_code is StatusCode.ERROR
    }
