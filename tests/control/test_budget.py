"""The rate budget: whatever the collector answers and whatever comes, what it says makes sense."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.control.budget import Counts, RateBudget
from otel_shed.outcome import DropReason, Outcome

MIN_PROBABILITY = 0.05

counts = st.integers(0, 5000)
calls = st.tuples(
    st.floats(0.0, 120.0),  # seconds since the last
    st.tuples(counts, counts, counts, counts, st.integers(0, 2048), st.integers(0, 3)),
    st.none() | st.sampled_from([None, *DropReason]).map(lambda reason: (reason,)),
    st.integers(0, 512),
)


def budget() -> RateBudget:
    return RateBudget(queue_capacity=2048, batch_size=512, min_probability=MIN_PROBABILITY, random=lambda: 0.5)


@settings(max_examples=200, deadline=None)
@given(st.lists(calls, max_size=60))
def test_says_what_makes_sense_whatever_happens(history: list[tuple[float, tuple[int, ...], object, int]]) -> None:
    """A probability from the trickle to 1, a budget that is None or finite and more than 0, a demand that is finite."""
    one = budget()
    now, so_far = 0.0, Counts(roots=0, kept=0, spans=0, overflowed=0, queued=0)
    for seconds, (roots, left_out, spans, overflowed, queued, refusals), exported, taken in history:
        now += seconds
        so_far = replace(
            so_far,
            roots=so_far.roots + roots,
            kept=so_far.kept + max(0, roots - left_out),
            spans=so_far.spans + spans,
            overflowed=so_far.overflowed + overflowed,
            queued=queued,
            refusals=so_far.refusals + refusals,
        )
        if exported is None:
            one.tick(now, so_far)
        else:
            (reason,) = exported  # type: ignore[misc]
            outcome = Outcome(taken if reason is None else 0, reason=reason, attempts=1 + refusals, duration=seconds)
            one.exported(now, now - min(seconds, 30.0), outcome, so_far)
        state = one.state
        assert MIN_PROBABILITY * 0.99 <= state.in_force.probability <= 1.0
        assert state.spans_per_second is None or 0.0 < state.spans_per_second < math.inf
        assert 0.0 <= state.offered < math.inf


def test_knows_no_limit_before_there_is_a_sign_of_one() -> None:
    """A collector that takes all that comes is not held back."""
    one = budget()
    for second in range(60):
        so_far = Counts(roots=second * 100, kept=second * 100, spans=second * 1000, overflowed=0, queued=0)
        one.exported(float(second), second - 0.01, Outcome(1000, duration=0.01), so_far)
        one.tick(second + 0.5, so_far)
        assert (one.state.spans_per_second, one.state.in_force.probability) == (None, 1.0)


def test_counts_that_begin_anew_say_nothing() -> None:
    """After a fork they are small again: neither the budget nor the demand goes below 0, nor does either jump."""
    one = budget()
    for second in range(20):
        one.tick(float(second), Counts(roots=second * 50, kept=second * 50, spans=second * 500, overflowed=0, queued=0))
    before = one.state.offered
    one.restart()
    one.tick(20.0, Counts(roots=3, kept=3, spans=30, overflowed=0, queued=0))
    one.tick(21.0, Counts(roots=53, kept=53, spans=530, overflowed=0, queued=0))
    assert 0.0 <= one.state.offered <= 2 * before + 1000
