"""Rates and ratios that forget: exact at an even pace, whatever the intervals, and slow to forget as they say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.control.rates import Rate, Ratio

seconds = st.floats(0.01, 100.0)


@given(st.floats(0.0, 1e6), st.lists(seconds, min_size=1, max_size=20))
def test_an_even_pace_is_its_rate_from_the_first_interval_on(pace: float, intervals: list[float]) -> None:
    """However long the intervals are."""
    rate = Rate(10.0)
    for interval in intervals:
        rate.add(pace * interval, interval)
        assert rate.value == pytest.approx(pace)
    assert rate.seconds == pytest.approx(sum(intervals))


@given(st.floats(0.0, 1e4), st.floats(0.0, 1e4), seconds, st.integers(2, 10))
def test_an_interval_is_the_sum_of_its_parts(before: float, pace: float, interval: float, parts: int) -> None:
    """One of any length adds as much as its parts one by one."""
    whole, split = Rate(10.0), Rate(10.0)
    for rate in (whole, split):
        rate.add(5 * before, 5.0)
    whole.add(pace * interval, interval)
    for _ in range(parts):
        split.add(pace * interval / parts, interval / parts)
    assert whole.value == pytest.approx(split.value, abs=1e-6)


def test_after_its_memory_an_event_counts_for_a_third() -> None:
    """1/e of what it did, when as many seconds were measured before as can be remembered."""
    rate = Rate(10.0)
    rate.add(100.0 * 1000.0, 1000.0)
    rate.add(0.0, 10.0)
    assert rate.value == pytest.approx(100.0 / math.e)


@given(st.floats(0.0, 1e4), seconds, st.floats(0.0, 1e4), seconds)
def test_what_would_be_is_what_comes_to_be(count: float, interval: float, more: float, longer: float) -> None:
    """``if_added`` says what ``add`` does, and changes nothing."""
    rate = Rate(10.0)
    rate.add(count, interval)
    before = rate.value
    expected = rate.if_added(more, longer)
    assert rate.value == before
    rate.add(more, longer)
    assert rate.value == pytest.approx(expected)


def test_a_rate_that_was_cleared_begins_anew() -> None:
    """Nothing of what was measured before is left."""
    rate = Rate(10.0)
    rate.add(1e6, 10.0)
    rate.clear()
    assert (rate.value, rate.seconds) == (0.0, 0.0)
    rate.add(7.0, 1.0)
    assert rate.value == pytest.approx(7.0)


def test_a_ratio_has_no_value_before_there_is_something_to_divide_by() -> None:
    """Then it is what one says it is."""
    ratio = Ratio(10.0)
    assert ratio.value(otherwise=3.0) == 3.0
    ratio.add(5.0, 0.0, 1.0)
    assert ratio.value(otherwise=3.0) == 3.0
    ratio.add(0.0, 2.0, 0.0)
    assert ratio.value(otherwise=3.0) == pytest.approx(2.5)
    assert ratio.value(otherwise=3.0, least=2.0) == 3.0


def test_a_ratio_forgets_both_at_once() -> None:
    """After its memory what was counted counts for 1/e, above and below."""
    ratio = Ratio(10.0)
    ratio.add(20.0, 10.0, 1.0)
    ratio.add(0.0, 10.0 / math.e, 10.0)
    assert ratio.value(otherwise=0.0) == pytest.approx(1.0)
