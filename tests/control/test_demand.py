"""The demand: what is shed is part of it, and what begins anew says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.control.demand import SIZE_SECONDS, WINDOW_SECONDS, Demand


class Program:
    """Starts traces at an even pace, of which a share is kept and a share of whose spans is of low priority."""

    def __init__(self) -> None:
        self.demand = Demand()
        self.now = 0.0
        self.roots = self.kept = self.spans = self.low = 0.0

    def live(
        self, seconds: float, *, roots: float, size: float, kept: float = 1.0, low: float = 0.0, ceiling: float = 1.0
    ) -> Demand:
        """So many roots a second, spans a root, shares kept and shed as LOW; a look each tenth of a second."""
        for _ in range(round(10 * seconds)):
            self.now += 0.1
            self.roots += roots / 10
            self.kept += kept * roots / 10
            self.spans += kept * roots * size * (1 - low) / 10
            self.low += kept * roots * size * low / 10
            self.demand.note(
                self.now,
                roots=round(self.roots),
                kept=round(self.kept),
                spans=round(self.spans),
                low=round(self.low),
                ceiling=ceiling,
            )
        return self.demand


def test_knows_nothing_at_first() -> None:
    """A first look is no rate."""
    demand = Program().live(0.1, roots=100.0, size=10.0)
    assert (demand.roots, demand.arrivals, demand.offered, demand.wanted) == (0.0, 0.0, 0.0, 0.0)
    assert demand.spans_per_root == 1.0


@pytest.mark.parametrize("kept", [1.0, 0.5, 0.1])
def test_what_is_sampled_out_is_part_of_it(kept: float) -> None:
    """100 roots of 10 spans are 1,000 spans a second, however many of them are kept."""
    demand = Program().live(30.0, roots=100.0, size=10.0, kept=kept)
    assert demand.roots == pytest.approx(100.0, rel=0.02)
    assert demand.arrivals == pytest.approx(1000.0 * kept, rel=0.02)
    assert demand.spans_per_root == pytest.approx(10.0, rel=0.02)
    assert demand.wanted == pytest.approx(1000.0, rel=0.03)
    assert demand.offered == pytest.approx(1000.0, rel=0.03)


def test_low_priority_is_offered_but_not_wanted() -> None:
    """What is shed for it would be back as soon as shedding ends; what a kept root brings is without it."""
    demand = Program().live(30.0, roots=100.0, size=10.0, low=0.4)
    assert demand.spans_per_root == pytest.approx(6.0, rel=0.02)
    assert demand.wanted == pytest.approx(600.0, rel=0.03)
    assert demand.offered == pytest.approx(1000.0, rel=0.03)


def test_a_ceiling_is_no_demand() -> None:
    """What may not be kept for other reasons will not come."""
    demand = Program().live(30.0, roots=100.0, size=10.0, kept=0.25, ceiling=0.25)
    assert demand.offered == pytest.approx(250.0, rel=0.05)


def test_low_priority_shows_within_the_window() -> None:
    """It begins to be shed all at once, and what a root brings follows sooner than a trace's size is forgotten."""
    program = Program()
    program.live(30.0, roots=100.0, size=10.0)
    demand = program.live(2 * WINDOW_SECONDS, roots=100.0, size=10.0, low=0.5)
    assert 2 * WINDOW_SECONDS < SIZE_SECONDS
    assert demand.spans_per_root == pytest.approx(5.0, rel=0.15)


def test_a_storms_end_is_seen_within_the_window() -> None:
    """And not slowly: nothing is left of it then."""
    program = Program()
    program.live(30.0, roots=1000.0, size=10.0)
    demand = program.live(WINDOW_SECONDS + 0.1, roots=10.0, size=10.0)
    assert demand.offered == pytest.approx(100.0, rel=0.1)


def test_counts_that_begin_anew_are_no_rate() -> None:
    """After a fork they are small again."""
    program = Program()
    program.live(10.0, roots=100.0, size=10.0)
    program.roots = program.kept = program.spans = program.low = 0.0
    demand = program.live(1.0, roots=100.0, size=10.0)
    assert 0.0 <= demand.offered <= 1100.0


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(0.01, 60.0), *[st.integers(0, 10_000)] * 4, st.floats(0.0, 1.0)), max_size=40))
def test_is_finite_whatever_is_counted(looks: list[tuple[float, int, int, int, int, float]]) -> None:
    """And never less than 0; at least a span comes of a root, but for low priority."""
    demand, now = Demand(), 0.0
    for seconds, roots, kept, spans, low, ceiling in looks:
        now += seconds
        demand.note(now, roots=roots, kept=kept, spans=spans, low=low, ceiling=ceiling)
        assert 0.0 <= demand.roots <= 10_000
        assert 0.0 <= demand.arrivals <= 10_000
        # 40 looks' spans, of a hundredth of a root.
        assert 0.0 <= demand.spans_per_root <= 40 * 20_000 * 100
        assert 0.0 <= demand.offered < 1e13


def test_spans_that_come_long_after_the_last_root_are_not_of_it() -> None:
    """A program that was idle, and is then called by others, has no roots of thousands of spans."""
    demand = Demand()
    demand.note(0.0, roots=0, kept=0, spans=0, low=0, ceiling=1.0)
    demand.note(1.0, roots=1, kept=1, spans=10, low=0, ceiling=1.0)
    assert demand.spans_per_root == 10.0
    demand.note(121.0, roots=1, kept=1, spans=10, low=0, ceiling=1.0)
    demand.note(122.0, roots=1, kept=1, spans=5_010, low=0, ceiling=1.0)
    assert demand.spans_per_root == 1.0
