"""The share of the budget for what is worth more: kept to, by randomness, of what the sampler has left."""

from __future__ import annotations

from random import Random

import pytest

from otel_shed.control.keep_share import KeepShare
from otel_shed.control.threshold import NEVER, probability_of, threshold_of
from otel_shed.testing.clock import FakeClock
from tests.control.spans import span

BUDGET = 500.0
LOW_RANDOMNESS, HIGH_RANDOMNESS = 1, NEVER - 1


def kept_per_second(keep: KeepShare, clock: FakeClock, rate: float, *, threshold: int = 0, seconds: int = 20) -> float:
    """Spans a second that are kept, when so many come, each of a trace of its own that has reached ``threshold``."""
    random, kept = Random(11), 0
    warm = 5
    for number in range(round(rate * (warm + seconds))):
        clock.advance(1.0 / rate)
        trace_id = random.randrange(threshold, NEVER)
        if keep(span(trace_id=trace_id, threshold=threshold)) and number >= rate * warm:
            kept += 1
    return kept / seconds


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("rate", [1_000.0, 5_000.0])
def test_keeps_to_its_share(share: float, rate: float, clock: FakeClock) -> None:
    """However many come, what is kept is the share of the budget, to within a tenth."""
    keep = KeepShare(share, budget=lambda: BUDGET, clock=clock)
    assert kept_per_second(keep, clock, rate, seconds=6) == pytest.approx(share * BUDGET, rel=0.1)


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.02])
def test_of_what_the_sampler_has_left(probability: float, clock: FakeClock) -> None:
    """Traces that were thinned out before are thinned out further: the share holds for them too."""
    keep = KeepShare(0.5, budget=lambda: BUDGET, clock=clock)
    threshold = threshold_of(probability)
    assert kept_per_second(keep, clock, 1_000.0, threshold=threshold, seconds=6) == pytest.approx(250.0, rel=0.1)


def test_keeps_all_within_its_share(clock: FakeClock) -> None:
    """Where fewer come than may go out, all do."""
    keep = KeepShare(0.5, budget=lambda: BUDGET, clock=clock)
    assert kept_per_second(keep, clock, 200.0) == 200.0


def test_keeps_all_while_no_budget_is_known(clock: FakeClock) -> None:
    """Nobody has found the collector's limit yet: nothing is held against it."""
    keep = KeepShare(0.5, budget=lambda: None, clock=clock)
    assert kept_per_second(keep, clock, 2_000.0, seconds=1) == 2_000.0


def test_goes_by_randomness(clock: FakeClock) -> None:
    """Spans of one trace share its fate: at any moment those above a threshold are kept, and no others."""
    keep = KeepShare(0.5, budget=lambda: BUDGET, clock=clock)
    kept_per_second(keep, clock, 1_000.0, seconds=5)
    kept = [randomness for randomness in range(0, NEVER, NEVER // 64) if keep(span(trace_id=randomness))]
    assert kept == [randomness for randomness in range(0, NEVER, NEVER // 64) if randomness >= kept[0]]
    assert probability_of(kept[0]) == pytest.approx(0.25, abs=0.05)


def test_forgets_within_seconds(clock: FakeClock) -> None:
    """After a quiet time the next spans all go out."""
    keep = KeepShare(0.5, budget=lambda: BUDGET, clock=clock)
    kept_per_second(keep, clock, 5_000.0, seconds=1)
    assert not keep(span(trace_id=LOW_RANDOMNESS))
    clock.advance(10.0)
    assert all(keep(span(trace_id=LOW_RANDOMNESS)) for _ in range(100))


def test_a_clock_that_goes_back() -> None:
    """No time has passed, so nothing is forgotten, and then it goes on."""
    now = [10_000.0]
    keep = KeepShare(0.5, budget=lambda: BUDGET, clock=lambda: now[0])
    while keep(span(trace_id=LOW_RANDOMNESS)):
        pass
    now[0] -= 3_600.0
    assert not keep(span(trace_id=LOW_RANDOMNESS))
    assert keep(span(trace_id=HIGH_RANDOMNESS))
    now[0] += 10.0
    assert keep(span(trace_id=LOW_RANDOMNESS))
