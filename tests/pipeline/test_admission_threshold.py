"""What is refused at push: nothing that can be followed, whole traces beyond that, and nothing once it is over."""

from __future__ import annotations

import random

import pytest

from otel_shed.control.threshold import NEVER, probability_of
from otel_shed.pipeline.admission_threshold import (
    CPU_SHARE,
    DRAIN_SECONDS,
    LEAST_PROBABILITY,
    STANDING,
    TICK_SECONDS,
    AdmissionThreshold,
)

CAPACITY = 100_000


class Flood:
    """Spans that come at a rate, a queue that holds them, and decisions of so many seconds of a processor each.

    Decisions are made for at most their share of a processor, as the intake sees to.
    """

    def __init__(self, *, cost: float, capacity: int = CAPACITY) -> None:
        self.admission = AdmissionThreshold()
        self.cost, self.capacity = cost, capacity
        self.now = 1000.0
        self.came = self.backlog = self.evicted = self.refused = 0
        self.cpu = 0.0
        self.random = random.Random(1)

    def run(self, seconds: float, rate: float, *, is_limited: bool = True) -> list[float]:
        """The probability with which spans are admitted, at each tick."""
        seen = []
        for _ in range(round(seconds / TICK_SECONDS)):
            self.now += 1.001 * TICK_SECONDS
            arrived = round(rate * TICK_SECONDS)
            admitted = round(arrived * self.probability)
            self.came += arrived
            self.refused += arrived - admitted
            self.backlog += admitted
            self.evicted += max(0, self.backlog - self.capacity)
            self.backlog = min(self.backlog, self.capacity)
            share = CPU_SHARE if is_limited else 1.0
            decided = min(self.backlog, int(share * TICK_SECONDS / self.cost))
            self.backlog -= decided
            self.cpu += decided * self.cost
            self.admission.spent(decided, decided * self.cost)
            self.admission.tick(
                self.now, came=self.came, backlog=self.backlog, capacity=self.capacity, is_limited=is_limited
            )
            seen.append(self.probability)
        return seen

    @property
    def probability(self) -> float:
        return probability_of(self.admission.threshold)


def test_what_can_be_followed_is_admitted() -> None:
    """At 40 us a record a tenth of a processor is enough for 2,500 a second."""
    flood = Flood(cost=40e-6)
    assert set(flood.run(60.0, 2_400)) == {1.0}
    assert flood.backlog < 500


def test_a_burst_waits_in_the_queue() -> None:
    """Whatever its rate, as long as it fits into a quarter of it."""
    flood = Flood(cost=40e-6)
    assert set(flood.run(0.2, STANDING * CAPACITY / 0.25)) == {1.0}
    assert set(flood.run(10.0, 100)) == {1.0}


def test_what_cannot_be_followed_is_refused_before_the_queue_is_full() -> None:
    """From a quarter on, nothing is evicted, and what is admitted is what decisions can be made on."""
    flood = Flood(cost=40e-6)
    flood.run(20.0, 30_000)
    settled = flood.run(20.0, 30_000)
    assert flood.evicted == 0
    assert 0 < max(settled) < 0.3
    assert sum(settled) / len(settled) == pytest.approx(CPU_SHARE / 40e-6 / 30_000, rel=0.3)
    assert flood.backlog < 0.5 * CAPACITY


@pytest.mark.parametrize("rate", [5_000, 30_000, 100_000])
def test_decisions_take_a_tenth_of_a_processor(rate: float) -> None:
    """And no less: what can be decided on is."""
    flood = Flood(cost=40e-6)
    flood.run(10.0, rate)
    before = flood.cpu
    flood.run(30.0, rate)
    assert (flood.cpu - before) / 30.0 == pytest.approx(CPU_SHARE, rel=0.05)


def test_all_is_admitted_again_once_the_flood_is_over() -> None:
    """As soon as half of what may stand in the queue is left, so not by turns."""
    flood = Flood(cost=40e-6)
    flood.run(20.0, 30_000)
    assert flood.probability < 1.0
    after = flood.run(60.0, 100)
    assert after[-1] == 1.0
    assert after == sorted(after, key=lambda probability: probability == 1.0)
    assert flood.backlog < STANDING * CAPACITY


def test_nothing_is_refused_while_most_of_it_is_sent() -> None:
    """Decisions are not held to their share then, and whoever sends keeps up as far as it goes."""
    flood = Flood(cost=10e-6)
    flood.run(20.0, 90_000)
    assert flood.probability < 1.0
    assert set(flood.run(5.0, 50_000, is_limited=False)) == {1.0}


def test_hardly_anything_is_still_something() -> None:
    """Of a flood of any size a thousandth is admitted: a trace in a thousand says more than none."""
    flood = Flood(cost=0.01)
    flood.run(10.0, 1_000_000)
    assert flood.probability == pytest.approx(LEAST_PROBABILITY, rel=0.01)
    assert 0 < flood.admission.threshold < NEVER


def test_it_looks_once_in_a_tenth_of_a_second() -> None:
    """However often it is asked; what was spent meanwhile is not forgotten."""
    admission = AdmissionThreshold()
    assert not admission.tick(10.0, came=0, backlog=0, capacity=100)
    for step in range(1, 9):
        admission.spent(10, 0.01)
        assert not admission.tick(10.0 + 0.01 * step, came=1_000 * step, backlog=90, capacity=100)
    assert admission.tick(10.11, came=9_000, backlog=90, capacity=100)
    # 80 records took 0.08 s: 100 of them a second are a tenth of a processor.
    rate = 9_000 / 0.11
    expected = (CPU_SHARE * 1_000 + (25 - 90) / DRAIN_SECONDS) / rate
    assert probability_of(admission.threshold) == pytest.approx(max(LEAST_PROBABILITY, expected), rel=0.01)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    """The first look after it only remembers when it was."""
    admission = AdmissionThreshold()
    admission.tick(10.0, came=0, backlog=0, capacity=100)
    admission.spent(10, 0.01)
    assert not admission.tick(5.0, came=10_000, backlog=90, capacity=100)
    assert admission.threshold == 0


def test_a_child_begins_anew() -> None:
    """It refuses nothing, and what the parent counted is not taken for its own."""
    flood = Flood(cost=1e-3)
    flood.run(10.0, 100_000)
    assert flood.admission.threshold > 0
    flood.admission.restart()
    assert flood.admission.threshold == 0
    assert not flood.admission.tick(flood.now + 1.0, came=0, backlog=90_000, capacity=CAPACITY)
    assert flood.admission.threshold == 0
