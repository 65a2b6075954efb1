"""Giving way: all at once, for the longer the fuller the queue is, for a burst, and to calls that are of use."""

from __future__ import annotations

import math

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
    st.lists(st.tuples(st.floats(0.0, 0.05) | st.just(0.001), st.floats(0.25, 1.0)), min_size=1, max_size=300),
    st.floats(0.0, 1e6),
)
def test_a_load_that_lasts_is_slowed_by_no_more_than_a_share(
    room: int, asked: list[tuple[float, float]], began: float
) -> None:
    """However often it is asked, by many threads, and of however full a queue: beyond the burst's it is a twentieth."""
    way, now, given, until = Way(room=room), began, 0.0, -math.inf
    for pause, fill in asked:
        now += pause
        seconds = way.seconds(fill, now)
        assert 0.0 <= seconds <= LONGEST_SECONDS
        given += max(0.0, now + seconds - max(now, until))
        until = max(until, now + seconds)
        assert given <= BURST_SECONDS + SHARE * (now - began) + 1e-6


def test_after_a_burst_there_is_less_until_time_has_passed() -> None:
    """And a clock that goes back gives nothing."""
    way = Way(room=INBOX_ROOM)

    def all_from(now: float) -> float:
        given = 0.0
        while seconds := way.seconds(1.0, now + given):
            given += seconds
        return given

    assert all_from(100.0) == pytest.approx(BURST_SECONDS / (1 - SHARE), abs=1.5 * LONGEST_SECONDS)
    assert all_from(50.0) == 0.0
    assert all_from(52.0) == pytest.approx(2.0 * SHARE / (1 - SHARE), abs=1.5 * LONGEST_SECONDS)
    assert all_from(1000.0) == pytest.approx(BURST_SECONDS / (1 - SHARE), abs=1.5 * LONGEST_SECONDS)


def test_whoever_comes_gives_way_until_the_first_one_is_done() -> None:
    """And that takes no more of what is left than if he had been alone."""
    way, alone = Way(room=INBOX_ROOM), Way(room=INBOX_ROOM)
    now = 10.0
    for _ in range(200):
        first = way.seconds(1.0, now)
        assert first == alone.seconds(1.0, now)
        for passed in (0.0, 0.3, 0.9):
            if first:
                assert way.seconds(0.3, now + passed * first) == pytest.approx((1 - passed) * first)
        now += 1.001 * first
    assert first == 0.0


def test_nobody_gives_way_until_a_time_that_the_clock_has_left_behind() -> None:
    """It has gone back: nobody sleeps for as long as that."""
    way = Way(room=INBOX_ROOM)
    assert way.seconds(1.0, 1000.0) == LONGEST_SECONDS
    assert way.seconds(1.0, 500.0) == LONGEST_SECONDS


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
