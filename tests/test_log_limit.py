"""One line a minute for each thing that goes wrong, and how many like it were left out."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading

import pytest

from otel_shed.log_limit import LogLimit
from otel_shed.testing.clock import FakeClock

LOGGER = logging.getLogger("otel_shed.test")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER.name]


def test_the_first_line_is_written_at_once_and_the_next_after_a_minute(
    caplog: pytest.LogCaptureFixture, clock: FakeClock
) -> None:
    """In between lines are counted, and the next one says how many there were."""
    limit = LogLimit(LOGGER, clock=clock)
    limit.warning("lost", "%d spans lost", 5)
    assert lines(caplog) == ["5 spans lost"]
    for _ in range(3):
        clock.advance(19.9)
        limit.warning("lost", "%d spans lost", 6)
    assert len(lines(caplog)) == 1
    clock.advance(0.4)
    limit.warning("lost", "%d spans lost", 7)
    assert lines(caplog)[1:] == ["7 spans lost (and 3 more like this since the last such line)"]
    clock.advance(60)
    limit.warning("lost", "%d spans lost", 8)
    assert lines(caplog)[2:] == ["8 spans lost"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_each_key_has_its_own_minute(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """A line of one kind never hides the first of another."""
    limit = LogLimit(LOGGER, clock=clock)
    for key in ("lost", "rejected", "lost", ("lost", "timeout"), "rejected"):
        limit.warning(key, str(key))
    assert lines(caplog) == ["lost", "rejected", "('lost', 'timeout')"]


def test_a_clock_that_starts_at_zero_does_not_swallow_the_first_line(caplog: pytest.LogCaptureFixture) -> None:
    """A monotonic clock may begin anywhere, zero included."""
    limit = LogLimit(LOGGER, interval=5, clock=FakeClock(0.0))
    limit.warning("lost", "spans lost")
    limit.warning("lost", "spans lost")
    assert lines(caplog) == ["spans lost"]


def test_options_of_logging_are_passed_on(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """exc_info and extra reach the record."""
    try:
        raise KeyError("gone")
    except KeyError as error:
        LogLimit(LOGGER, clock=clock).warning("fault", "a fault", exc_info=error, extra={"where": "here"})
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert record.__dict__["where"] == "here"


def test_a_line_in_the_middle_of_a_line_does_not_deadlock(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """A handler, a signal's or logging's, may itself come to log through the same limit."""
    limit = LogLimit(LOGGER, clock=clock)
    said: list[str] = []

    class Again(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            limit.warning("lost", "spans lost")
            limit.warning("other", "something else")

    handler = Again()
    LOGGER.addHandler(handler)
    try:
        limit.warning("lost", "spans lost")
    finally:
        LOGGER.removeHandler(handler)
    assert said == ["spans lost", "something else"]


def test_every_line_names_the_library(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """A program whose format leaves the logger's name out still sees whose line it is; a name is not said twice."""
    library = logging.getLogger("otel_shed")
    LogLimit(library, clock=clock).warning("lost", "%d spans lost, 100%% of them", 5)
    library.warning("otel-shed: %s", "named already")
    library.error(ValueError("no text"))
    assert caplog.messages == [
        "otel-shed: 5 spans lost, 100% of them",
        "otel-shed: named already",
        "otel-shed: no text",
    ]


def test_the_first_line_of_a_process_names_the_library() -> None:
    """Whichever module is imported first and logs, the line begins so."""
    program = "from otel_shed.environment import Environment; Environment({'A': 'x'}).boolean('A', True)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr == "otel-shed: A='x' is not true or false; using true\n"


def test_many_threads_write_few_lines(caplog: pytest.LogCaptureFixture, clock: FakeClock) -> None:
    """Threads that fail at the same moment may each write one line, never one for each failure."""
    limit = LogLimit(LOGGER, clock=clock)
    start = threading.Barrier(8)

    def fail() -> None:
        start.wait(10)
        for _ in range(1000):
            limit.warning("lost", "spans lost")

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 1 <= len(lines(caplog)) <= 8


def test_under_gevent_a_native_thread_and_greenlets_log_together() -> None:
    """The worker is no greenlet: what it logs through the limit waits for none, nor the other way round."""
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, logging
        from otel_shed.log_limit import LogLimit
        from otel_shed.native import start_thread

        logging.basicConfig(format="%(message)s")
        limit = LogLimit(logging.getLogger("otel_shed"))

        def work():
            for _ in range(20_000):
                limit.warning("lost", "spans lost")

        thread = start_thread(name="worker", target=work)
        greenlets = [gevent.spawn(work) for _ in range(3)]
        gevent.joinall(greenlets, timeout=30, raise_error=True)
        thread.join(30)
        assert not thread.is_alive()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert set(result.stderr.splitlines()) == {"otel-shed: spans lost"}
    assert len(result.stderr.splitlines()) <= 4
