"""Giving way: for the longer the fuller the queue is, and to calls that are of use."""

from __future__ import annotations

import pytest

from otel_shed.native import MOMENT_SECONDS
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline import way
from otel_shed.pipeline.inbox import INBOX_ROOM


def test_the_fuller_the_longer() -> None:
    """From hardly anything at a quarter to some milliseconds from a half on."""
    times = [way.seconds_at(fill / 100, INBOX_ROOM) for fill in range(26, 101)]
    assert times == sorted(times)
    assert times[0] < 0.0002
    assert times[9] < 0.001
    assert times[24:] == [way.LONGEST_SECONDS] * 51


@pytest.mark.parametrize("room", [1, 8, 64, 512, 1024])
def test_who_fills_a_small_queue_waits_no_longer_for_a_span(room: int) -> None:
    """It is asked once in an eighth of the room, and never for less than lets another thread run."""
    spans = max(1, room // 8)
    for fill in (0.3, 0.5, 1.0):
        seconds = way.seconds_at(fill, room)
        assert seconds == MOMENT_SECONDS or seconds / spans <= way.LONGEST_SECONDS / 128
        assert seconds >= MOMENT_SECONDS


@pytest.mark.parametrize(
    ("outcome", "is_quick"),
    [
        (Outcome(accepted=5, duration=0.01), True),
        (Outcome(accepted=4, rejected=1, duration=0.01), True),
        (Outcome(accepted=5, duration=0.06), False),
        (Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE, duration=0.01), False),
    ],
)
def test_quick_calls(outcome: Outcome, is_quick: bool) -> None:
    """What was refused at once is of no use."""
    assert way.is_quick(outcome) is is_quick
