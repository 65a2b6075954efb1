"""Outcomes as if a storm of ten seconds, and a calm of five, had been told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from otel_shed.command.storm.run import Outcome, Plan
from otel_shed.command.storm.testimony import Arrived, Closing, EndTimes, Reading, Started

PLAN = Plan(rate=200.0, seconds=10.0, calm=5.0, capacity=20.0)
BEGAN = 50.0
PHASES = ("normal", "observe", "degrade", "shed_optional", "recovery")
SPANS = 10
_THRESHOLD = (1 << 56) * 9 // 10

Keep = Callable[[int], int]
"""How many spans of a trace arrive, by its number."""


def outcome(keep: Keep, *, phases: bool = False) -> Outcome:
    """Twenty traces a second for ten seconds, then two; each tenth has failed."""
    starts = [BEGAN + number / 20 for number in range(200)] + [BEGAN + 10 + number / 2 for number in range(10)]
    started = [Started(f"{number:032x}", at, SPANS, number % 10 == 0) for number, at in enumerate(starts)]
    arrived = [
        Arrived(trace.trace_id, f"{number:08x}{span:08x}", "", trace.failed, _threshold(trace), trace.at + 2)
        for number, trace in enumerate(started)
        for span in range(keep(number))
    ]
    readings = [reading(tick / 4, phases=phases) for tick in range(4 * 15)]
    return Outcome(
        plan=PLAN,
        started=started,
        arrived=arrived,
        refused=[(BEGAN, 10)],
        readings=readings,
        storm=(BEGAN, BEGAN + 10),
        closings=[closing(readings[-1], len(arrived))],
        counted=len(arrived),
    )


def _threshold(trace: Started) -> int | None:
    return None if trace.failed else _THRESHOLD


def reading(at: float, *, phases: bool = False) -> Reading:
    made = Reading(
        at=BEGAN + at,
        is_storm=at < 10,
        started=int(200 * min(at, 10)),
        memory=60 << 20,
        cpu=at / 2,
        ends=EndTimes(50, 1e-5, 1e-4, 1e-3, 1e-2),
    )
    return replace(made, phase=PHASES[int(at / 3)]) if phases else made


def closing(last: Reading, exported: int, *, ended: int = 2100) -> Closing:
    dropped = {"over_budget": ended - exported}
    return Closing(
        ended=ended,
        unsampled=0,
        ends=EndTimes(2000, 1e-5, 1e-4, 1e-3, 1e-2),
        lost_calls=0,
        seconds_to_shut_down=0.1,
        last=replace(last, ended=ended, exported=exported, held=0, dropped=dropped, unaccounted=0),
    )


def torn() -> Outcome:
    """One span of each trace of the storm, all of the calm's; without an account."""
    made = outcome(lambda number: 1 if number < 200 else SPANS)
    bare = replace(made.closings[0].last, ended=None, exported=None, held=None, dropped={}, unaccounted=None)
    return replace(made, closings=[replace(made.closings[0], last=bare)])


def whole() -> Outcome:
    """Each tenth trace of the storm, and all that failed or are of the calm."""
    return outcome(lambda number: SPANS if number % 10 in (0, 5) or number >= 200 else 0, phases=True)
