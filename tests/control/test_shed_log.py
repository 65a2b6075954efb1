"""The log of losses: a line when they begin, one a minute, one when they are over, with numbers; none for a blip."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from otel_shed import ShedConfig
from otel_shed.control.budget import BudgetState, RateBudget
from otel_shed.control.flow import FlowReading
from otel_shed.control.overload import OverloadControl
from otel_shed.control.phase import Phase
from otel_shed.control.threshold import in_force
from otel_shed.otlp.retry import Attempt, Verdict, no_answer
from otel_shed.testing.clock import FakeClock
from tests.control.test_overload import PLENTY, Dial

GO_ON = "The program goes on and is not affected"
COLLECTOR = "the collector at http://collector:4317"
REFUSED = no_answer("connection refused")


class _Budget(RateBudget):
    def tick(self, now: float, counts: Any) -> None:
        """The test says what the budget is."""


class Bench:
    """A control, one pipeline whose counts the test turns, and the lines that come of it."""

    def __init__(self, clock: FakeClock, caplog: pytest.LogCaptureFixture, **settings: Any) -> None:
        self.clock, self.caplog = clock, caplog
        self.dial = Dial()
        self.control = OverloadControl(
            ShedConfig(memory_limit_bytes=PLENTY, **settings), signals=[self.dial], clock=clock
        )
        self.reading = FlowReading()
        self.flow = self.control.add_flow(
            lambda: self.reading,
            queue_capacity=100,
            batch_size=10,
            decides_traces=True,
            where=COLLECTOR,
        )
        self.flow.budget = _Budget(queue_capacity=100, batch_size=10)

    def takes(self, spans_per_second: float | None, offered: float) -> None:
        self.flow.budget.state = BudgetState(in_force(0.1), spans_per_second, offered)

    def run(self, seconds: float, **rates: int) -> None:
        """``rates``: how many more each tenth of a second, by the counts' names."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.reading = replace(
                self.reading, **{name: getattr(self.reading, name) + rate for name, rate in rates.items()}
            )
            self.control.look(self.clock())

    @property
    def lines(self) -> list[str]:
        """What was logged since the last time, without what is for debugging."""
        lines = [record.getMessage() for record in self.caplog.records if record.levelno > logging.DEBUG]
        self.caplog.clear()
        return lines


@pytest.fixture
def bench(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> Iterator[Bench]:
    with caplog.at_level(logging.INFO, "otel_shed"):
        yield Bench(clock, caplog)


def test_a_storm(bench: Bench) -> None:
    """Its begin with rates and counts, one line a minute while it lasts, and its end with all that was shed."""
    bench.takes(500, 4380)
    bench.dial.pressure = 0.8
    bench.reading = FlowReading(held=1)
    bench.run(1.2, shed=300, exported=50)
    assert bench.lines == [
        f"otel-shed: the pressure signal dial is high: whole traces are shed, failed ones last. In 1 s: "
        f"3,300 spans shed, 550 delivered; 1 span is waiting. {GO_ON} (docs/overload.md)"
    ]
    bench.reading = replace(bench.reading, held=1200)
    bench.run(98, shed=300, exported=50)
    (line,) = bench.lines
    assert re.fullmatch(
        "otel-shed: still, after 61 s: the pressure signal dial is high: whole traces are shed, failed ones last. "
        r"In the last 60 s: 180,[03]00 spans shed, 30,0[05]0 delivered; 1,200 spans are waiting. "
        rf"{GO_ON} \(docs/overload.md\)",
        line,
    )
    bench.dial.pressure = 0.0
    bench.takes(None, 500)
    bench.reading = replace(bench.reading, held=0)
    bench.run(20, exported=50)
    assert bench.control.snapshot().phase is Phase.NORMAL
    assert bench.lines == [
        "otel-shed: nothing is shed or lost any more. In 99 s: 297,600 spans shed, 49,600 delivered. "
        "The program was not affected (docs/overload.md)"
    ]
    bench.run(300, exported=50)
    assert bench.lines == []


@pytest.mark.parametrize(
    ("reason", "takes", "words"),
    [
        ("intake_fill", 500.0, f"{COLLECTOR} takes about 500 spans/s and the program makes 4,380: whole traces"),
        ("throttled", 500.0, f"{COLLECTOR} asks for less: it takes about 500 spans/s and the program makes 4,380"),
        ("throttled", None, f"{COLLECTOR} asks for less: "),
        ("drop_rate", None, f"{COLLECTOR} takes spans more slowly than the program makes them: "),
        ("memory", 500.0, "the process is short of memory: "),
        ("cpu_share", 500.0, "tracing takes more of the CPU than OTEL_SHED_CPU_SHARE allows: "),
        ("held_bytes", 500.0, "what is held comes near OTEL_SHED_MAX_HELD_BYTES: "),
    ],
)
def test_why(bench: Bench, reason: str, takes: float | None, words: str) -> None:
    """The line begins with what presses, in words, and where it is the collector with its endpoint and the rates."""
    bench.takes(takes, 4380)
    bench.control.brownout.add_signal(_Says(reason))
    bench.run(1.2, shed=300)
    (line,) = bench.lines
    assert line.startswith(f"otel-shed: {words}")


class _Says(Dial):
    def __init__(self, reason: str) -> None:
        super().__init__(0.9)
        self._reason = reason

    def read(self, now: float) -> Any:
        return replace(super().read(now), reason=self._reason)


def test_a_request_that_is_not_answered(bench: Bench) -> None:
    """Where nothing is known of what the collector takes, a request that waits is what is wrong, not its pace."""
    bench.dial.pressure = 0.8
    bench.control.brownout.add_signal(_Says("intake_fill"))
    bench.flow.exports.began()
    bench.run(3.2)
    bench.run(1.2, overflowed=300)
    (line,) = bench.lines
    assert line.startswith(f"otel-shed: {COLLECTOR} has not answered a request for 4 s. In 1 s: ")


def test_a_phase_that_is_forced(bench: Bench) -> None:
    """The operator's own word is told as that."""
    bench.control.brownout.force_phase(Phase.SHED_OPTIONAL, "maintenance")
    bench.run(1.2, shed=300)
    (line,) = bench.lines
    assert line.startswith("otel-shed: the phase shed_optional is forced (maintenance): whole traces are shed")


def test_a_blip_in_which_nothing_was_lost(bench: Bench) -> None:
    """Phases may come and go, and a request may fail: as long as all is delivered, nothing is said."""
    bench.dial.pressure = 1.0
    bench.run(2, exported=100)
    bench.flow.exports.attempted(REFUSED)
    bench.run(3)
    bench.flow.exports.attempted(Attempt(Verdict.ACCEPTED, "200"))
    bench.dial.pressure = 0.0
    bench.run(100, exported=100)
    assert bench.lines == []


def test_a_blip_in_which_spans_were_dropped(bench: Bench) -> None:
    """A burst that only overflows the queue is two lines at most, and storms in a row are not two lines each."""
    bench.run(0.1, overflowed=12)
    bench.run(10)
    first, over = bench.lines
    assert "12 spans dropped from the full queue" in first
    assert over.startswith("otel-shed: nothing is shed or lost any more")
    for _ in range(10):
        bench.run(0.1, overflowed=5)
        bench.run(9.9)
    lines = bench.lines
    assert len(lines) <= 4
    assert sum("dropped from the full queue" in line for line in lines) >= 1


def test_the_collector_is_down(bench: Bench) -> None:
    """One line names it, what it says, that the program goes on, and the doctor; one says that it is back."""
    bench.reading = FlowReading(held=700)
    for _ in range(8):
        bench.run(1)
        bench.flow.exports.attempted(REFUSED)
    assert bench.lines == [
        f"otel-shed: {COLLECTOR} does not answer (connection refused; for 5 s). No span is lost; 700 are waiting. "
        f"{GO_ON} (to see why, run: otel-shed doctor)"
    ]
    bench.run(20, undelivered=10)
    assert bench.lines == []
    bench.flow.exports.attempted(Attempt(Verdict.ACCEPTED, "200"))
    bench.run(10)
    (line,) = bench.lines
    assert line.startswith(f"otel-shed: {COLLECTOR} answers again. In ")
    assert "2,000 spans lost undelivered" in line


def test_a_gateway_whose_collector_is_down(bench: Bench) -> None:
    """An answer that says to come again is told as that."""
    bench.run(0.1)
    bench.flow.exports.attempted(Attempt(Verdict.RETRYABLE, "502", "Bad Gateway"))
    bench.run(8)
    (line,) = bench.lines
    assert f"{COLLECTOR} cannot take requests (502: Bad Gateway; for 5 s)" in line


def test_observe_mode(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """What would have been shed is told as that, and as no warning."""
    bench = Bench(clock, caplog, mode="observe")
    bench.dial.pressure = 0.8
    with caplog.at_level(logging.INFO, "otel_shed"):
        bench.run(1.2, would_have_shed=30, exported=50)
    (record,) = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert record.levelno == logging.INFO
    assert "330 spans that enforce mode would have shed, 550 delivered" in record.getMessage()


def test_a_child_tells_what_is_its_own(bench: Bench) -> None:
    """After a fork nothing of the parent's losses is told, and all of the child's."""
    bench.run(1.2, shed=1)
    assert len(bench.lines) == 1
    bench.control.after_fork_in_child()
    bench.reading = FlowReading()
    bench.run(1.2, shed=10)
    (line,) = bench.lines
    assert "In 1 s: 110 spans shed. " in line


def test_a_handler_that_raises(bench: Bench) -> None:
    """A logging filter of the application's that fails is nobody's trouble."""

    def broken(record: logging.LogRecord) -> bool:
        raise RuntimeError

    logger = logging.getLogger("otel_shed")
    logger.addFilter(broken)
    try:
        bench.run(5, shed=10)
    finally:
        logger.removeFilter(broken)
    assert bench.control.threshold().probability == 1.0


def test_a_worker_is_called_back_for_the_end(bench: Bench) -> None:
    """Where nothing ends any more, the last line is written all the same, and then nobody needs to look."""
    bench.run(0.2, overflowed=5)
    waits = 0
    while (wait := bench.control.look(bench.clock())) is not None:
        bench.clock.advance(max(wait, 0.1))
        waits += 1
        assert waits < 20
    assert len(bench.lines) == 2
