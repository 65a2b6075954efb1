"""Decisions that late spans follow: bounded, and forgotten in their time."""

from __future__ import annotations

from otel_shed.outcome import DropReason
from otel_shed.pipeline.decided import SENT, Decided
from otel_shed.pipeline.held import Decision
from otel_shed.record import SpanRecord
from tests.pipeline.made_records import made_record

SHED = Decision(DropReason.OVER_BUDGET)


def of(*trace_ids: int) -> list[SpanRecord]:
    """A span of each of these traces."""
    return [made_record(trace_id) for trace_id in trace_ids]


def test_a_decision_is_remembered_for_a_lifetime_and_less_than_two() -> None:
    """Whenever it is made, and whoever looks how often."""
    for made_at in (0.0, 5.0, 29.0):
        decided = Decided(lifetime=30.0)
        for now in range(100):
            decided.look(float(now))
            if now == made_at:
                decided.remember(1, SHED)
            elif now == made_at + 1:
                decided.remember(2, SHED)
            known = decided._young.get(1) or decided._old.get(1)
            assert (known is SHED) >= (made_at <= now < made_at + 30)
            assert (known is None) >= (now >= made_at + 60)


def test_who_is_asked_for_is_remembered_anew() -> None:
    """So it outlives its generation."""
    decided = Decided(lifetime=30.0)
    for now in range(0, 300, 20):
        decided.look(float(now))
        if now == 0:
            decided.remember(1, SHED)
        assert decided.get(1) is SHED
    decided.look(400.0)
    decided.look(500.0)
    assert decided.get(1) is None


def test_the_number_is_bounded() -> None:
    """The oldest generation goes, whatever its age; the newest decisions stay."""
    decided = Decided(lifetime=30.0, most=100)
    for trace_id in range(1000):
        decided.remember(trace_id, SHED)
    assert all(decided.get(trace_id) is SHED for trace_id in range(999, 900, -1))
    assert sum(decided.get(trace_id) is SHED for trace_id in range(800)) == 0
    decided = Decided(lifetime=30.0, most=100)
    for start in range(0, 1000, 50):
        decided.sent(of(*range(start, start + 50)))
    assert sum(decided.get(trace_id) is SENT for trace_id in range(800)) == 0


def test_what_a_generation_remembered_is_gone_with_it() -> None:
    """All of it: nothing of a generation that went is known again when its place is taken."""
    decided = Decided(lifetime=30.0)
    decided.look(0.0)
    decided.remember(1, SHED)
    decided.sent(of(2))
    for now in (30.0, 60.0, 90.0):
        decided.look(now)
        decided.remember(3, SHED)
    assert (decided._young.get(1), decided._young.get(2), decided._old.get(1), decided._old.get(2)) == (None,) * 4
    assert decided.get(3) is SHED


def test_a_trace_of_many_spans_is_remembered_once() -> None:
    """However often something of it is sent, it takes the place of one."""
    decided = Decided(lifetime=30.0, most=100)
    decided.sent(of(1))
    for _ in range(100):
        decided.sent(of(2) * 50)
    assert decided.get(1) is SENT


def test_what_is_decided_after_it_was_sent_counts() -> None:
    """And what is sent after it was decided changes nothing; a decision that it goes as it came binds nobody."""
    decided = Decided(lifetime=30.0)
    decided.sent(of(1))
    decided.remember(1, SHED)
    assert decided.get(1) is SHED
    decided.sent(of(1, 2))
    assert (decided.get(1), decided.get(2)) == (SHED, SENT)
    decided.remember(1, SENT)
    assert decided.get(1) is SENT
    assert not decided.binds


def test_what_went_out_as_it_came_binds_nobody() -> None:
    """A decision that makes a difference does, until it is forgotten."""
    decided = Decided(lifetime=30.0)
    decided.sent(of(1, 2))
    decided.remember(3, SENT)
    assert not decided.binds
    decided.remember(4, SHED)
    assert decided.binds
    decided.look(0.0)
    assert decided.binds
    decided.look(30.0)
    assert not decided.binds


def test_a_clock_that_goes_back_forgets_nothing_early() -> None:
    """At most one generation is told from the other too soon."""
    decided = Decided(lifetime=30.0)
    decided.look(1000.0)
    decided.remember(1, SHED)
    decided.look(5.0)
    assert decided.get(1) is SHED
    decided.look(20.0)
    assert decided.get(1) is SHED


def test_looks_at_one_time_turn_it_once() -> None:
    """Also where the sum of two times is not exact: what was remembered a moment ago is not forgotten."""
    decided = Decided(lifetime=30.0)
    for tick in range(100_000):
        now = tick * 0.01
        decided.look(now)
        decided.remember(tick, SHED)
        decided.look(now)
        decided.look(now)
        assert decided.get(tick) is SHED
