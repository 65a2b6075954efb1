"""The demo as a user runs it, only shorter: both sides, their table, and the page; and interrupted."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from otel_shed.command import collector
from otel_shed.command.companion import StartError
from otel_shed.otlp.settings import HTTP_PROTOBUF
from tests.launched import Launched, until

# What the stock queue holds is drained within two seconds.
SHORT = ("--seconds", "6", "--calm", "2", "--rate", "3000", "--capacity", "1000")


def demo(*arguments: str | Path) -> Launched:
    return Launched([sys.executable, "-m", "otel_shed", "demo", *arguments])


def cells(output: str, label: str) -> list[str]:
    """Both sides' cells in a row of the table."""
    found = re.search(rf"^  {re.escape(label)} {{2,}}(\S.*)$", output, re.MULTILINE)
    assert found is not None, f"no row {label!r}:\n{output}"
    return re.split(r" {2,}", found[1])


def has_rotel() -> bool:
    try:
        collector._rotel_binary()
        return True
    except StartError:
        return False


@pytest.mark.timeout(120)
def test_both_sides(tmp_path: Path) -> None:
    """Both are seen live, in the table and on the page; ours accounts for every span, as the collector has it."""
    file = tmp_path / "page.html"
    with demo(*SHORT, "--mode", "reject", "--protocol", HTTP_PROTOBUF, "--out", file) as process:
        assert process.wait(90) == 0, process.output
        output = process.output
    assert "OK: otel-shed accounts for every span, and the collector counted what the account has exported." in output
    assert cells(output, "spans unaccounted for") == ["-", "0"]
    assert all(int(number.replace(",", "")) > 1000 for number in cells(output, "spans accepted, in all"))
    assert all(share.endswith(" %") for share in cells(output, "capacity used by accepted spans"))
    assert cells(output, "spans accepted a second time") == ["0", "0"]
    rows = [line for line in process.lines if re.match(r" +\d+\.\d  (storm|calm)  ", line)]
    assert {line.split()[1] for line in rows} == {"storm", "calm"}
    assert f"The page, with pictures: {file}" in output
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg ") == 2 * 6
    assert 'class="phase normal"' in page
    assert page.endswith("</html>\n")
    if has_rotel():
        counted = re.search(r"counted by rotel [\w.]+: ([\d,]+) spans of stock and ([\d,]+) spans of otel-shed", page)
        assert counted is not None
        assert list(counted.groups()) == cells(output, "spans accepted, in all")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo(signum: signal.Signals, tmp_path: Path) -> None:
    """In the middle of the storm, what there is is printed and written, and no process is left."""
    file = tmp_path / "page.html"
    with demo("--seconds", "60", "--capacity", "1000", "--out", file) as process:
        process.wait_for_line("  storm  ")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send(signum)
        assert process.wait(30) == 0, process.output
    assert "Interrupted" in process.output
    assert cells(process.output, "spans accepted, in all")[0] != "-"
    assert file.read_text(encoding="utf-8").count("<svg ") == 6
    assert not any(child.is_running() for child in children)


def test_interrupted_twice() -> None:
    """Whoever is in a hurry does not have to wait for what is held, and no process is left all the same."""
    with demo("--seconds", "60", "--no-html", "--collector", "receiver") as process:
        process.wait_for_line("  storm  ")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send(signal.SIGINT)
        process.wait_for_line("Interrupted")
        process.send(signal.SIGINT)
        process.wait(10)
        assert cells(process.output, "spans accepted, in all")[0] != "-"
    assert not any(child.is_running() for child in children)


def test_a_demo_that_is_killed() -> None:
    """Its processes come to their end by themselves."""
    with demo("--seconds", "60", "--capacity", "2000", "--no-html", "--collector", "receiver") as process:
        process.wait_for_line("  storm  ")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send(signal.SIGKILL)
        process.wait(5)
        until(lambda: not any(child.is_running() for child in children), timeout=20)
