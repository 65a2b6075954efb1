"""Rates and ratios that forget: what has happened counts the less, the longer ago it was.

Values for one owner, without a lock or a clock: how much time has passed is passed in. The rule: intervals of any
length add up as if each of their events had come alone, at an even pace.
"""

from __future__ import annotations

import math


class Rate:
    """Events a second, over the seconds that were measured and not over those between them.

    value: 0 before anything was measured. seconds: how many were, however long ago.
    """

    __slots__ = ("_memory", "_weight", "seconds", "value")

    def __init__(self, memory: float) -> None:
        """``memory``: seconds measured until an event counts 1/e of what it did."""
        self._memory = memory
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self.value = self.seconds = self._weight = 0.0

    def add(self, count: float, seconds: float) -> None:
        """So many came within the next so many seconds, more than 0."""
        weight = 1.0 - math.exp(-seconds / self._memory)
        self._weight += weight * (1.0 - self._weight)
        self.value += (weight / self._weight) * (count / seconds - self.value) if self._weight > 0.0 else 0.0
        self.seconds += seconds

    def if_added(self, count: float, seconds: float) -> float:
        """What the value would be after ``add``."""
        weight = 1.0 - math.exp(-seconds / self._memory)
        whole = self._weight + weight * (1.0 - self._weight)
        return self.value + (weight / whole) * (count / seconds - self.value) if whole > 0.0 else self.value


class Ratio:
    """How many of one thing come with each of another."""

    __slots__ = ("_above", "_below", "_memory")

    def __init__(self, memory: float) -> None:
        """``memory``: seconds until what was counted counts 1/e of what it did."""
        self._memory = memory
        self._above = self._below = 0.0

    def add(self, above: float, below: float, seconds: float) -> None:
        """So many of each have come in so many seconds."""
        remembered = math.exp(-seconds / self._memory)
        self._above = self._above * remembered + above
        self._below = self._below * remembered + below

    def value(self, otherwise: float, *, least: float = 0.0) -> float:
        """The ratio; ``otherwise`` as long as there is no more than ``least`` to divide by."""
        return self._above / self._below if self._below > least else otherwise
