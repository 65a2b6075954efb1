"""Pressure: the worst of the signals with its reason, and whatever a signal does stays a number from 0 to 1."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.control.pressure import (
    Levels,
    Patience,
    Pressure,
    PressureReading,
    Signals,
    memory_shape,
    queue_shape,
)
from otel_shed.testing.clock import FakeClock


class Scripted:
    """A signal that says one thing after the other, and raises those that are exceptions."""

    name = "scripted"

    def __init__(self, *script: Any) -> None:
        self.script = list(script)

    def read(self, now: float) -> PressureReading:
        said = self.script.pop(0)
        if isinstance(said, Exception):
            raise said
        return said if not isinstance(said, (int, float)) else PressureReading(said, "scripted")


def constant(pressure: float, reason: str) -> Scripted:
    return Scripted(*[PressureReading(pressure, reason)] * 10)


def test_the_worst_wins_with_its_reason() -> None:
    """Pressure is the maximum; the winner's reason is first, then those that keep a phase from ending."""
    signals = Signals([constant(0.2, "low"), constant(0.55, "some"), constant(0.9, "worst"), constant(0.5, "held")])
    assert signals.read(0.0) == Pressure(0.9, ("worst", "some", "held"))


def test_no_pressure_no_reason() -> None:
    """Where no signal says anything, or there is none, no reason is named."""
    assert Signals().read(0.0) == Signals([constant(0.0, "quiet")]).read(0.0) == Pressure(0.0, ())


def test_a_reason_is_named_once() -> None:
    """Two pipelines whose signals say the same give one reason."""
    assert Signals([constant(0.9, "memory"), constant(0.8, "memory")]).read(0.0).reasons == ("memory",)


def test_what_each_said_last_can_be_read() -> None:
    """By name, 0 before the first reading; of several of one name the worst, and a fault keeps the last value."""
    other = Scripted(0.9)
    other.name = "other"
    signals = Signals([Scripted(0.35, RuntimeError()), Scripted(0.4, 0.3), other])
    assert signals.last() == {"scripted": 0.0, "other": 0.0}
    signals.read(0.0)
    assert signals.last() == {"scripted": 0.4, "other": 0.9}
    signals.remove(other)
    signals.read(0.0)
    assert signals.last() == {"scripted": 0.35}


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("no such file"),
        float("nan"),
        None,
        PressureReading("much", "text"),  # type: ignore[arg-type]
        ZeroDivisionError(),
    ],
)
def test_a_fault_counts_as_the_last_value(fault: object, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A signal that raises, or says what is no number, is reported by name and counts as what it said before."""
    signals = Signals([Scripted(fault, 0.7, fault, fault, 0.1)], clock=clock)
    with caplog.at_level(logging.WARNING, "otel_shed"):
        said = [signals.read(clock()).pressure for _ in range(5)]
    assert said == [0.0, 0.7, 0.7, 0.7, 0.1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "scripted failed and counts as its last value" in caplog.text


def test_faults_are_reported_once_a_minute_each(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Two signals that fail for two minutes are two lines a minute, not two a reading."""
    signals = Signals([Scripted(*[OSError()] * 1200), Scripted(*[OSError()] * 1200)], clock=clock)
    for _ in range(1200):
        signals.read(clock())
        clock.advance(0.1)
    assert len(caplog.records) == 4


@pytest.mark.parametrize(("said", "counts"), [(1.7, 1.0), (float("inf"), 1.0), (-0.2, 0.0), (float("-inf"), 0.0)])
def test_out_of_range_is_clamped(
    said: float, counts: float, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A pressure outside 0..1 counts as the end that it is beyond, with a warning."""
    assert Signals([Scripted(said)], clock=clock).read(0.0).pressure == counts
    assert "not from 0 to 1" in caplog.text


def test_a_reason_that_is_no_text() -> None:
    """A signal that forgets its reason is named by its own name."""
    assert Signals([constant(0.9, None)]).read(0.0).reasons == ("scripted",)  # type: ignore[arg-type]


@given(st.lists(st.floats(), min_size=1, max_size=5))
@settings(deadline=None)
def test_pressure_is_always_a_share(values: list[float]) -> None:
    """Whatever numbers signals return, pressure is from 0 to 1."""
    logging.getLogger("otel_shed").disabled = True
    try:
        assert 0.0 <= Signals([Scripted(value) for value in values]).read(0.0).pressure <= 1.0
    finally:
        logging.getLogger("otel_shed").disabled = False


@given(st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_shapes_rise(one: float, other: float) -> None:
    """More of anything is never less pressure, and both ends are kept."""
    low, high = sorted((one, other))
    for shape in (queue_shape, memory_shape, lambda use: memory_shape(use, start=0.7)):
        assert 0.0 <= shape(low) <= shape(high) <= 1.0
        assert (shape(0.0), shape(1.0)) == (0.0, 1.0)


def test_shapes_at_the_thresholds() -> None:
    """Where the default thresholds lie: the numbers that the documents give."""
    assert queue_shape(0.5625) == 0.75
    assert queue_shape(0.25) == 0.50
    assert memory_shape(0.5) == 0.50
    assert memory_shape(0.85, start=0.7) == pytest.approx(0.50)
    assert memory_shape(0.90, start=0.7) == pytest.approx(0.74, abs=0.005)
    assert memory_shape(0.96, start=0.7) == pytest.approx(0.95, abs=0.006)
    assert queue_shape(7.0) == 1.0
    assert memory_shape(-1.0) == 0.0


@given(st.floats(0, 1))
@settings(deadline=None)
def test_levels_keep_their_side(share: float) -> None:
    """What holds a phase begins none, what lies below holds none, whatever the thresholds."""
    for levels in (Levels(), Levels(enter=1.0, leave=0.99), Levels(enter=0.02, leave=0.01)):
        assert levels.enter <= levels.above(share) <= 1.0
        assert levels.leave <= levels.between(share) < levels.enter
        assert 0.0 <= levels.below(share) < levels.leave


def test_patience_ends() -> None:
    """A pressure at which everything optional is shed counts once it has lasted, and again when it comes back."""
    patience = Patience(Levels(), 2.0)
    assert [patience.held(1.0, now) for now in (0.0, 1.0, 1.9, 2.0, 9.0)] == [0.9, 0.9, 0.9, 1.0, 1.0]
    assert patience.held(0.8, 10.0) == 0.8
    assert patience.held(1.0, 11.0) == 0.9
    assert patience.held(1.0, 5.0) == 0.9  # the clock went back
    assert patience.held(1.0, 7.0) == 1.0
