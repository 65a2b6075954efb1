"""A flow: what the budget hears of, from whom, and that nobody waits for another; how old what is held has become."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from otel_shed.control.budget import TICK_SECONDS, Counts, RateBudget
from otel_shed.control.flow import Flow, FlowReading, HeadCounts
from otel_shed.log_limit import PREFIX
from otel_shed.outcome import Outcome
from otel_shed.testing.clock import FakeClock


class Budget(RateBudget):
    """A budget that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(queue_capacity=100, batch_size=10)
        self.calls: list[str] = []
        self.counts: list[Counts] = []
        self.queued: list[int] = []
        self.restarts = 0
        self.during: Callable[[], None] = lambda: None

    def exported(self, now: float, begun: float, outcome: Outcome, *, queued: int, refusals: int) -> None:
        self.during()
        self.calls.append(f"exported {outcome.accepted} after {now - begun:g}")
        self.queued.append(queued)
        super().exported(now, begun, outcome, queued=queued, refusals=refusals)

    def tick(self, now: float, counts: Counts) -> None:
        self.counts.append(counts)
        super().tick(now, counts)

    def restart(self) -> None:
        self.restarts += 1
        super().restart()


@dataclass
class Bench:
    """A flow with its parts in the test's hands."""

    clock: FakeClock
    reading: FlowReading = field(default_factory=FlowReading)
    head: HeadCounts = field(default_factory=HeadCounts)
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        self.flow = Flow(read=lambda: self.reading, head=lambda: self.head, budget=self.budget, clock=self.clock)


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def test_outcomes_reach_the_budget(bench: Bench) -> None:
    """With the time at which the call began, and the counts as they stood when it ended."""
    bench.reading = FlowReading(sampled=7, queued=3, overflowed=1)
    bench.flow.told(bench.clock() - 2.0, Outcome(accepted=5))
    assert bench.budget.calls == ["exported 5 after 2"]
    assert bench.budget.queued == [3]
    assert bench.budget.counts == [Counts(roots=7, kept=7, spans=7, overflowed=1, queued=3)]


def test_the_pipeline_is_read_for_a_tick_and_not_for_each_batch(bench: Bench) -> None:
    """What becomes of batches that follow upon each other, and what was queued then, is told twenty times a second."""
    told = []
    for number in range(100):
        bench.flow.told(bench.clock() - 0.5, Outcome(accepted=number), queued=number)
        bench.clock.advance(TICK_SECONDS / 16)
        told.append(len(bench.budget.queued))
    assert told == [1 + number // 8 * 8 for number in range(100)]
    assert len(bench.budget.counts) == 13
    come_by(bench, 0.1)
    assert bench.budget.queued == [*range(100)]
    assert bench.budget.calls == [f"exported {number} after 0.5" for number in range(100)]


def test_without_a_sampler_each_span_is_its_own_root(bench: Bench) -> None:
    """Demand is then what ends; what is shed for its low priority is none of what has to be sent."""
    bench.reading = FlowReading(sampled=100, low=30)
    bench.flow.move_on(bench.clock())
    assert bench.budget.counts == [Counts(roots=100, kept=100, spans=70, low=30, overflowed=0, queued=0)]


def test_with_a_sampler_its_decisions_are_the_demand(bench: Bench) -> None:
    """Roots, kept ones and the ceiling are the sampler's, spans the pipeline's."""
    bench.reading, bench.head = FlowReading(sampled=50), HeadCounts(roots=20, kept=5, ceiling=0.5)
    bench.flow.move_on(bench.clock())
    assert bench.budget.counts == [Counts(roots=20, kept=5, spans=50, overflowed=0, queued=0, ceiling=0.5)]


def test_the_budget_ticks_when_it_is_due(bench: Bench) -> None:
    """However many come by, ten times a second."""
    for _ in range(100):
        bench.flow.move_on(bench.clock())
        bench.clock.advance(TICK_SECONDS / 10)
    assert len(bench.budget.counts) == 10


def test_a_call_that_is_awaited_is_told(bench: Bench) -> None:
    """While an export hangs the budget hears how long it has."""
    bench.flow.exports.began()
    bench.clock.advance(4.0)
    bench.flow.move_on(bench.clock())
    assert bench.budget.counts[-1].waiting == 4.0


def test_nobody_waits_for_another(bench: Bench) -> None:
    """What is told while somebody is at it is kept, in order, for the next who comes by."""
    at_it, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        at_it.set()
        assert go_on.wait(10)

    bench.budget.during = stop
    thread = threading.Thread(target=bench.flow.told, args=(bench.clock(), Outcome(accepted=1)))
    thread.start()
    assert at_it.wait(10)
    bench.flow.told(bench.clock(), Outcome(accepted=2))
    bench.flow.told(bench.clock(), Outcome(accepted=3))
    bench.flow.move_on(bench.clock())
    assert bench.budget.calls == []
    bench.budget.during = lambda: None
    go_on.set()
    thread.join(10)
    bench.flow.move_on(bench.clock())
    assert bench.budget.calls == [f"exported {number} after 0" for number in (1, 2, 3)]


def test_a_fault_in_the_budget_reaches_nobody(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The one that raised is forgotten, what comes after is told; a line a minute says so."""

    def fail() -> None:
        raise ZeroDivisionError

    bench.budget.during = fail
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for _ in range(10):
            bench.flow.told(bench.clock(), Outcome(accepted=1))
    assert [record.getMessage().removeprefix(PREFIX) for record in caplog.records] == [
        "fault in the budget: ZeroDivisionError: "
    ]
    bench.budget.during = lambda: None
    bench.flow.told(bench.clock(), Outcome(accepted=2))
    assert bench.budget.calls == ["exported 2 after 0"]


def come_by(bench: Bench, seconds: float) -> None:
    """Let time pass, and have somebody come by ten times a second."""
    for _ in range(round(seconds * 10)):
        bench.clock.advance(0.1)
        bench.flow.move_on(bench.clock())


def test_the_age_of_the_oldest(bench: Bench) -> None:
    """Ten spans a second, of which the oldest stay 40 s, then leave: known to within a second and a half."""
    for tenth in range(400):
        bench.reading = FlowReading(admitted=tenth + 1, oldest=0)
        come_by(bench, 0.1)
    assert bench.flow.oldest_seconds == pytest.approx(40.0, abs=1.5)
    bench.reading = FlowReading(admitted=400, oldest=300)
    come_by(bench, 0.1)
    assert bench.flow.oldest_seconds == pytest.approx(10.0, abs=1.5)


def test_nothing_held_has_no_age(bench: Bench) -> None:
    """Neither before the first span nor after the last has left, however long ago that is."""
    assert bench.flow.oldest_seconds == 0.0
    bench.reading = FlowReading(admitted=5, oldest=0)
    come_by(bench, 20.0)
    assert bench.flow.oldest_seconds >= 18.5
    bench.reading = FlowReading(admitted=5, oldest=5)
    assert bench.flow.oldest_seconds == 0.0
    come_by(bench, 20.0)
    bench.reading = FlowReading(admitted=6, oldest=5)
    assert bench.flow.oldest_seconds <= 1.5


def test_an_idle_hour_does_not_age_the_next_span(bench: Bench) -> None:
    """Nobody comes by while nothing happens: the first span after it, which does as it ends, is new all the same."""
    bench.reading = FlowReading(admitted=5, oldest=5)
    come_by(bench, 2.0)
    bench.clock.advance(3_600.0)
    bench.flow.move_on(bench.clock())
    bench.reading = FlowReading(admitted=6, oldest=5)
    assert bench.flow.oldest_seconds == 0.0
    come_by(bench, 0.2)
    assert bench.flow.oldest_seconds <= 1.5


def test_a_fork_leaves_nothing_locked(bench: Bench) -> None:
    """In the child the one who was at it is not there: what it held is free, what was told is the parent's."""
    at_it, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        at_it.set()
        assert go_on.wait(10)

    bench.budget.during = stop
    bench.reading = FlowReading(admitted=9, oldest=0)
    come_by(bench, 10.0)
    bench.clock.advance(TICK_SECONDS)
    bench.flow.exports.began()
    thread = threading.Thread(target=bench.flow.told, args=(bench.clock(), Outcome(accepted=1)))
    thread.start()
    assert at_it.wait(10)
    bench.flow.told(bench.clock(), Outcome(accepted=2))
    bench.flow.after_fork_in_child()
    assert bench.budget.restarts == 1
    assert bench.flow.exports.busy_since is None
    bench.budget.during = lambda: None
    bench.reading = FlowReading(admitted=1, oldest=0)
    bench.flow.told(bench.clock(), Outcome(accepted=3))
    assert bench.budget.calls == ["exported 3 after 0"]
    come_by(bench, 0.2)
    assert bench.flow.oldest_seconds <= 1.5
    go_on.set()
    thread.join(10)
