"""Signals of what is held and dropped: intake fill, bytes held, drops a second, more offered than is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_shed.control.brownout import Brownout
from otel_shed.control.phase import Phase
from otel_shed.control.phase_table import phase_table
from otel_shed.control.pressure import Levels
from otel_shed.control.signals.queue import DropRate, HeldBytes, IntakeFill, OverBudget
from otel_shed.testing.clock import FakeClock


class Gauge:
    """A number that a test sets."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def __call__(self) -> float:
        return self.value


def phases(
    brownout: Brownout, clock: FakeClock, seconds: float, each: Callable[[], None] = lambda: None
) -> list[Phase]:
    """The phases that it goes through when asked ten times a second."""
    seen: list[Phase] = []
    for _ in range(round(seconds * 10)):
        clock.advance(0.1)
        each()
        phase = brownout.row().phase
        if not seen or seen[-1] is not phase:
            seen.append(phase)
    return seen


def test_intake_fill_is_the_square_root() -> None:
    """A queue that is 56 % full is 0.75, one that is a quarter full 0.50; the reason is its name."""
    fill = Gauge(0.5625)
    signal = IntakeFill(fill)
    assert (signal.read(0.0).pressure, signal.read(0.0).reason) == (0.75, "intake_fill")
    fill.value = 0.25
    assert signal.read(0.0).pressure == 0.50


def test_a_queue_three_quarters_full_begins_shedding(clock: FakeClock) -> None:
    """Parity D1: with the defaults an intake at 75 % means DEGRADE at once, and below a quarter for 3 s ends it."""
    fill = Gauge(0.75)
    brownout = Brownout(signals=[IntakeFill(fill)], clock=clock)
    assert brownout.row().phase is Phase.DEGRADE
    fill.value = 0.24
    assert phases(brownout, clock, 3.2)[-1] is Phase.RECOVERY


def test_a_full_queue_is_never_the_worst(clock: FakeClock) -> None:
    """A queue that is full for however long is DEGRADE: what it loses is told by the drops."""
    brownout = Brownout(signals=[IntakeFill(Gauge(1.0))], clock=clock)
    assert phases(brownout, clock, 600.0) == [Phase.DEGRADE]


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_intake_fill_goes_no_further_with_any_levels(one: float, other: float, fill: float) -> None:
    """Whatever the levels are, the fullest queue stays below where everything optional is shed."""
    leave, enter = sorted((one, other))
    assume(leave < enter)
    levels = Levels(enter=enter, leave=leave)
    worst = phase_table(levels=levels)[Phase.SHED_OPTIONAL].enter
    assert IntakeFill(Gauge(fill), levels=levels).read(0.0).pressure < worst or enter == 1.0


def test_held_bytes_follow_the_curve() -> None:
    """Half of what may be held is 0.50, nine tenths of it for a while are the worst."""
    held = Gauge(500)
    signal = HeldBytes(held, 1000)  # type: ignore[arg-type]
    assert (signal.read(0.0).pressure, signal.read(0.0).reason) == (0.50, "held_bytes")
    held.value = 900
    assert signal.read(0.0).pressure == 0.9
    assert signal.read(4.9).pressure == 0.9
    assert signal.read(5.0).pressure > 0.95


def dropping(rate: float, clock: FakeClock) -> tuple[DropRate, Callable[[], None]]:
    """The signal and what drops so many spans a second, when called ten times a second."""
    dropped = [0.0]

    def drop() -> None:
        dropped[0] += rate / 10

    return DropRate(lambda: int(dropped[0] + 1e-9)), drop


def test_five_drops_a_second_begin_shedding(clock: FakeClock) -> None:
    """Parity D1: five drops within a second are DEGRADE; fewer, for however long, are not."""
    signal, drop = dropping(5.0, clock)
    assert phases(Brownout(signals=[signal], clock=clock), clock, 1.3, drop)[-1] is Phase.DEGRADE
    signal, drop = dropping(4.0, clock)
    assert Phase.DEGRADE not in phases(Brownout(signals=[signal], clock=clock), clock, 60, drop)


def test_a_burst_of_drops_between_two_readings(clock: FakeClock) -> None:
    """What counts is the window, not the moment: a queue that was full between two readings shows."""
    dropped = Gauge(0)
    brownout = Brownout(signals=[DropRate(dropped)], clock=clock)  # type: ignore[arg-type]
    brownout.row()
    dropped.value = 50
    clock.advance(0.1)
    assert brownout.row().phase is Phase.DEGRADE


def test_drops_before_a_long_silence_are_not_a_storm(clock: FakeClock) -> None:
    """Twenty drops since the last reading a minute ago are not twenty a second."""
    dropped = Gauge(0)
    signal = DropRate(dropped)  # type: ignore[arg-type]
    signal.read(0.0)
    dropped.value = 20
    assert signal.read(60.0).pressure < 0.75


def test_three_seconds_without_a_drop_end_it(clock: FakeClock) -> None:
    """Parity D1: shedding ends 3 s after the last drop, and a single drop in between begins the 3 s anew."""
    dropped = Gauge(0)
    brownout = Brownout(signals=[DropRate(dropped)], clock=clock)  # type: ignore[arg-type]
    brownout.row()
    dropped.value = 20
    assert phases(brownout, clock, 2.9) == [Phase.DEGRADE]
    dropped.value = 21
    assert phases(brownout, clock, 3.0) == [Phase.DEGRADE]
    assert phases(brownout, clock, 0.3)[-1] is Phase.RECOVERY


def test_hundreds_of_drops_a_second_are_the_worst_if_they_last(clock: FakeClock) -> None:
    """A storm that DEGRADE does not master within five seconds, when old traces have ended, is SHED_OPTIONAL."""
    signal, drop = dropping(500.0, clock)
    brownout = Brownout(signals=[signal], clock=clock)
    assert phases(brownout, clock, 5.0, drop)[-1] is Phase.DEGRADE
    assert phases(brownout, clock, 2.0, drop) == [Phase.DEGRADE, Phase.SHED_OPTIONAL]


def test_drops_count_from_the_first_reading() -> None:
    """What was dropped before the signal was made, or before a fork, is not a storm of now."""
    dropped = Gauge(1_000_000)
    signal = DropRate(dropped)  # type: ignore[arg-type]
    assert signal.read(0.0).pressure == 0.0
    dropped.value = 3
    assert signal.read(0.1).pressure == 0.0
    dropped.value = 30
    assert signal.read(0.2).pressure > 0.75


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(-10, 10_000)), max_size=50))
@settings(deadline=None)
def test_drop_rate_is_always_a_pressure(changes: list[tuple[float, int]]) -> None:
    """Whatever clock and count do, it reads from 0 to 1, and remembers no more than its window."""
    now, count = 100.0, 0
    signal = DropRate(lambda: count)
    for wait, more in changes:
        now, count = now + wait, max(0, count + more)
        assert 0.0 <= signal.read(now).pressure <= 1.0


@pytest.mark.parametrize("demand", [0.91, 1.0, 1.1, 2.0, 9.0])
def test_overload_that_is_held_stays_degraded(clock: FakeClock, demand: float) -> None:
    """As long as more is offered than is taken the phase stays DEGRADE, although the queue is empty by now."""
    fill, offered = Gauge(0.9), Gauge(demand * 1000)
    brownout = Brownout(signals=[IntakeFill(fill), OverBudget(offered, Gauge(1000))], clock=clock)
    assert brownout.row().phase is Phase.DEGRADE
    fill.value = 0.01
    assert phases(brownout, clock, 600) == [Phase.DEGRADE]
    offered.value = 800
    assert phases(brownout, clock, 7) == [Phase.DEGRADE, Phase.RECOVERY, Phase.NORMAL]


def test_over_budget_begins_no_shedding(clock: FakeClock) -> None:
    """A demand of any size begins no shedding by itself, and no known budget is no pressure."""
    offered, budget = Gauge(1e9), Gauge(1)
    brownout = Brownout(signals=[OverBudget(offered, budget)], clock=clock)
    assert brownout.row().phase in (Phase.NORMAL, Phase.OBSERVE)
    assert OverBudget(offered, lambda: None).read(0.0).pressure == 0.0
    budget.value = 0
    assert brownout.snapshot().pressure < 0.75
    offered.value = 0
    clock.advance(1)
    assert brownout.snapshot().pressure == 0.0
