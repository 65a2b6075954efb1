"""Giving way: all at once, for the longer the fuller the queue is, for a burst, and to calls that are of use."""

from __future__ import annotations

import math
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.native import MOMENT_SECONDS
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.inbox import INBOX_ROOM
from otel_shed.pipeline.way import LONGEST_SECONDS, Way, is_quick

# Threads that ask.
ONE, OTHER = 1, 2


def test_the_fuller_the_longer() -> None:
    """From hardly anything at a quarter to some milliseconds from a half on."""
    times = [Way(room=INBOX_ROOM).seconds(fill / 100, 0.0, ONE) for fill in range(26, 101)]
    assert times == sorted(times)
    assert times[0] < 0.0002
    assert times[9] < 0.001
    assert times[24:] == [LONGEST_SECONDS] * 51


@pytest.mark.parametrize("room", [1, 8, 64, 512, 1024])
def test_who_fills_a_small_queue_waits_no_longer_for_a_span(room: int) -> None:
    """It is asked once in an eighth of the room, and never for less than lets another thread run."""
    spans = max(1, room // 8)
    for fill in (0.3, 0.5, 1.0):
        seconds = Way(room=room).seconds(fill, 0.0, ONE)
        assert seconds == MOMENT_SECONDS or seconds / spans <= LONGEST_SECONDS / 128
        assert seconds >= MOMENT_SECONDS


@given(
    st.integers(1, INBOX_ROOM),
    st.integers(0, 1 << 32),
    st.sampled_from([1e-6, 1e-4, 1e-3, 2e-3, 5e-3, 2e-2, 5e-2]),
    st.integers(1, 9),
    st.floats(0.0, 1e6),
)
def test_a_load_that_lasts_is_slowed_by_no_more_than_a_share(
    room: int, seed: int, pause: float, threads: int, began: float
) -> None:
    """However often it is asked, by many threads, and of however full a queue: 0.4 s and a twentieth of the time."""
    random = Random(seed)
    way, now, given, until = Way(room=room), began, 0.0, -math.inf
    for _ in range(600):
        now += random.uniform(0.0, pause)
        seconds = way.seconds(random.choice([0.26, 0.4, 1.0]), now, random.randrange(threads))
        assert seconds == 0.0 or 5e-5 <= seconds <= 0.005
        given += max(0.0, now + seconds - max(now, until))
        until = max(until, now + seconds)
        assert given <= 0.4 + (now - began) / 20 + 1e-6


def test_after_a_burst_there_is_less_until_time_has_passed() -> None:
    """And a clock that goes back gives nothing until it is where it was."""
    way = Way(room=INBOX_ROOM)

    def all_from(now: float) -> float:
        given = 0.0
        while seconds := way.seconds(1.0, now + 1.001 * given, ONE):
            given += seconds
        return given

    assert all_from(100.0) == pytest.approx(0.42, abs=0.008)
    assert all_from(50.0) == all_from(52.0) == 0.0
    assert all_from(102.4) == pytest.approx(0.1, abs=0.02)
    assert all_from(1000.0) == pytest.approx(0.42, abs=0.008)


def test_who_goes_on_ending_spans_sleeps_until_the_first_one_wakes_up() -> None:
    """Once; and that takes nothing of what is left."""
    way, alone, now = Way(room=INBOX_ROOM), Way(room=INBOX_ROOM), 10.0
    for _ in range(200):
        first = way.seconds(1.0, now, ONE)
        assert first == alone.seconds(1.0, now, ONE)
        if first:
            came = [way.seconds(0.3, now + 0.4 * first, OTHER) for _ in range(9)]
            assert came == [0.0, 0.0, 0.0, pytest.approx(0.6 * first), 0.0, 0.0, 0.0, 0.0, 0.0]
        now += 1.001 * first
    assert first == 0.0


def test_who_ends_a_few_spans_while_others_sleep_does_not() -> None:
    """In each of their sleeps anew: an event loop is not stopped for what other threads do."""
    way, now = Way(room=INBOX_ROOM), 10.0
    for _ in range(20):
        lasts = way.seconds(1.0, now, ONE)
        assert lasts > 0.0
        assert [way.seconds(1.0, now + part * lasts, OTHER) for part in (0.1, 0.5, 0.9)] == [0.0, 0.0, 0.0]
        now += 1.001 * lasts


def test_what_is_left_of_a_sleep_may_be_too_short_for_another_one() -> None:
    """It would be over before another thread has the interpreter."""
    way = Way(room=INBOX_ROOM)
    lasts = way.seconds(1.0, 10.0, ONE)
    late = 10.0 + lasts - 0.9 * MOMENT_SECONDS
    assert [way.seconds(1.0, late, OTHER) for _ in range(9)] == [0.0] * 9


def test_where_no_more_is_given_nobody_sleeps_with_anybody() -> None:
    """Nor where the clock has gone back to before, or stands still: not more than once, for one that was given."""
    way, now = Way(room=INBOX_ROOM), 10.0
    while lasts := way.seconds(1.0, now, ONE):
        now += 1.001 * lasts
    assert [way.seconds(1.0, now + 1e-6, OTHER) for _ in range(9)] == [0.0] * 9
    assert not way.is_given(lambda: now + 1e-6)
    way = Way(room=INBOX_ROOM)
    assert sum(way.seconds(1.0, 10.0, ONE) for _ in range(9)) == LONGEST_SECONDS
    times = (9.999, 10.0, 10.0 + 1.01 * LONGEST_SECONDS)
    assert [way.is_given(partial(float, now)) for now in times] == [False, True, False]
    assert max(way.seconds(1.0, 5.0, OTHER) for _ in range(9)) <= LONGEST_SECONDS


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
