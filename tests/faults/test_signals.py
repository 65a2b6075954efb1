"""SIGTERM: where it would end the process at once, what is held is delivered first; nobody's handler is replaced."""

from __future__ import annotations

import importlib.util
import signal
import time
from pathlib import Path

import pytest

from tests.faults.delivered import delivered, names, run, start, value_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that the programs export to."""
    return tmp_path / "spans"


def _terminated(path: Path, case: str, *, flush: str = "true", grace: str = "3000") -> tuple[int, str, float]:
    """The exit code, the output, and the seconds from the signal to the end."""
    variables = {"OTEL_SHED_FLUSH_ON_SIGTERM": flush, "OTEL_SHED_SHUTDOWN_GRACE": grace}
    with start("waits_for_sigterm.py", path, case, **variables) as program:
        program.wait_for_line("ready")
        began = time.monotonic()
        program.send(signal.SIGTERM)
        return program.wait(30), program.output, time.monotonic() - began


@pytest.mark.parametrize("case", ["default action", "asyncio"])
def test_spans_are_delivered_before_the_default_action(path: Path, case: str) -> None:
    """The process ends by the signal, as it would without us, and every span that ended before it is delivered."""
    code, output, _ = _terminated(path, case)
    assert (code, output) == (-signal.SIGTERM, "ready")
    assert delivered(path) == names(["span"], 10)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_a_program_of_green_threads(path: Path, library: str) -> None:
    """The hub that the signal interrupts is let be: all is delivered, and the process ends by the signal."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code, output, took = _terminated(path, library, grace="20000")
    assert code == -signal.SIGTERM, output
    assert delivered(path) == names(["span"], 10)
    assert took < 10


def test_a_program_that_does_not_ask_for_it_gets_none_of_it(path: Path) -> None:
    """In code the setting is off: SIGTERM ends the process at once."""
    code, output, _ = _terminated(path, "default action", flush="false")
    assert (code, output) == (-signal.SIGTERM, "ready")
    assert not delivered(path)


@pytest.mark.parametrize("case", ["own handler before", "own handler after"])
def test_a_handler_of_the_program_is_not_replaced(path: Path, case: str) -> None:
    """A handler that the program sets, before or after us, runs once and decides how the program ends."""
    code, output, _ = _terminated(path, case)
    assert (code, output) == (7, "ready\nown handler")
    assert delivered(path) == names(["span"], 10)


def test_a_signal_that_the_program_ignores_stays_ignored(path: Path) -> None:
    """Where SIGTERM is ignored it does nothing."""
    assert run("waits_for_sigterm.py", path, "ignored", OTEL_SHED_FLUSH_ON_SIGTERM="true") == (7, "")
    assert delivered(path) == names(["span"], 10)


def test_a_signal_in_the_middle_of_on_end(path: Path) -> None:
    """Whichever line of the plain on_end it comes in: what ended before is delivered, and nothing hangs."""
    code, output = run(
        "signalled_in_every_line.py", path, OTEL_SHED_FLUSH_ON_SIGTERM="true", OTEL_SHED_PURE_PYTHON="true"
    )
    assert code == 0, output
    statuses = [int(status) for status in value_of(output, "statuses").split()]
    assert len(statuses) > 10
    assert set(statuses) == {signal.SIGTERM}
    expected = names([f"child-{line + 1}" for line in range(len(statuses))], 10)
    assert delivered(path) & expected == expected


def test_a_hanging_exporter_holds_the_signal_up_for_the_grace_only(path: Path) -> None:
    """With an exporter that never returns the process ends by the signal soon after the grace."""
    code, output, took = _terminated(path, "exporter hangs", grace="500")
    assert code == -signal.SIGTERM
    assert "10 spans" in output
    assert took < 2.0


def test_a_second_signal_while_the_first_is_being_served(path: Path) -> None:
    """Two signals in a row end the process once what was held is delivered."""
    variables = {"OTEL_SHED_FLUSH_ON_SIGTERM": "true"}
    with start("waits_for_sigterm.py", path, "signalled twice", **variables) as program:
        program.wait_for_line("ready")
        for _ in range(2):
            program.send(signal.SIGTERM)
            time.sleep(0.2)
        assert program.wait(30) == -signal.SIGTERM
    assert delivered(path) == names(["span"], 10)
