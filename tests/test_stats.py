"""Stats: the sums and shares that are derived from what is counted."""

from __future__ import annotations

from otel_shed import Stats


def test_rates_are_shares() -> None:
    """Parity R4: the share of spans dropped, and how full the queue is; nothing at all is no share."""
    stats = Stats(ended=10, exported=4, queued=4, dropped={"queue_full": 2}, queue_capacity=16)
    assert (stats.drop_rate, stats.utilization, stats.unaccounted) == (0.2, 0.25, 0)
    assert (Stats().drop_rate, Stats().utilization) == (0.0, 0.0)


def test_a_span_that_is_nowhere_shows() -> None:
    """What is not booked is unaccounted for, whatever else is."""
    assert Stats(ended=10, unsampled=1, queued=1, in_flight=1, exported=1, summarized=1).unaccounted == 5
