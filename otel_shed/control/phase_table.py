"""The table of phases, and the one step from a reading of the pressure to the phase that follows.

Owns nothing that changes: values and a pure function, called by the Brownout and by whoever wants to know what a row
says. The rules: up at once; down one phase at a time, each time after ``hold`` seconds in which every reading was below
``leave``; between shedding and NORMAL there is always RECOVERY.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from otel_shed.control.phase import Action, Phase
from otel_shed.control.pressure import Levels
from otel_shed.record import Priority

# OBSERVE sheds nothing, so leaving it late costs nothing, and keeps load that is just so high now and then from making
# more than two changes of phase a minute: 20 times the default calm of 3 s.
_OBSERVE_HOLDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseRow:
    """What is done in a phase, and when it begins and ends.

    enter: the pressure at which it begins; above 1 for a phase that pressure alone does not begin. leave: the pressure
    below which it may end, after ``hold`` seconds, in favour of ``below``. min_priority: spans of lower priority are
    shed. probability_floor: the least share, 0..1, of the other traces that is kept; where it ``ramps``, it rises to 1
    within ``hold`` seconds of calm. attribute_length: characters; None is no limit.
    """

    phase: Phase
    enter: float
    leave: float
    hold: float
    below: Phase
    action: Action
    probability_floor: float
    min_priority: Priority
    attribute_length: int | None
    ramps: bool = False


PhaseTable = Mapping[Phase, PhaseRow]

# From the least to the most that is shed.
RANK: Mapping[Phase, int] = {
    phase: rank
    for rank, phase in enumerate((Phase.NORMAL, Phase.OBSERVE, Phase.RECOVERY, Phase.DEGRADE, Phase.SHED_OPTIONAL))
}


def phase_table(
    *,
    levels: Levels | None = None,
    calm: float = 3.0,
    min_probability: float = 0.01,
    attribute_length: int | None = None,
    degraded_attribute_length: int | None = 255,
) -> PhaseTable:
    """The table of phases. calm: seconds, at least 0. min_probability: 0..1. Raises ValueError if out of range."""
    levels = levels or Levels()
    if not 0.0 <= calm < math.inf:
        raise ValueError(f"calm must be at least 0 s and finite, not {calm!r}")
    if not 0.0 <= min_probability <= 1.0:
        raise ValueError(f"min_probability must be from 0 to 1, not {min_probability!r}")
    never = math.inf
    lengths = [length for length in (attribute_length, degraded_attribute_length) if length is not None]
    shorter = min(lengths, default=None)
    rows = (
        PhaseRow(
            phase=Phase.NORMAL,
            enter=0.0,
            leave=0.0,
            hold=never,
            below=Phase.NORMAL,
            action=Action.EXPORT_ALL,
            probability_floor=1.0,
            min_priority=Priority.LOW,
            attribute_length=attribute_length,
        ),
        PhaseRow(
            phase=Phase.OBSERVE,
            enter=(levels.leave + levels.enter) / 2,
            leave=levels.leave,
            hold=_OBSERVE_HOLDS * calm,
            below=Phase.NORMAL,
            action=Action.EXPORT_ALL,
            probability_floor=1.0,
            min_priority=Priority.LOW,
            attribute_length=attribute_length,
        ),
        PhaseRow(
            phase=Phase.RECOVERY,
            enter=never,
            leave=levels.leave,
            hold=calm,
            below=Phase.NORMAL,
            action=Action.DROP_LOW_PRIORITY,
            probability_floor=min_probability,
            min_priority=Priority.NORMAL,
            attribute_length=shorter,
            ramps=True,
        ),
        PhaseRow(
            phase=Phase.DEGRADE,
            enter=levels.enter,
            leave=levels.leave,
            hold=calm,
            below=Phase.RECOVERY,
            action=Action.DROP_LOW_PRIORITY,
            probability_floor=min_probability,
            min_priority=Priority.NORMAL,
            attribute_length=shorter,
        ),
        PhaseRow(
            phase=Phase.SHED_OPTIONAL,
            enter=levels.above(0.8),
            leave=levels.enter,
            hold=calm,
            below=Phase.DEGRADE,
            action=Action.RETAIN_SUMMARY_ONLY,
            probability_floor=min_probability,
            min_priority=Priority.HIGH,
            attribute_length=shorter,
        ),
    )
    return {row.phase: row for row in rows}


@dataclass(frozen=True, slots=True)
class State:
    """Where the brownout stands. since: when the phase began. hot: when a reading last kept it from ending."""

    phase: Phase = Phase.NORMAL
    since: float = 0.0
    hot: float = 0.0


def step(table: PhaseTable, state: State, pressure: float, now: float) -> State:
    """The state after a reading of ``pressure`` at ``now``."""
    if now < max(state.since, state.hot):
        # The clock went back: nobody knows how long it has been calm, so the calm begins anew.
        state = State(state.phase, min(state.since, now), now)
    row = table[state.phase]
    entered = max((each for each in table.values() if pressure >= each.enter), key=lambda each: RANK[each.phase])
    if RANK[entered.phase] > RANK[state.phase]:
        return State(entered.phase, now, now)
    if row.below is row.phase:
        return state
    if pressure >= row.leave:
        return State(state.phase, state.since, now)
    if now - state.hot >= row.hold:
        return State(row.below, now, now)
    return state
