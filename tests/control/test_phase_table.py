"""The table of phases and its step: up at once, down one at a time after calm, RECOVERY never skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from otel_shed.control.phase import Action, Phase
from otel_shed.control.phase_table import RANK, PhaseRow, PhaseTable, State, phase_table, step
from otel_shed.control.pressure import Levels
from otel_shed.record import Priority

TABLE = phase_table()
CALM = 3.0

Step = Callable[[PhaseTable, State, float, float], State]
Trace = Sequence[tuple[float, float]]

# Times are multiples of a quarter, which floats add without error.
WAITS = st.sampled_from([0.25, 0.5, 1.0, 2.75, 3.0, 3.25, 20.0])
PRESSURES = st.sampled_from([0.0, 0.49, 0.5, 0.6, 0.63, 0.74, 0.75, 0.9, 0.94, 0.96, 1.0]) | st.floats(0, 1)
TRACES = st.lists(st.tuples(WAITS, PRESSURES), min_size=1, max_size=40)


def walk(trace: Trace, a_step: Step = step) -> list[tuple[float, float, Phase]]:
    """Time, pressure and the phase that followed, for each reading."""
    state, now, walked = State(), 0.0, []
    for wait, pressure in trace:
        now += wait
        state = a_step(TABLE, state, pressure, now)
        walked.append((now, pressure, state.phase))
    return walked


def check(trace: Trace, a_step: Step = step) -> None:
    """The hysteresis, stated over the whole trace."""
    walked = walk(trace, a_step)
    phases = [Phase.NORMAL, *(phase for _, _, phase in walked)]
    descents: list[float] = []
    for (old, new), (now, _, _) in zip(pairwise(phases), walked, strict=True):
        if RANK[new] >= RANK[old]:
            continue
        row = TABLE[old]
        assert new is row.below, "down by one row"
        before = [pressure for when, pressure, _ in walked if now - row.hold < when <= now]
        assert all(pressure < row.leave for pressure in before), "calm all the while"
        assert all(now - descent >= CALM for descent in descents), "one step down, then calm again"
        descents.append(now)
    for old, new in pairwise(phases):
        if old in (Phase.DEGRADE, Phase.SHED_OPTIONAL):
            assert new not in (Phase.NORMAL, Phase.OBSERVE), "RECOVERY comes between"
    for _, pressure, phase in walked:
        assert all(RANK[phase] >= RANK[row.phase] for row in TABLE.values() if pressure >= row.enter), "up at once"


def fails(trace: Trace, a_step: Step) -> bool:
    try:
        check(trace, a_step)
    except AssertionError:
        return True
    return False


@given(TRACES)
@settings(max_examples=500, deadline=None)
def test_every_step_down_follows_calm(trace: Trace) -> None:
    """Every step down follows `calm` seconds in which every reading was below `leave`, and none skips RECOVERY."""
    check(trace)


def changed(**changes: Any) -> Step:
    """A step over a table in which every row but that of NORMAL is changed."""

    def mutant(table: PhaseTable, state: State, pressure: float, now: float) -> State:
        rows = {
            phase: row if phase is Phase.NORMAL else replace(row, **{name: to(row) for name, to in changes.items()})
            for phase, row in table.items()
        }
        return step(rows, state, pressure, now)

    return mutant


def forgets_readings(table: PhaseTable, state: State, pressure: float, now: float) -> State:
    """Counts the calm from the beginning of the phase."""
    after = step(table, state, pressure, now)
    return replace(after, hot=after.since)


def down_two(table: PhaseTable, state: State, pressure: float, now: float) -> State:
    """Takes two steps down at once where it may take one."""
    after = step(table, state, pressure, now)
    return replace(after, phase=table[after.phase].below) if RANK[after.phase] < RANK[state.phase] else after


def slow_up(table: PhaseTable, state: State, pressure: float, now: float) -> State:
    """Goes up only when the same reading comes twice."""
    after = step(table, state, pressure, now)
    return State(state.phase, state.since, now + 0.5) if RANK[after.phase] > RANK[state.phase] else after


def skips_recovery(row: PhaseRow) -> Phase:
    return Phase.NORMAL if row.phase is Phase.DEGRADE else row.below


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(changed(leave=lambda row: 2.0), id="no leave threshold"),
        pytest.param(changed(leave=lambda row: min(row.enter, 1.0)), id="leave is enter"),
        pytest.param(changed(hold=lambda row: 0.0), id="no hold"),
        pytest.param(changed(hold=lambda row: row.hold - 0.25), id="hold a little short"),
        pytest.param(changed(below=skips_recovery), id="skips RECOVERY"),
        pytest.param(forgets_readings, id="calm counts from the beginning"),
        pytest.param(down_two, id="two steps at once"),
        pytest.param(slow_up, id="up late"),
    ],
)
def test_the_property_finds_what_is_wrong(mutant: Step) -> None:
    """A step without its leave threshold, or wrong in another way, has a trace that fails the property above."""
    found = find(
        TRACES,
        lambda trace: fails(trace, mutant),
        settings=settings(max_examples=5_000, database=None, derandomize=True, deadline=None),
    )
    assert found


@pytest.mark.parametrize(
    ("pressure", "phase"),
    [
        (0.0, Phase.NORMAL),
        (0.62, Phase.NORMAL),
        (0.63, Phase.OBSERVE),
        (0.74, Phase.OBSERVE),
        (0.75, Phase.DEGRADE),
        (0.94, Phase.DEGRADE),
        (0.96, Phase.SHED_OPTIONAL),
        (1.0, Phase.SHED_OPTIONAL),
    ],
)
def test_up_at_once_to_the_highest(pressure: float, phase: Phase) -> None:
    """One reading is enough, and goes past what lies between."""
    assert step(TABLE, State(), pressure, 1.0).phase is phase


def test_the_whole_way_down_takes_three_calms() -> None:
    """From SHED_OPTIONAL to NORMAL in 9 s, by way of DEGRADE and RECOVERY."""
    walked = walk([(0.0, 1.0), *((0.25, 0.0) for _ in range(40))])
    began = {phase: now for now, _, phase in reversed(walked)}
    assert began == {Phase.SHED_OPTIONAL: 0.0, Phase.DEGRADE: 3.0, Phase.RECOVERY: 6.0, Phase.NORMAL: 9.0}


def test_a_reading_between_the_thresholds_holds() -> None:
    """DEGRADE stays for as long as pressure is above leave now and then, though never at enter again."""
    walked = walk([(1.0, 0.8), *([(2.5, 0.1), (0.25, 0.51)] * 30)])
    assert {phase for _, _, phase in walked} == {Phase.DEGRADE}


def test_recovery_gives_way_at_once() -> None:
    """A storm that returns during RECOVERY is a storm."""
    walked = walk([(1.0, 0.8), (3.0, 0.0), (0.25, 0.76), (3.0, 0.0), (0.25, 0.97)])
    assert [phase for _, _, phase in walked] == [
        Phase.DEGRADE,
        Phase.RECOVERY,
        Phase.DEGRADE,
        Phase.RECOVERY,
        Phase.SHED_OPTIONAL,
    ]


def test_load_that_comes_and_goes_makes_two_changes_a_minute_at_most() -> None:
    """Peaks between OBSERVE and DEGRADE, whatever their rhythm, are one OBSERVE, or one change each half minute."""
    for period in range(2, 120, 3):
        walked = walk([(1.0, 0.7 if second % period == 0 else 0.2) for second in range(600)])
        changes = sum(old is not new for (_, _, old), (_, _, new) in pairwise(walked))
        assert changes <= 20, period


@given(TRACES, st.lists(st.floats(0, 1000), max_size=5), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_a_clock_that_goes_back_costs_calm_only(trace: Trace, jumps: Sequence[float], seed: int) -> None:
    """Whatever the clock does, the phase is one of the five, never sinks by two, and calm readings end it."""
    state, now = State(), 500.0
    for number, (wait, pressure) in enumerate(trace):
        now += wait if (number * 7 + seed) % 5 or not jumps else -jumps[number % len(jumps)]
        after = step(TABLE, state, pressure, now)
        assert after.phase in (state.phase, TABLE[state.phase].below) or RANK[after.phase] > RANK[state.phase]
        assert after.since <= now
        assert after.hot <= now
        state = after
    for _ in range(400):
        now += 0.25
        state = step(TABLE, state, 0.0, now)
    assert state.phase is Phase.NORMAL


def test_nan_time_changes_nothing() -> None:
    """A clock that says no number neither raises nor lets go."""
    state = step(TABLE, State(Phase.DEGRADE, 1.0, 1.0), 0.0, float("nan"))
    assert state.phase is Phase.DEGRADE


def test_what_the_rows_say() -> None:
    """What is done in each phase: the actions, what is shed, how long attributes may be."""
    table = phase_table(attribute_length=1000, degraded_attribute_length=255, min_probability=0.02)
    assert {phase: (row.action, row.min_priority, row.attribute_length) for phase, row in table.items()} == {
        Phase.NORMAL: (Action.EXPORT_ALL, Priority.LOW, 1000),
        Phase.OBSERVE: (Action.EXPORT_ALL, Priority.LOW, 1000),
        Phase.RECOVERY: (Action.DROP_LOW_PRIORITY, Priority.NORMAL, 255),
        Phase.DEGRADE: (Action.DROP_LOW_PRIORITY, Priority.NORMAL, 255),
        Phase.SHED_OPTIONAL: (Action.RETAIN_SUMMARY_ONLY, Priority.HIGH, 255),
    }
    assert [row.probability_floor for row in table.values()] == [1.0, 1.0, 0.02, 0.02, 0.02]
    assert phase_table(attribute_length=100)[Phase.DEGRADE].attribute_length == 100
    assert phase_table(degraded_attribute_length=None)[Phase.DEGRADE].attribute_length is None


@given(st.floats(0.02, 1.0), st.floats(0.01, 0.99))
@settings(deadline=None)
def test_any_thresholds_make_a_table_in_order(enter: float, leave: float) -> None:
    """Whatever the two settings are, rows enter in order and each leaves at or below where it enters."""
    if leave >= enter:
        with pytest.raises(ValueError, match="leave < enter"):
            Levels(enter=enter, leave=leave)
        return
    table = phase_table(levels=Levels(enter=enter, leave=leave))
    observe, degrade, shed = table[Phase.OBSERVE], table[Phase.DEGRADE], table[Phase.SHED_OPTIONAL]
    assert leave <= observe.leave <= observe.enter <= degrade.enter <= shed.enter <= 1.0
    assert degrade.leave == leave
    assert shed.leave <= shed.enter


@pytest.mark.parametrize(
    "bad", [{"calm": -1.0}, {"calm": float("inf")}, {"calm": float("nan")}, {"min_probability": 1.1}]
)
def test_a_bad_table_is_refused(bad: dict[str, float]) -> None:
    """A calm or a probability out of range is an error that names it."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        phase_table(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(("enter", "leave"), [(0.5, 0.5), (0.4, 0.5), (1.1, 0.5), (0.5, 0.0), (float("nan"), 0.1)])
def test_bad_thresholds_are_refused(enter: float, leave: float) -> None:
    """Thresholds that are not in order are an error."""
    with pytest.raises(ValueError, match="leave < enter"):
        Levels(enter=enter, leave=leave)
