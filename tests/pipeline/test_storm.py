"""A storm ten times larger than what the collector takes: whole traces, the failed ones first, and honest counts."""

from __future__ import annotations

import pytest

from otel_shed.outcome import DropReason
from tests.pipeline.storm import Storm


def test_what_survives_a_storm() -> None:
    """After the first seconds every trace that arrives is whole, every failed one arrives, and the counts are right."""
    storm = Storm(lambda now: 5000.0 if now < 60.0 else 300.0)
    storm.run(60.0)
    used = storm.used(5, 60)
    storm.run(40.0)
    after = storm.counts(5.0, 58.0)
    assert after.whole >= 0.99 * after.delivered > 0
    failed = storm.counts(5.0, 58.0, failed=True)
    assert failed.whole >= 0.98 * failed.all > 0
    assert after.estimated == pytest.approx(after.all, rel=0.05)
    assert used >= 0.95
    # What had begun to go out when the storm began came to its end too.
    assert storm.counts(0.0, 5.0).whole == storm.counts(0.0, 5.0).delivered
    # Ten seconds after its end everything comes through, at once.
    calm = storm.counts(70.0, 95.0)
    assert calm.whole == calm.all
    assert calm.estimated == calm.all
    assert calm.slowest < storm.duration + 3.0
    # And there is no span of which nobody knows.
    assert storm.spans == storm.delivered_spans + storm.shed.total() + storm.traces.bounds.spans + storm.queue.records
    assert storm.most_held <= storm.max_spans
    assert set(storm.shed) == {DropReason.OVER_BUDGET}


@pytest.mark.parametrize("known", [0.85, 1.15])
def test_a_budget_that_is_not_quite_right(known: float) -> None:
    """What is kept is what the budget says; too much of it waits, and is taken account of."""
    storm = Storm(lambda now: 5000.0, budget=lambda now: known * 500.0)
    storm.run(60.0)
    # What waited when it began has gone.
    assert storm.used(25, 60) == pytest.approx(min(1.0, known), rel=0.04)
    assert storm.traces.ready_spans < 2500
    counts = storm.counts(5.0, 50.0)
    assert counts.whole == counts.delivered


def test_a_budget_that_is_known_late() -> None:
    """Until then all is kept, and waits; it is not in the way of what comes later."""
    storm = Storm(lambda now: 5000.0 if now < 60.0 else 100.0, budget=lambda now: 500.0 if now > 4.0 else None)
    storm.run(60.0)
    assert storm.used(5, 60) >= 0.95
    storm.run(60.0)
    counts, failed = storm.counts(5.0, 58.0), storm.counts(5.0, 58.0, failed=True)
    assert counts.whole == counts.delivered
    assert failed.whole == failed.all
    assert counts.estimated == pytest.approx(counts.all, rel=0.05)


def test_failures_only() -> None:
    """More of them than the budget: they are sampled, whole, and counted as well."""
    storm = Storm(lambda now: 5000.0 if now < 40.0 else 100.0, failing=1.0)
    storm.run(40.0)
    assert storm.used(5, 40) >= 0.95
    storm.run(40.0)
    counts = storm.counts(5.0, 38.0)
    assert counts.whole == counts.delivered
    assert counts.estimated == pytest.approx(counts.all, rel=0.06)


def test_after_an_outage_what_is_new_goes_first() -> None:
    """The collector is away for half a minute: what waits is bounded, and does not delay what comes afterwards."""
    storm = Storm(lambda now: 1500.0 if now < 100.0 else 100.0, down=lambda now: 20.0 < now < 50.0)
    storm.run(70.0)
    assert storm.most_held <= storm.max_spans
    fresh = storm.counts(54.0, 60.0)
    assert fresh.delivered > 0
    assert fresh.slowest < storm.duration + 8.0
    before = storm.counts(21.0, 48.0).delivered
    storm.run(80.0)
    away = storm.counts(21.0, 48.0)
    assert away.delivered > before
    assert away.whole == away.delivered
    # Some 150 traces, so this is two standard deviations.
    assert away.estimated == pytest.approx(away.all, rel=0.2)
    failed = storm.counts(5.0, 95.0, failed=True)
    assert failed.whole == failed.all


def test_traces_that_are_more_than_can_be_held() -> None:
    """Traces of twenty seconds, of which a sixth fits: they are decided early, stay whole, and count for the others."""
    estimated = true = 0.0
    for seed in range(2):
        storm = Storm(lambda now: 5000.0 if now < 50.0 else 50.0, duration=20.0, max_spans=8000, seed=seed)
        storm.run(90.0)
        assert storm.most_held <= storm.max_spans
        # Once those that had begun to go out before have ended.
        counts = storm.counts(20.0, 48.0)
        assert counts.whole >= 0.99 * counts.delivered
        estimated += counts.estimated
        true += counts.all
    assert estimated == pytest.approx(true, rel=0.04)
