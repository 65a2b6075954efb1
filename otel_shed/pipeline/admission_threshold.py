"""How many traces may pass the queue, so that deciding on them takes no more than a share of a processor.

Owns what was measured of the last moments. Called in the ledger, after each slice of work behind the queue; it has no
clock of its own. The rule: at rates that can be followed nothing is refused, and the threshold depends on rates alone,
so what is counted from the traces that are admitted is right.

The law: while less than STANDING of the queue is full, all records are admitted; a burst waits there. Beyond that they
are admitted with p = (c + (standing - backlog) / DRAIN_SECONDS) / r, at most 1, until half as much waits. c: records a
second that the share of a processor is enough for, by what a record took lately; r: records a second that would come if
all were admitted.
"""

from __future__ import annotations

import math

from otel_shed.control.threshold import NEVER, threshold_of

# Of one processor, what decisions may take while nothing is sent for them: two shared cores are a small server.
CPU_SHARE = 0.1
TICK_SECONDS = 0.1
STANDING = 1 / 4
DRAIN_SECONDS = 2.0
# What a record took counts for so long.
MEMORY_SECONDS = 1.0
# Some traces are always admitted, so that rates and thresholds go on being measured.
LEAST_PROBABILITY = 0.001


class AdmissionThreshold:
    """threshold: 0 to 2**56-1, what a trace's randomness is held against as its records are queued; 0 admits all."""

    def __init__(self, *, cpu_share: float = CPU_SHARE) -> None:
        """``cpu_share``: of one processor, more than 0."""
        self._cpu_share = cpu_share
        self.restart()

    def restart(self) -> None:
        """Begin anew, in a forked child."""
        self.threshold = 0
        self._at = -math.inf
        self._came = self._decided = 0
        self._cpu = 0.0
        self._records, self._seconds = 0.0, 0.0

    def spent(self, records: int, cpu_seconds: float) -> None:
        """A slice of work has decided on so many records."""
        self._decided += records
        self._cpu += cpu_seconds

    def tick(self, now: float, *, came: int, backlog: int, capacity: int, is_limited: bool = True) -> bool:
        """Set the threshold anew once it is time to; whether it has changed.

        ``came``: records that ended since the pipeline began, those refused included. ``backlog``: that wait in the
        queue. ``capacity``: the most that may. ``is_limited``: whether decisions are held to their share; they are not
        while most of what they keep is sent.
        """
        elapsed = now - self._at
        if 0.0 <= elapsed < TICK_SECONDS:
            return False
        before, arrived = self.threshold, came - self._came
        is_first = not 0.0 <= elapsed < math.inf
        self._at, self._came = now, came
        kept = 0.0 if is_first else math.exp(-elapsed / MEMORY_SECONDS)
        self._records = self._records * kept + self._decided
        self._seconds = self._seconds * kept + self._cpu
        self._decided, self._cpu = 0, 0.0
        standing = STANDING * capacity
        is_short = backlog < (standing / 2 if before else standing)
        if not is_limited or is_short or self._seconds <= 0.0 or arrived <= 0:
            self.threshold = 0
            return before != 0
        if is_first:
            return False
        rate = arrived / elapsed
        decided = self._cpu_share * self._records / self._seconds
        probability = (decided + (standing - backlog) / DRAIN_SECONDS) / rate
        self.threshold = min(threshold_of(max(LEAST_PROBABILITY, probability)), NEVER - 1)
        return self.threshold != before
