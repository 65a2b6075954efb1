"""Tracing's own share of the process's CPU time, measured, and what keeps it within a budget.

``CpuMeter`` is written by the threads whose time is measured, without a lock; ``CpuShare`` is read by whichever thread
evaluates the brownout, one at a time. What is measured is this library's own work: on_end, the sampler, the worker; not
the SDK's, nor threads that a transport runs inside itself. The rule: what is measured is CPU time, not time passed, so
that a thread that waits for the interpreter is not blamed for those it waits for.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from otel_shed.control.pressure import Levels, PressureReading
from otel_shed.interruption import EXHAUSTED
from otel_shed.native import thread_id

# One call in so many is timed: reading a thread's CPU clock takes about 0.4 us, twice a call, beside 20 us of work.
ONE_IN = 16
# Timings kept until they are read, ten times a second; more would be 650,000 calls a second.
_MAX_TIMINGS = 4096
# Readings of the clock, of which the middle one tells what one takes.
_READINGS = 15

# A share is taken over so much time passed, and at least so much CPU time: CPU clocks tick as slowly as 15 ms.
WINDOW_SECONDS = 0.5
_LEAST_CPU_SECONDS = 0.05
# A process that uses less than 50 ms of CPU in this time has CPU to spare, whatever the share.
_LONGEST_WINDOW_SECONDS = 5.0
# Aimed below the budget, since measuring and reacting take a while; and what was spent too much is paid back in 20 s,
# at most at three quarters of the budget, so that it holds over a minute.
_AIM = 0.85
_PAY_BACK_SECONDS = 20.0
_LEAST_AIM = 0.25
_MOST_DEBT_SECONDS = 60.0
# Traces that have begun go on to their end, so an effect shows late: small corrections are taken half way, on the
# logarithm, to not swing; growth is at most fourfold a window.
_LARGE_CORRECTION = 0.5
_MOST_GROWTH = 4.0


_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class CpuMeter:
    """Adds up the CPU seconds that tracing takes."""

    def __init__(
        self,
        *,
        thread_time: Callable[[], float] = time.thread_time,
        thread_id: Callable[[], int] = thread_id,
        random: Callable[[], float] = random.random,
    ) -> None:
        """``thread_time``: the calling thread's CPU seconds, ``thread_id``: which one that is. ``random``: 0..1, which
        calls are timed.
        """
        self._thread_time = thread_time
        self._thread_id = thread_id
        self._random = random
        # A timing has a part of its own cost in it, which is as much again as what the shortest calls take.
        self._reading = sorted(-thread_time() + thread_time() for _ in range(_READINGS))[_READINGS // 2]
        self.restart()

    def restart(self) -> None:
        """In a forked child: the parent's time is not ours."""
        self._calls: deque[float] = deque(maxlen=_MAX_TIMINGS)
        self._worker: deque[float] = deque(maxlen=_MAX_TIMINGS)
        self._worker_clocks: dict[int, float] = {}
        self.used = 0.0

    def metered(self, call: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
        """``call``, a part of the hot path, of which one in so many is timed."""
        random = self._random

        def timed(*args: _Given.args, **named: _Given.kwargs) -> _Result:
            begun = None
            try:
                if random() * ONE_IN < 1.0:  # hardly more than a call, since most are not timed
                    begun = self._thread_time()
            except EXHAUSTED:  # not to be timed; the call sees to itself
                pass
            result = call(*args, **named)
            if begun is not None:
                try:
                    self._calls.append(self._thread_time() - begun - self._reading)
                except EXHAUSTED:
                    pass
            return result

        return timed

    def worker_turned(self) -> None:
        """A thread that does nothing but our work has done what was due; called on that thread."""
        now, worker = self._thread_time(), self._thread_id()
        # All of its time is ours, so what it has used since it was last here.
        self._worker.append(now - self._worker_clocks.get(worker, 0.0))
        self._worker_clocks[worker] = now

    def collect(self) -> float:
        """CPU seconds used so far; called by one thread at a time."""
        self.used += ONE_IN * _drain(self._calls) + _drain(self._worker)
        return self.used


def _drain(timings: deque[float]) -> float:
    total = 0.0
    for _ in range(len(timings)):
        total += max(0.0, timings.popleft())
    return total


class CpuShare:
    """Tracing's share of the process's CPU time against what it may be.

    From the budget on it is 0.75 and more, 0.95 at five times the budget. ``ceiling`` is what to do about it: the most,
    0..1, of the traces that may be recorded for the share to fall to the budget; while it is below 1 the phase is held.
    """

    name = "cpu_share"

    def __init__(
        self,
        meter: CpuMeter,
        budget: float,
        *,
        floor: float = 0.01,
        process_time: Callable[[], float] = time.process_time,
        levels: Levels | None = None,
    ) -> None:
        """``budget``: a share, 0..1, above 0. ``floor``: what the ceiling does not go below, 0..1, above 0.

        ``process_time``: CPU seconds of the whole process.
        """
        self._meter = meter
        self._budget = budget
        self._floor = floor
        self._process_time = process_time
        self._levels = levels or Levels()
        self._began: tuple[float, float, float] | None = None  # now, CPU used by tracing, CPU used by the process
        self._debt = 0.0  # CPU seconds that tracing has taken beyond its budget and not paid back
        self.share = 0.0
        self.ceiling = 1.0

    def read(self, now: float) -> PressureReading:
        used, total = self._meter.collect(), self._process_time()
        began = self._began
        if began is None or now < began[0] or used < began[1] or total < began[2]:  # also in a forked child
            self._began = (now, used, total)
        else:
            elapsed, used_since, total_since = now - began[0], used - began[1], total - began[2]
            enough = total_since >= _LEAST_CPU_SECONDS
            if elapsed >= (WINDOW_SECONDS if enough else _LONGEST_WINDOW_SECONDS):
                self._began = (now, used, total)
                self._learn(elapsed, used_since if enough else 0.0, total_since)
        return PressureReading(self._pressure(), self.name)

    def _learn(self, elapsed: float, used: float, total: float) -> None:
        """One window: ``used`` of ``total`` CPU seconds were tracing's."""
        self.share = min(1.0, used / total) if total > 0.0 else 0.0
        rate = total / elapsed
        debt = self._debt + used - self._budget * total
        self._debt = min(max(0.0, debt), _MOST_DEBT_SECONDS * self._budget * rate)
        owed = self._debt / (_PAY_BACK_SECONDS * rate) if rate > 0.0 else 0.0
        aim = max(_AIM * self._budget - owed, _LEAST_AIM * self._budget)
        correction = min(aim / self.share, _MOST_GROWTH) if self.share > 0.0 else _MOST_GROWTH
        if correction > _LARGE_CORRECTION and self.share > 0.0:
            correction **= 0.5
        self.ceiling = min(1.0, max(self._floor, self.ceiling * correction))

    def _pressure(self) -> float:
        times = self.share / self._budget
        if times >= 1.0:
            return self._levels.above(1.0 - 1.0 / times)
        if self.ceiling < 1.0:
            return self._levels.between(1.0 - self.ceiling)
        return self._levels.below(times)
