"""Giving way: for the longer the fuller the queue is, for a burst, and to calls that are of use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.native import MOMENT_SECONDS
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.inbox import INBOX_ROOM
from otel_shed.pipeline.way import BURST_SECONDS, LONGEST_SECONDS, SHARE, Way, is_quick


def test_the_fuller_the_longer() -> None:
    """From hardly anything at a quarter to some milliseconds from a half on."""
    times = [Way(room=INBOX_ROOM).seconds(fill / 100, 0.0) for fill in range(26, 101)]
    assert times == sorted(times)
    assert times[0] < 0.0002
    assert times[9] < 0.001
    assert times[24:] == [LONGEST_SECONDS] * 51


@pytest.mark.parametrize("room", [1, 8, 64, 512, 1024])
def test_who_fills_a_small_queue_waits_no_longer_for_a_span(room: int) -> None:
    """It is asked once in an eighth of the room, and never for less than lets another thread run."""
    spans = max(1, room // 8)
    for fill in (0.3, 0.5, 1.0):
        seconds = Way(room=room).seconds(fill, 0.0)
        assert seconds == MOMENT_SECONDS or seconds / spans <= LONGEST_SECONDS / 128
        assert seconds >= MOMENT_SECONDS


@given(
    st.integers(1, INBOX_ROOM),
    st.lists(st.tuples(st.floats(0.0, 0.05), st.floats(0.25, 1.0)), min_size=1, max_size=300),
    st.floats(0.0, 1e6),
)
def test_a_load_that_lasts_is_slowed_by_no_more_than_a_share(
    room: int, asked: list[tuple[float, float]], began: float
) -> None:
    """However often it is asked, and of however full a queue: beyond the burst's it is a twentieth of the time."""
    way, now, given = Way(room=room), began, 0.0
    for pause, fill in asked:
        now += pause
        seconds = way.seconds(fill, now)
        given += seconds
        now += seconds
        assert given <= BURST_SECONDS + SHARE * (now - began) + 1e-6
        assert seconds == 0.0 or MOMENT_SECONDS <= seconds <= LONGEST_SECONDS


def test_after_a_burst_there_is_less_until_time_has_passed() -> None:
    """And a clock that goes back gives nothing."""
    way = Way(room=INBOX_ROOM)

    def all_at(now: float) -> float:
        return sum(way.seconds(1.0, now) for _ in range(200))

    assert all_at(100.0) == pytest.approx(BURST_SECONDS, abs=1.5 * LONGEST_SECONDS)
    assert all_at(50.0) == 0.0
    assert all_at(52.0) == pytest.approx(2.0 * SHARE, abs=1.5 * LONGEST_SECONDS)
    assert all_at(1000.0) == pytest.approx(BURST_SECONDS, abs=1.5 * LONGEST_SECONDS)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(accepted=5, duration=0.01), True),
        (Outcome(accepted=4, rejected=1, duration=0.01), True),
        (Outcome(accepted=5, duration=0.06), False),
        (Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE, duration=0.01), False),
    ],
)
def test_quick_calls(outcome: Outcome, expected: bool) -> None:
    """What was refused at once is of no use."""
    assert is_quick(outcome) is expected
