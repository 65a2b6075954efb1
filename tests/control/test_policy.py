"""The policy by default: what is worth the budget, and honest thresholds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.control.policy import BudgetPolicy, Conditions
from otel_shed.control.threshold import NEVER, adjusted_count, probability_of, threshold_of
from otel_shed.outcome import DropReason
from otel_shed.pipeline.verdict import TraceView, Verdict
from otel_shed.record import Priority

NO_LIMIT = Conditions()
VIEW = TraceView(1, NEVER // 2, None, Priority.NORMAL, False, 0.5, 10, 1000, 0.0, 0, 0)


class Asked:
    """A policy that is asked about traces at random times, and what it said."""

    def __init__(self, *, conditions: Conditions = NO_LIMIT, seed: int = 1, **settings: float | None) -> None:
        self.conditions = conditions
        self.policy = BudgetPolicy(conditions=lambda now: self.conditions, **settings)  # type: ignore[arg-type]
        self.rng = random.Random(seed)
        self.now = 0.0
        self.ready = self.kept = 0

    def run(
        self, seconds: float, spans_per_second: float, view: Callable[[], TraceView] = lambda: VIEW
    ) -> Iterator[tuple[TraceView, Verdict]]:
        """Traces that end so often, as spans are counted."""
        until = self.now + seconds
        while True:
            trace = view()
            self.now += self.rng.expovariate(spans_per_second / trace.spans)
            if self.now > until:
                return
            trace = replace(trace, randomness=self.rng.randrange(NEVER), now=self.now, ready=self.ready, kept=self.kept)
            if trace.threshold is None or trace.randomness >= trace.threshold:
                verdict = self.policy(trace)
                self.kept += 0 if verdict.reason else trace.spans
                yield trace, verdict


def spans(answers: Iterator[tuple[TraceView, Verdict]], kind: Callable[[TraceView], bool] = lambda _: True) -> int:
    """Spans kept, of some kind."""
    return sum(trace.spans for trace, verdict in answers if verdict.reason is None and kind(trace))


def mixed(rng: random.Random, failing: float) -> Callable[[], TraceView]:
    return lambda: replace(VIEW, failed=rng.random() < failing)


def test_while_no_limit_is_known_all_is_kept() -> None:
    """Nothing is written that was not there."""
    asked = Asked()
    assert {verdict for _, verdict in asked.run(10.0, 5000.0)} == {Verdict(threshold=0)}


def test_what_fits_the_budget_is_kept() -> None:
    """A limit that is not reached costs nothing."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    assert {verdict for _, verdict in asked.run(30.0, 300.0)} == {Verdict(threshold=0)}


@pytest.mark.parametrize("offered", [550.0, 1000.0, 5000.0, 50_000.0])
def test_what_is_kept_is_the_budget(offered: float) -> None:
    """To within some percent, from the first seconds on."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    assert spans(asked.run(2.0, offered)) <= 2.0 * 500 + 1.25 * 500
    for _ in range(3):
        assert spans(asked.run(10.0, offered)) == pytest.approx(5000, rel=0.08)


@pytest.mark.parametrize("size", [1, 30])
def test_what_is_kept_is_the_budget_for_traces_of_any_size(size: int) -> None:
    """Small or large."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    assert spans(asked.run(30.0, 3000.0, lambda: replace(VIEW, spans=size))) == pytest.approx(15_000, rel=0.05)


def test_chance_is_made_up_for() -> None:
    """Where a trace is most of a second's budget, thresholds alone would be wrong by a tenth within two minutes."""
    for seed in range(4):
        asked = Asked(conditions=Conditions(spans_per_second=500.0), seed=seed)
        kept = spans(asked.run(120.0, 5000.0, lambda: replace(VIEW, spans=300)))
        assert kept == pytest.approx(60_000, rel=0.025)


def test_what_comes_late_of_a_kept_trace_is_paid_for() -> None:
    """Where a trace is decided before most of it has ended, as when there is no room; and so is what is left out."""
    for late in (8, -1):
        asked = Asked(conditions=Conditions(spans_per_second=500.0))
        for seconds in (20.0, 60.0):
            before = asked.kept
            for _, verdict in asked.run(seconds, 1500.0, lambda: replace(VIEW, spans=2)):
                asked.kept += 0 if verdict.reason else late
        assert asked.kept - before == pytest.approx(60 * 500, rel=0.05)


def test_a_storm_is_met_at_once() -> None:
    """When the demand rises a hundredfold, what is too much is little more than a second of the budget."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    spans(asked.run(20.0, 50.0))
    assert spans(asked.run(2.0, 5000.0)) <= 2.0 * 500 + 1.25 * 500


def test_after_the_storm_all_is_kept_within_seconds() -> None:
    """When the demand is back below the budget."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    spans(asked.run(20.0, 5000.0))
    spans(asked.run(3.0, 300.0))
    assert {verdict.threshold for _, verdict in asked.run(10.0, 300.0)} == {0}


@pytest.mark.parametrize(
    "claim", [{"failed": True}, {"priority": Priority.HIGH}, {"priority": Priority.CRITICAL}, {"duration": 2.0}]
)
def test_what_failed_is_slow_or_of_high_priority_is_kept_as_it_came(claim: dict[str, object]) -> None:
    """As long as its share is enough, however little of the rest is kept; and it gives way last."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0), slow_trace=2.0)
    rng = random.Random(2)
    view = lambda: replace(VIEW, **claim) if rng.random() < 0.01 else VIEW  # noqa: E731
    answers = list(asked.run(30.0, 5000.0, view))
    claimed = {verdict for trace, verdict in answers if replace(trace, **claim) == trace}
    assert claimed == {Verdict(rank=Priority.HIGH)}
    assert spans(iter(answers)) == pytest.approx(15_000, rel=0.08)


def test_slow_is_for_the_local_root_to_say() -> None:
    """Without a limit, or while the local root has not ended, no trace is slow."""
    conditions = Conditions(min_priority=Priority.NORMAL)
    trace = replace(VIEW, priority=Priority.LOW, duration=1e9)
    assert BudgetPolicy(conditions=lambda _: conditions)(trace).reason is DropReason.LOW_PRIORITY
    policy = BudgetPolicy(conditions=lambda _: conditions, slow_trace=1.0)
    assert policy(replace(trace, duration=None)).reason is DropReason.LOW_PRIORITY
    assert policy(replace(trace, duration=1.0)).reason is None


def test_failures_beyond_their_share_are_sampled_too() -> None:
    """By a threshold of their own, which they say; the others have the rest."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0), keep_share=0.6)
    list(asked.run(10.0, 5000.0, mixed(asked.rng, 0.5)))
    answers = list(asked.run(60.0, 5000.0, mixed(asked.rng, 0.5)))
    assert spans(iter(answers), lambda trace: trace.failed) == pytest.approx(60 * 300, rel=0.05)
    assert spans(iter(answers), lambda trace: not trace.failed) == pytest.approx(60 * 200, rel=0.05)
    assert all(verdict.threshold for trace, verdict in answers if trace.failed)


def test_failures_may_use_what_the_others_leave() -> None:
    """The share is what they can count on, and no limit."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0), keep_share=0.1)
    list(asked.run(10.0, 1000.0, mixed(asked.rng, 0.9)))
    answers = list(asked.run(60.0, 1000.0, mixed(asked.rng, 0.9)))
    assert spans(iter(answers), lambda trace: trace.failed) == pytest.approx(60 * 400, rel=0.06)
    assert spans(iter(answers), lambda trace: not trace.failed) == pytest.approx(60 * 100, rel=0.1)


def test_without_a_share_nothing_is_kept_back_for_failures() -> None:
    """They have what the others leave, here nothing; but no threshold says never."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0), keep_share=0.0)
    list(asked.run(5.0, 5000.0, mixed(asked.rng, 0.5)))
    assert spans(asked.run(10.0, 5000.0, mixed(asked.rng, 0.5)), lambda trace: trace.failed) < 100


def test_the_traces_kept_count_for_those_that_were_not() -> None:
    """The sum of what they stand for is their number: on average over many storms within a percent."""
    estimated = true = 0.0
    for seed in range(60):
        asked = Asked(conditions=Conditions(spans_per_second=200.0), seed=seed)
        for _, verdict in asked.run(10.0, 3000.0, mixed(asked.rng, 0.2)):
            true += 1
            if verdict.reason is None:
                estimated += adjusted_count(verdict.threshold or 0)
    assert estimated == pytest.approx(true, rel=0.015)


def test_what_came_with_a_threshold_is_thinned_out_from_there() -> None:
    """Sampled at a fifth before, and kept for a budget of half of that: the threshold says a tenth."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    view = replace(VIEW, threshold=threshold_of(0.2))
    list(asked.run(10.0, 5000.0, lambda: view))
    kept = [verdict for _, verdict in asked.run(30.0, 5000.0, lambda: view) if verdict.reason is None]
    assert len(kept) * 10 == pytest.approx(30 * 500, rel=0.05)
    average = sum(probability_of(verdict.threshold or 0) for verdict in kept) / len(kept)
    assert average == pytest.approx(0.1, rel=0.1)


@given(st.lists(st.integers(0, NEVER - 1), min_size=2, max_size=20))
def test_a_threshold_does_not_depend_on_the_trace_it_is_for(randomnesses: list[int]) -> None:
    """Asked about any of them at the same moment it says the same, and keeps those that reach it."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    list(asked.run(2.0, 2000.0))
    verdicts = [asked.policy(replace(VIEW, randomness=randomness, now=asked.now)) for randomness in randomnesses]
    assert len({verdict.threshold for verdict in verdicts}) == 1
    for randomness, verdict in zip(randomnesses, verdicts, strict=True):
        assert (verdict.reason is None) == (randomness >= (verdict.threshold or 0))


def test_a_backlog_takes_its_part_of_the_budget_and_at_most_half() -> None:
    """What was kept and waits is to go out too; what is new still gets through."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0), standing=700)
    for ready, rate in ((700, 500), (700 + 600, 400), (100_000, 250)):
        asked.ready = ready
        spans(asked.run(10.0, 5000.0))
        assert spans(asked.run(20.0, 5000.0)) == pytest.approx(20 * rate, rel=0.08)


def test_of_a_small_budget_less_may_stand() -> None:
    """Five seconds of it."""
    asked = Asked(conditions=Conditions(spans_per_second=60.0), standing=700)
    asked.ready = 300 + 180
    spans(asked.run(60.0, 5000.0))
    assert spans(asked.run(120.0, 5000.0)) == pytest.approx(120 * 30, rel=0.08)


def test_traces_of_low_priority_are_shed_where_the_phase_says_so() -> None:
    """Unless they failed; and the low spans of those that are kept are left out."""
    asked = Asked(conditions=Conditions(min_priority=Priority.NORMAL))
    low = replace(VIEW, priority=Priority.LOW)
    assert asked.policy(low) == Verdict(DropReason.LOW_PRIORITY)
    assert asked.policy(replace(low, failed=True)) == Verdict(min_priority=Priority.NORMAL, rank=Priority.HIGH)
    assert asked.policy(VIEW) == Verdict(threshold=0, min_priority=Priority.NORMAL)


def test_where_all_that_is_optional_is_shed_a_trickle_stays() -> None:
    """Of NORMAL traces, by a threshold; what is kept for what it is stays whole but for its LOW spans."""
    asked = Asked(conditions=Conditions(min_priority=Priority.HIGH, probability_floor=0.01))
    answers = list(asked.run(100.0, 10_000.0))
    kept = [verdict for _, verdict in answers if verdict.reason is None]
    assert len(kept) == pytest.approx(1000, rel=0.15)
    assert set(kept) == {Verdict(threshold=threshold_of(0.01), min_priority=Priority.NORMAL)}
    assert {verdict.reason for _, verdict in answers} == {None, DropReason.LOW_PRIORITY}
    assert asked.policy(replace(VIEW, priority=Priority.LOW, randomness=NEVER - 1)).reason is DropReason.LOW_PRIORITY
    assert asked.policy(replace(VIEW, failed=True)).min_priority is Priority.NORMAL


def test_the_conditions_are_asked_for_ten_times_a_second() -> None:
    """Whoever holds them need not be quick for each trace."""
    times: list[float] = []

    def conditions(now: float) -> Conditions:
        times.append(now)
        return Conditions()

    policy = BudgetPolicy(conditions=conditions)
    for tick in range(1000):
        policy(replace(VIEW, now=tick / 1000))
    assert 9 <= len(times) <= 11


def test_a_clock_that_goes_back_does_no_harm() -> None:
    """The policy begins its measure there."""
    asked = Asked(conditions=Conditions(spans_per_second=500.0))
    list(asked.run(10.0, 5000.0))
    asked.now = 1.0
    list(asked.run(5.0, 5000.0))
    assert spans(asked.run(10.0, 5000.0)) == pytest.approx(5000, rel=0.08)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("keep_share", -0.1), ("keep_share", 1.1), ("slow_trace", -1.0), ("slow_trace", float("inf")), ("standing", -1)],
)
def test_wrong_settings_are_told(setting: str, value: float) -> None:
    """By name, value and range."""
    with pytest.raises(ValueError, match=setting):
        BudgetPolicy(conditions=lambda _: Conditions(), **{setting: value})  # type: ignore[arg-type]


def test_the_probability_is_that_of_a_trace_without_claims() -> None:
    """Where only the important go out it is none, and it does not go below what is to be kept in any case."""
    asked = Asked(conditions=Conditions(spans_per_second=100.0, min_priority=Priority.HIGH, summarizes=True))
    asked.policy(VIEW)
    assert asked.policy.probability < 1e-9
    policy = BudgetPolicy(conditions=lambda now: Conditions(spans_per_second=1.0), min_probability=0.2)
    for tenth in range(100):
        for _ in range(50):
            policy(replace(VIEW, now=tenth / 10))
    assert policy.probability == pytest.approx(0.2, rel=0.01)
