"""The demand: what is asked for, and the probability that leaves so much of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.control.threshold import NEVER, probability_of, threshold_of
from otel_shed.control.trace_demand import CHANGED, FAST_SECONDS, TraceDemand

TICK = 0.125


def demand_of(*traces: tuple[int, float], seconds: float = 4.0) -> TraceDemand:
    """Asked for by these traces, spans and the probability with which they came, ten times in each tick."""
    demand = TraceDemand()
    for _ in range(round(seconds / TICK)):
        for spans, probability in traces:
            for _ in range(10):
                demand.add(spans, threshold_of(probability))
        demand.look(TICK)
    return demand


def test_what_nobody_asked_for_needs_no_threshold() -> None:
    """Everything is kept until something is known."""
    assert TraceDemand().probability(0.0) == 1.0


def test_a_steady_demand_is_known_at_once() -> None:
    """An average over a time that has not passed yet is one over what has."""
    for seconds in (TICK, 1.0, 10.0):
        demand = demand_of((5, 1.0), seconds=seconds)
        assert demand.spans_per_second == pytest.approx(50 / TICK)
        assert demand.probability(100.0) == pytest.approx(100.0 / (50 / TICK))


def test_what_fits_is_kept() -> None:
    """The probability is 1 from there on."""
    assert demand_of((5, 1.0)).probability(400.0) == 1.0
    assert demand_of((5, 1.0)).probability(399.0) < 1.0


def test_traces_that_came_with_a_threshold_stand_for_others() -> None:
    """To keep half of what was sampled at a quarter, an eighth is to be written."""
    assert demand_of((5, 0.25)).probability(200.0) == pytest.approx(0.125, rel=1e-3)


def test_traces_that_came_with_less_than_the_rest_is_kept_with_are_all_kept() -> None:
    """They have been thinned out before."""
    demand = demand_of((5, 1.0), (5, 0.0625))
    # 400 spans a second of either kind.
    assert demand.probability(500.0) == pytest.approx(0.25, rel=1e-3)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 12).map(lambda halvings: 0.5**halvings)), min_size=1),
    st.floats(0.001, 0.999),
)
def test_the_probability_leaves_what_was_asked_for(traces: list[tuple[int, float]], share: float) -> None:
    """Whatever the traces came with."""
    demand = demand_of(*traces, seconds=TICK)
    wanted = share * demand.spans_per_second
    probability = demand.probability(wanted)
    came = [(10 * spans / TICK, probability_of(threshold_of(each))) for spans, each in traces]
    left = sum(spans * min(1.0, probability / each) for spans, each in came)
    assert left == pytest.approx(wanted)


@pytest.mark.parametrize(("before", "after"), [(1, 50), (50, 1), (0, 50), (50, 0)])
def test_a_demand_that_changes_at_once_is_followed_within_seconds(before: int, after: int) -> None:
    """Enough traces say so: the average begins anew."""
    demand = TraceDemand()
    for rate in (before, after):
        for _ in range(round((4.0 if rate is before else 2.0) / TICK)):
            for _ in range(rate):
                demand.add(10, None)
            demand.look(TICK)
    assert demand.spans_per_second == pytest.approx(10 * after / TICK, rel=0.05, abs=0.05 * 10 * before / TICK)


def test_few_traces_say_little() -> None:
    """One trace is no storm: the average stays that of seconds."""
    demand = TraceDemand()
    for tick in range(80):
        if tick % 8 == 0:
            demand.add(10, None)
        demand.look(TICK)
        if tick > 40:
            assert demand.spans_per_second == pytest.approx(10.0, rel=CHANGED - 1.0)


def test_ticks_of_any_length() -> None:
    """Whoever comes by sees to it, now and then."""
    demand = TraceDemand()
    for seconds in (0.1, 0.1, 3.0, 0.5, FAST_SECONDS, 60.0):
        for _ in range(round(seconds * 100)):
            demand.add(3, NEVER - 1)
        demand.look(seconds)
    assert demand.spans_per_second == pytest.approx(300.0, rel=0.01)
