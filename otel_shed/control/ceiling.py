"""Ceilings: the most that may be recorded of the local roots, whatever the collector takes.

``OTEL_TRACES_SAMPLER_ARG`` sets one. Asked by application threads, once for each root that starts, without a lock:
what a ceiling knows is one tuple that is replaced as a whole. The rule: what it answers depends on when roots start and
on nothing about the root at hand, so a threshold made of it stays a sampling probability.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Protocol

from otel_shed.arguments import check_clock, check_instance
from otel_shed.control.threshold import KEEP_ALL, ThresholdInForce, in_force

# So many seconds' worth of roots may come at once, at most, before any is left out; a root at least.
BURST_SECONDS = 0.5
# The credit in which the probability falls to 1/e: a tenth of a second's worth, so that the probability is the mean
# over as long, and lags a step of the rate by as much; for small rates two roots, or it would be one root's chance.
FALL_SECONDS = 0.1
FALL_ROOTS = 2.0
# The probability comes in steps of 1.6 %: from 1 to a millionth of it there are fewer of them than the cache holds.
_STEPS = 64


class Ceiling(Protocol):
    """What limits a sampler."""

    @property
    def probability(self) -> float:
        """The most that may be recorded now, 0..1."""

    def admit(self) -> ThresholdInForce:
        """A root starts: the threshold that it has to reach."""


class FixedCeiling:
    """At most this share of the local roots, 0..1; ValueError otherwise."""

    def __init__(self, probability: float) -> None:
        check_instance("probability", probability, (int, float), "a number")
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability, a ceiling, must be from 0 to 1, not {probability!r}")
        self._in_force = in_force(probability)

    @property
    def probability(self) -> float:
        return self._in_force.probability

    def admit(self) -> ThresholdInForce:
        return self._in_force

    def __repr__(self) -> str:
        return f"{self.probability:g}"


class RateCeiling:
    """At most so many local roots a second, on average over seconds.

    A token bucket in which each root spends its probability, kept or not, and the probability falls with what is owed,
    e times for each ``FALL_SECONDS``. So the probabilities never add up to more than the rate, the burst and what is
    owed; and each root is left out by chance, for which those kept can be weighted, and not for when it came, as by a
    plain bucket. (To measure the rate first, as OTEP 250's ConsistentRateLimiting does, with a memory of a second lets
    pass 1 + ln(1000), nearly eight seconds' worth, when the rate rises to a thousand times the limit.)
    """

    def __init__(self, roots_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``roots_per_second``: more than 0 and finite, ValueError otherwise. ``clock``: seconds."""
        check_instance("roots_per_second", roots_per_second, (int, float), "a number")
        check_clock(clock)
        if not 0.0 < roots_per_second < math.inf:
            raise ValueError(f"roots_per_second, a rate, must be more than 0 and finite, not {roots_per_second!r}")
        self.roots_per_second = roots_per_second
        self._burst = max(1.0, BURST_SECONDS * roots_per_second)
        self._steps = _STEPS / max(FALL_ROOTS, FALL_SECONDS * roots_per_second)
        self._clock = clock
        # Taking the next is one step, on free-threaded builds too: no root is missed, none counted twice.
        self._numbers = count()
        # A root's time and number, the credit before it, and what it was answered.
        self._state = (clock(), 0, self._burst, KEEP_ALL)

    @property
    def probability(self) -> float:
        return self._state[3].probability

    def admit(self) -> ThresholdInForce:
        then, last, credit, answer = self._state  # read first, so that number and time are later than its
        number, now = next(self._numbers), self._clock()
        # Threads that get here at once overwrite each other's state; those roots are paid for by the next one, which
        # knows how many they were. A clock that goes back earns nothing.
        credit -= (number - last) * answer.probability
        if now > then:
            credit += self.roots_per_second * (now - then)
            if credit > self._burst:  # noqa: PLR1730 (to call min() takes a tenth of a decision)
                credit = self._burst
        answer = KEEP_ALL if credit >= 0.0 else _fallen(math.ceil(-credit * self._steps))
        self._state = (now, number, credit, answer)
        return answer

    def __repr__(self) -> str:
        return f"rate={self.roots_per_second:g}"


@lru_cache(maxsize=1024)
def _fallen(steps: int) -> ThresholdInForce:
    return in_force(math.exp(-steps / _STEPS))


_ARGUMENT = re.compile(
    r"(?P<rate>rate\s*=\s*)?(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)", re.ASCII | re.IGNORECASE
)


def parse_ceiling(argument: str | None, *, clock: Callable[[], float] = time.monotonic) -> Ceiling | None:
    """What ``OTEL_TRACES_SAMPLER_ARG`` says: ``0.25``, a share, or ``rate=100``, roots a second; None if it is empty.

    ValueError, with what is allowed, for anything else.
    """
    text = (argument or "").strip()
    if not text:
        return None
    found = _ARGUMENT.fullmatch(text)
    if found is not None:
        try:
            number = float(found["number"])
            return RateCeiling(number, clock=clock) if found["rate"] else FixedCeiling(number)
        except ValueError:  # out of range
            pass
    raise ValueError("a number from 0 to 1, or rate= and a number above 0")
