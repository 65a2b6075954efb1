"""The rate budget: whatever the collector answers and whatever comes, what it says makes sense."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
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
            one.exported(now, now - min(seconds, 30.0), outcome, queued=so_far.queued, refusals=so_far.refusals)
            one.tick(now, so_far)
        state = one.state
        assert MIN_PROBABILITY * 0.99 <= state.in_force.probability <= 1.0
        assert state.spans_per_second is None or 0.0 < state.spans_per_second < math.inf
        assert 0.0 <= state.offered < math.inf


def test_knows_no_limit_before_there_is_a_sign_of_one() -> None:
    """A collector that takes all that comes is not held back."""
    one = budget()
    for second in range(60):
        so_far = Counts(roots=second * 100, kept=second * 100, spans=second * 1000, overflowed=0, queued=0)
        one.exported(float(second), second - 0.01, Outcome(1000, duration=0.01), queued=0, refusals=0)
        one.tick(float(second), so_far)
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


class Program:
    """Offers 500 roots of a span a second, and sends a batch a second; the collector answers as it is told to."""

    def __init__(self) -> None:
        self.budget = budget()
        self.now = 0.0
        self.counts = Counts(roots=0, kept=0, spans=0, queued=0)

    def second(self, *, refusals: int = 0, queued: int = 0) -> float | None:
        """Lives through one, in which the request is refused so often; the budget at its end."""
        for _ in range(10):
            self.now += 0.1
            counted = {name: getattr(self.counts, name) + 50 for name in ("roots", "kept", "spans")}
            self.counts = replace(self.counts, **counted, queued=queued)
            self.budget.tick(self.now, self.counts)
        self.counts = replace(self.counts, refusals=self.counts.refusals + refusals)
        taken = Outcome(500, attempts=1 + refusals, duration=0.01)
        self.budget.exported(self.now, self.now - 0.01, taken, queued=queued, refusals=self.counts.refusals)
        self.budget.tick(self.now, self.counts)
        return self.known()

    def known(self) -> float | None:
        """The budget, as it is seen a moment later."""
        self.budget.tick(self.now + 0.06, self.counts)
        return self.budget.state.spans_per_second


def in_company() -> Program:
    """One that shares a collector, and has a budget near to what it offers."""
    program = Program()
    for _ in range(10):
        program.second()
    program.second(refusals=2)
    for _ in range(5):
        program.second()
    return program


def test_a_refusal_costs_the_same_part_of_whatever_there_is() -> None:
    """In company, 7 %, once a call."""
    program = in_company()
    before = program.second()
    assert before is not None
    assert program.second(refusals=3) == pytest.approx(0.93 * before)


def test_the_call_after_a_refused_one_costs_nothing() -> None:
    """It was sent before the cut could tell."""
    program = in_company()
    cut = program.second(refusals=1)
    assert program.second(refusals=1) == cut
    program.second()
    assert (program.second(refusals=1) or 0.0) < (cut or 0.0)


def test_a_refusal_tells_at_once() -> None:
    """And not when its call comes to its end, which may take minutes of waits."""
    program = in_company()
    before = program.second()
    assert before is not None
    program.counts = replace(program.counts, refusals=program.counts.refusals + 1)
    program.now += 0.1
    assert program.known() == pytest.approx(0.93 * before)


def test_who_has_more_grows_by_a_smaller_part() -> None:
    """For each answer, in company; alone each grows by as much."""
    program = in_company()
    parts = []
    for _ in range(3):
        before = program.second()
        after = program.second()
        assert before is not None
        assert after is not None
        parts.append((before, after / before - 1))
        for _ in range(4):
            program.second(refusals=1)
            program.second()
    assert parts == sorted(parts, reverse=True)
    (most, least_part), *_, (least, most_part) = parts
    assert most > least
    assert least_part == pytest.approx(most_part * (least / most) ** 1.5, rel=0.01)


def test_silence_halves_once() -> None:
    """Until the next answer; one that nobody answers again says nothing new."""
    program = in_company()
    before = program.second()
    assert before is not None
    lost = Outcome(0, reason=DropReason.RETRY_EXHAUSTED, attempts=5, duration=20.0)
    for _ in range(2):
        program.now += 20.0
        program.budget.exported(program.now, program.now - 20.0, lost, queued=0, refusals=program.counts.refusals)
        program.budget.tick(program.now, program.counts)
        assert program.known() == pytest.approx(before / 2)
