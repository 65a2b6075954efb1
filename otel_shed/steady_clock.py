"""A clock that does not go back, made of one that may: else whatever waits for it would stand still meanwhile.

Owns how far the clock has gone back in all. Called by every thread, without a lock: what is known is one tuple that is
replaced as a whole. The rule: no reading is less than an earlier one, but for what threads that read at once differ by.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from otel_shed.log_limit import LogLimit


def steady(clock: Callable[[], float]) -> Callable[[], float]:
    """``clock`` itself if it is known not to go back, else a SteadyClock of it."""
    return clock if clock is time.monotonic else SteadyClock(clock)


class SteadyClock:
    """Goes on where ``clock`` has gone back, as if no time had passed; seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._log = LogLimit(logging.getLogger("otel_shed"))
        self._state = (clock(), 0.0)  # what it said last, and what is to be added

    def __call__(self) -> float:
        last, added = self._state  # before the clock is read: what another thread reads meanwhile is no step back
        now = self._clock()
        if now < last:
            self._log.warning("back", "the clock went back by %.3f s, which is taken as no time", last - now)
            added += last - now
        self._state = (now, added)
        return now + added
