"""A clock that may go back, made into one that does not."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.log_limit import PREFIX
from otel_shed.steady_clock import SteadyClock, steady


def test_the_monotonic_clock_is_left_alone() -> None:
    """What cannot go back costs nothing more; anything else is watched."""
    assert steady(time.monotonic) is time.monotonic
    assert isinstance(steady(time.time), SteadyClock)


def test_goes_with_its_clock_while_that_goes_on() -> None:
    """The readings are the clock's own until it goes back."""
    readings = iter([5.0, 5.0, 7.5, 7.5])
    clock = SteadyClock(lambda: next(readings))
    assert [clock() for _ in range(3)] == [5.0, 7.5, 7.5]


def test_a_step_back_takes_no_time(caplog: pytest.LogCaptureFixture) -> None:
    """It goes on from where it was, whatever the clock says now; one line tells of it."""
    now = [5_000.0]
    clock = SteadyClock(lambda: now[0])
    readings = [clock()]
    for step in (1.0, -3_600.0, 0.0, 0.5, -10.0, 0.25):
        now[0] += step
        readings.append(clock() - 5_000.0)
    assert readings[1:] == [1.0, 1.0, 1.0, 1.5, 1.5, 1.75]
    assert caplog.messages == [f"{PREFIX}the clock went back by 3600.000 s, which is taken as no time"]


@given(st.lists(st.integers(-100, 100)))
@settings(deadline=None)
def test_never_goes_back(steps: list[int]) -> None:
    """Time passes as the clock says where it goes on, and not at all where it does not."""
    now = [0]
    clock = SteadyClock(lambda: float(now[0]))
    clock._log._logger.disabled = True
    try:
        for step in steps:
            before = clock()
            now[0] += step
            assert clock() - before == max(0, step)
    finally:
        clock._log._logger.disabled = False


def test_a_thread_that_is_held_up_between_reading_and_looking(caplog: pytest.LogCaptureFixture) -> None:
    """A reading that another thread has overtaken is no step back."""
    now = [10.0]
    held, go_on = threading.Event(), threading.Event()

    def read() -> float:
        reading = now[0]
        if threading.current_thread() is slow and not held.is_set():
            held.set()
            assert go_on.wait(10)
        return reading

    answers: list[float] = []
    slow = threading.Thread(target=lambda: answers.append(clock()))
    clock = SteadyClock(read)
    slow.start()
    assert held.wait(10)
    now[0] = 15.0
    assert clock() == 15.0
    go_on.set()
    slow.join(10)
    assert answers[0] in (10.0, 15.0)
    assert clock() == 15.0
    assert caplog.messages == []
