"""What other programs take of the machine while a benchmark runs: a goal that is missed meanwhile says little.

Called by the benchmark's main thread. The rule: it is asked between measurements, never during one.
"""

from __future__ import annotations

import time

import psutil

# In less than this, nothing can be said that has not been said.
_LEAST_SECONDS = 0.5


class Neighbours:
    """The share of all processors, 0..1, that was taken by other programs, or by other guests of the host."""

    def __init__(self) -> None:
        self._at, self._all, self._own = time.monotonic(), _taken(), _own()
        self._share: float | None = None

    def share(self) -> float | None:
        """Since the last time; None where nothing is known yet."""
        now = time.monotonic()
        if now - self._at >= _LEAST_SECONDS:
            everybody, own = _taken(), _own()
            there_was = (now - self._at) * (psutil.cpu_count() or 1)
            others = (everybody - self._all) - (own - self._own)
            self._share = min(1.0, max(0.0, others / there_was))
            self._at, self._all, self._own = now, everybody, own
        return self._share


def _taken() -> float:
    """CPU seconds that the machine has spent on anything, what its host took for others included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - _counted_twice(times))


def _counted_twice(times: object) -> float:
    return float(getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0))


def _own() -> float:
    """CPU seconds of this process and of all that it has started, ended ones included."""
    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # its time is in its parent's
            continue
        total += (
            times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        )
    return total
