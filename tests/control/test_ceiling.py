"""Ceilings: what they let through at any rate, what the environment may say of them, and counts that stay honest."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.control.ceiling import BURST_SECONDS, Ceiling, FixedCeiling, RateCeiling, parse_ceiling
from otel_shed.control.threshold import KEEP_ALL, RANDOMNESS_BITS, adjusted_count, in_force
from otel_shed.testing.clock import FakeClock


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads that take turns every microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Roots:
    """Roots that start at a rate, as they come: so many in each millisecond, their trace ids at random."""

    def __init__(self, ceiling: Ceiling, clock: FakeClock, seed: int = 1) -> None:
        self._ceiling = ceiling
        self._clock = clock
        self._random = random.Random(seed)
        self.started = self.kept = 0
        self.adjusted = 0.0

    def start(self, rate: float, seconds: float) -> None:
        """Let roots start at ``rate`` a second."""
        rng, clock, admit = self._random, self._clock, self._ceiling.admit
        owed = 0.0
        for _ in range(round(seconds * 1000)):
            clock.advance(0.001)
            owed += rng.expovariate(1.0) * rate / 1000
            for _ in range(int(owed)):
                answer = admit()
                self.started += 1
                if rng.getrandbits(RANDOMNESS_BITS) >= answer.threshold:
                    self.kept += 1
                    self.adjusted += adjusted_count(answer.threshold)
            owed -= int(owed)


def test_a_fixed_ceiling_is_its_rounded_probability() -> None:
    """It answers the same for every root, and tells what it answers."""
    ceiling = FixedCeiling(1 / 3)
    assert ceiling.admit() is ceiling.admit() is in_force(1 / 3)
    assert ceiling.probability == in_force(1 / 3).probability == pytest.approx(1 / 3, rel=1e-3)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan, math.inf])
def test_a_share_is_from_none_to_all(probability: float) -> None:
    """Any other is an error in code."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        FixedCeiling(probability)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_is_more_than_none(rate: float) -> None:
    """Zero, what is below, and what is endless are errors in code."""
    with pytest.raises(ValueError, match="more than 0 and finite"):
        RateCeiling(rate)


def test_below_the_rate_everything_is_kept(clock: FakeClock) -> None:
    """Roots at nine tenths of the rate are all kept, but for what chance brings together."""
    roots = Roots(RateCeiling(100.0, clock=clock), clock)
    roots.start(90.0, 60.0)
    assert roots.kept >= 0.99 * roots.started


def test_the_rate_holds_through_steps_of_the_load(clock: FakeClock) -> None:
    """Over each half minute at 10 to 100,000 roots a second, what is kept is within 5 % of what is allowed."""
    roots = Roots(RateCeiling(100.0, clock=clock), clock)
    for rate in (10.0, 1_000.0, 100_000.0, 1_000.0, 10.0):
        started, kept = roots.started, roots.kept
        roots.start(rate, 30.0)
        allowed = min(roots.started - started, 3_000)
        assert roots.kept - kept == pytest.approx(allowed, rel=0.05), rate


@pytest.mark.parametrize("rate", [20.0, 500.0])
def test_counts_stay_honest_while_the_rate_moves(clock: FakeClock, rate: float) -> None:
    """Roots kept, each for as many as its threshold says, add up to the roots started, within 3 % of 100,000."""
    roots = Roots(RateCeiling(rate, clock=clock), clock, seed=5)
    turn = 0
    while roots.started < 100_000:
        roots.start(rate * (3.0, 12.0, 1.0, 30.0)[turn % 4], 2.0)
        turn += 1
    assert roots.kept < 0.6 * roots.started
    assert roots.adjusted == pytest.approx(roots.started, rel=0.03)


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 200)), min_size=1, max_size=30), st.floats(2.0, 1e4))
def test_the_probabilities_never_add_up_to_more(turns: list[tuple[float, int]], rate: float) -> None:
    """Whenever roots start: no more than the rate, a burst, and what the fall of the probability takes."""
    clock = FakeClock()
    ceiling = RateCeiling(rate, clock=clock)
    began, total, started = clock(), 0.0, 0
    for pause, number in turns:
        clock.advance(pause)
        total += sum(ceiling.admit().probability for _ in range(number))
        started += number
    fall = max(2.0, 0.1 * rate)
    most = rate * (clock() - began) + max(1.0, BURST_SECONDS * rate) + 1.0 + fall * math.log1p(started / fall)
    assert total <= most * (1 + 1e-9)


def test_a_burst_is_let_through_and_the_probability_recovers(clock: FakeClock) -> None:
    """After a pause half a second's worth is kept; then it falls to 1/e with each tenth of one, and comes back."""
    ceiling = RateCeiling(100.0, clock=clock)
    clock.advance(3600.0)
    credit = 50.0
    for _ in range(1000):
        probability = ceiling.admit().probability
        assert probability == pytest.approx(math.exp(min(0.0, credit) / 10.0), rel=0.02)
        credit -= probability
    assert ceiling.probability < 0.02
    clock.advance(1.5)
    assert ceiling.admit() is KEEP_ALL


def test_a_clock_that_goes_back_loses_nothing() -> None:
    """It earns nothing while it goes back, and all goes on from there."""
    times = [1000.0]
    ceiling = RateCeiling(10.0, clock=lambda: times[-1])
    assert ceiling.admit() is KEEP_ALL
    times.append(-1e9)
    assert ceiling.admit() is KEEP_ALL
    for _ in range(100):
        ceiling.admit()
    assert ceiling.probability < 0.1
    times.append(times[-1] + 10.0)
    assert ceiling.admit() is KEEP_ALL


def test_roots_of_many_threads_are_all_paid_for(clock: FakeClock, quick_switches: None) -> None:
    """Eight threads at once get no more than one alone would, give or take what each had in its hands."""
    alone = RateCeiling(1000.0, clock=clock)
    expected = sum(alone.admit().probability for _ in range(8 * 2000))
    shared = RateCeiling(1000.0, clock=clock)
    totals: list[float] = []
    start = threading.Barrier(8)

    def admit() -> None:
        start.wait()
        totals.append(sum(shared.admit().probability for _ in range(2000)))

    threads = [threading.Thread(target=admit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals) <= 1.2 * expected


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("0.25", "0.25"),
        (" 1 ", "1"),
        ("0", "0"),
        (".5", "0.5"),
        ("5e-1", "0.5"),
        ("rate=100", "rate=100"),
        (" Rate = 0.5 ", "rate=0.5"),
    ],
)
def test_what_the_environment_may_say(argument: str, shown: str) -> None:
    """A share of the roots, or roots a second."""
    assert repr(parse_ceiling(argument)) == shown


@pytest.mark.parametrize("argument", [None, "", "  "])
def test_saying_nothing_is_no_ceiling(argument: str | None) -> None:
    """As the specification has it of every variable."""
    assert parse_ceiling(argument) is None


@pytest.mark.parametrize(
    "argument",
    [
        "all",
        "1.1",
        "-0.1",
        "nan",
        "inf",
        "0.1.2",
        "1_0",
        "٣",
        "rate",
        "rate=",
        "rate=0",
        "rate=-1",
        "rate=nan",
        "rate=1e999",
        "rate=1_0",
        "share=0.5",
        "100/s",
    ],
)
def test_what_it_may_not_say(argument: str) -> None:
    """Anything else is an error that says what is allowed."""
    with pytest.raises(ValueError, match="a number from 0 to 1, or rate= and a number above 0"):
        parse_ceiling(argument)
