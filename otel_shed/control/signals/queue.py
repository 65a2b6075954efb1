"""Signals of what is held and of what cannot be: how full the intake is, bytes held, drops, more offered than is taken.

Owns what each signal remembers between readings. Read by whichever thread evaluates the brownout, one at a time. The
rule: a storm's end is seen at the next reading; what has to last is the business of the brownout's calm, not of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from otel_shed.control.pressure import Levels, Patience, PressureReading, memory_shape, queue_shape

# What DEGRADE does about a storm shows when the traces that had begun before it have ended: a few seconds for most.
PATIENCE_SECONDS = 5.0
# Long enough to tell five drops a second from a handful, short enough to see a storm within its first second.
WINDOW_SECONDS = 1.0
# A full queue, of the way from the pressure at which shedding begins to 1: SHED_OPTIONAL is 0.8 of the way.
FULL = 0.6
# Offered to within a tenth of what the collector takes counts as more than it takes: a budget that probes for more
# swings by about as much, and the phase must not swing with it.
NEARLY_ALL = 0.9


class IntakeFill:
    """How full the intake is: 0.75 when it is 56 % full, 0.50 at a quarter, 0.90 when it is full.

    It never says that everything optional is to be shed: a queue that is full and loses little has its pipe well used,
    and what it loses is ``DropRate``'s to tell. ``fill``: 0..1, the fullest intake of all. What only waits for its
    batch to gather while nothing is being exported is no pressure and must not count.
    """

    name = "intake_fill"

    def __init__(self, fill: Callable[[], float], *, levels: Levels | None = None) -> None:
        self._fill = fill
        self._most = (levels or Levels()).above(FULL)

    def read(self, now: float) -> PressureReading:
        return PressureReading(min(self._most, queue_shape(self._fill())), self.name)


class HeldBytes:
    """Bytes held against the most that may be: 0.50 at half of it, 0.75 at two thirds."""

    name = "held_bytes"

    def __init__(self, held: Callable[[], int], limit: int, *, levels: Levels | None = None) -> None:
        """``limit``: bytes, more than 0."""
        self._held = held
        self._limit = limit
        self._patience = Patience(levels or Levels(), PATIENCE_SECONDS)

    def read(self, now: float) -> PressureReading:
        return PressureReading(self._patience.held(memory_shape(self._held() / self._limit), now), self.name)


class DropRate:
    """Spans dropped because the intake was full, a second, over the last second.

    At ``enter_per_second`` shedding begins; each further drop keeps it from ending, and a reading before which there
    was none is 0, so that it ends when the calm is over, counted from the last drop.
    """

    name = "drop_rate"

    def __init__(
        self, dropped: Callable[[], int], *, enter_per_second: float = 5.0, levels: Levels | None = None
    ) -> None:
        """``dropped``: how many so far; a count that has become less has begun anew."""
        self._dropped = dropped
        self._enter = enter_per_second
        self._levels = levels or Levels()
        self._patience = Patience(self._levels, PATIENCE_SECONDS)
        self._seen: deque[tuple[float, int]] = deque()  # readings, the first of them the last one before the window

    def read(self, now: float) -> PressureReading:
        count = self._dropped()
        seen = self._seen
        if seen and (count < seen[-1][1] or now < seen[-1][0]):
            seen.clear()
        previous = seen[-1][1] if seen else count
        seen.append((now, count))
        while len(seen) > 1 and seen[1][0] <= now - WINDOW_SECONDS:
            seen.popleft()
        began, before = seen[0]
        rate = (count - before) / max(WINDOW_SECONDS, now - began)
        pressure = self._patience.held(self._pressure(rate), now)
        return PressureReading(pressure if count > previous else 0.0, self.name)

    def _pressure(self, rate: float) -> float:
        if rate <= 0.0:
            return 0.0
        if rate < self._enter:
            return self._levels.between(rate / self._enter)
        # 4 times as many drops are half way to 1, 25 times as many are 0.8 of it.
        return self._levels.above(1.0 - (self._enter / rate) ** 0.5)


class OverBudget:
    """Spans offered a second against what the collector is believed to take.

    It begins no shedding, but while nearly as much is offered as is taken, none ends: the queue may be short only
    because of what is being shed.
    """

    name = "over_budget"

    def __init__(
        self, offered: Callable[[], float], budget: Callable[[], float | None], *, levels: Levels | None = None
    ) -> None:
        """``offered``: spans a second before anything is shed; ``budget``: None while no limit is known."""
        self._offered = offered
        self._budget = budget
        self._levels = levels or Levels()

    def read(self, now: float) -> PressureReading:
        budget, offered = self._budget(), self._offered()
        if budget is None or offered <= 0.0:
            return PressureReading(0.0, self.name)
        nearly = NEARLY_ALL * budget
        if offered < nearly:
            return PressureReading(self._levels.below(offered / nearly), self.name)
        return PressureReading(self._levels.between(1.0 - nearly / offered), self.name)
