"""A flow: what the control knows of one pipeline, and what it made of it: what the collector answers, and the budget.

Owns the pipeline's Exports and RateBudget. Outcomes are told by the worker, on its thread; the budget is moved on by
whoever comes by, one at a time, and nobody waits for another: what is told meanwhile is kept for the next. The rule:
nothing here blocks, so it may be called in the middle of Span.end() and of a signal handler.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from otel_shed.control.budget import BudgetState, Counts, RateBudget
from otel_shed.control.policy import BudgetPolicy
from otel_shed.control.signals.exports import Exports
from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.native import allocate_lock
from otel_shed.outcome import Outcome

# The age of what is held is told to within so much.
_MARK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowReading:
    """One pipeline at one moment; numbers of spans, the first three since it began.

    sampled: that ended and whose context says to export them. low: shed for their low priority. overflowed: dropped by
    the full queue. queued: waiting to be taken. fill: of the queue, 0..1. held_bytes: what is in flight included.
    is_exporting: whether a batch is in the exporter's hands. admitted: spans that were queued since it began, and
    oldest: how many had been before the oldest that is held, if they go in their order; held_since: when the oldest of
    those came that do not, in seconds of the pipeline's clock. shed, would_have_shed,
    exported: since it began; shed by choice. undelivered: lost because the collector did not take them in time. held:
    waiting in all, or in flight.
    """

    sampled: int = 0
    low: int = 0
    overflowed: int = 0
    queued: int = 0
    fill: float = 0.0
    held_bytes: int = 0
    is_exporting: bool = False
    admitted: int = 0
    oldest: int = 0
    held_since: float = math.inf
    shed: int = 0
    would_have_shed: int = 0
    undelivered: int = 0
    exported: int = 0
    held: int = 0

    @property
    def pressing_fill(self) -> float:
        """The fill; what only waits for its batch to gather is no pressure."""
        return self.fill if self.is_exporting else 0.0


@dataclass(frozen=True, slots=True)
class HeadCounts:
    """What the samplers have decided, since they began. roots: local roots that may be thinned out; kept: of these."""

    roots: int = 0
    kept: int = 0
    ceiling: float = 1.0


class Flow:
    """One pipeline under control."""

    def __init__(
        self,
        *,
        read: Callable[[], FlowReading],
        head: Callable[[], HeadCounts],
        budget: RateBudget,
        policy: BudgetPolicy | None = None,
        fills_in: float = 0.0,
        where: str = "the collector",
        clock: Callable[[], float],
    ) -> None:
        """``where``: what the pipeline exports to, for log lines. ``fills_in``: seconds that the oldest span waits when
        the queue counts as full; a burst that is gone by then is no pressure. 0 where the number of spans alone tells.
        """
        self.read = read
        self.where = where
        self._fills_in = fills_in
        self._head = head
        self.budget = budget
        self.policy = policy
        self._clock = clock
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self.exports = Exports(clock=clock)
        # When it ended, when it began, what it came to, and how many spans were queued and requests refused by then.
        self._told: deque[tuple[float, float, Outcome, int, int]] = deque()
        self._lock = allocate_lock()
        # How many had been queued when, and since when the oldest span has been held: to within a second.
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._oldest_came = clock()
        # The export call under way, by when it began, and since when the oldest of its spans has been held.
        self._call: tuple[float | None, float] = (None, math.inf)

    @property
    def state(self) -> BudgetState:
        """The budget as it stands."""
        return self.budget.state

    @property
    def fill(self) -> float:
        """How full the queue is, 0..1; what only waits for its batch to gather is no pressure."""
        fill = self.read().pressing_fill
        return min(fill, self.oldest_seconds / self._fills_in) if self._fills_in else fill

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest span held has been, to within a second or so; 0 where none is."""
        reading = self.read()
        return max(0.0, self._clock() - self._oldest_came) if reading.oldest < reading.admitted else 0.0

    def told(self, began: float, outcome: Outcome, *, queued: int | None = None) -> None:
        """An export call that began at ``began`` has come to its outcome, with so many spans queued by then.

        On the worker's thread. The pipeline is read for ``queued`` where it is not given. What it changes shows with a
        tick of the budget: until then it is only kept.
        """
        now = self._clock()
        if queued is None:
            queued = self.read().queued
        self._told.append((now, began, outcome, queued, self.exports.refusals))
        if self.budget.ticks(now):
            self.move_on(now)

    def move_on(self, now: float) -> None:
        """Have the budget take notice of what has come, unless somebody is at it."""
        lock = self._lock  # another one, if this thread forks in the middle
        if not lock.acquire(False):
            return
        try:
            budget, is_told = self.budget, False
            while self._told:
                ended, began, outcome, queued, refusals = self._told.popleft()
                budget.exported(ended, began, outcome, queued=queued, refusals=refusals)
                is_told = True
            # Reading the pipeline costs as much as all else that a batch does here.
            if now >= budget.due or (is_told and budget.ticks(now)):
                reading = self.read()
                self._age(now, reading)
                budget.tick(now, self._counts(now, reading))
        except Exception as error:  # a fault of ours: the budget stays as it was, and what else there is goes on
            if is_applications(error):
                raise
            self._log.warning("budget", "fault in the budget: %s: %s", type(error).__name__, error)
        finally:
            lock.release()

    def _age(self, now: float, reading: FlowReading) -> None:
        marks = self._marks
        while len(marks) > 1 and marks[1][1] <= reading.oldest:
            marks.popleft()
        if now < marks[-1][0] or reading.oldest >= reading.admitted:
            marks.clear()  # nothing is held: what comes next is not as old as the last that came
        if not marks or now - marks[-1][0] >= _MARK_SECONDS:
            marks.append((now, reading.admitted))
        oldest_came = min(marks[0][0], reading.held_since)
        # While a call lasts its spans are held, whatever becomes of those that came later.
        if (began := self.exports.busy_since) is None or not reading.is_exporting:
            self._call = None, math.inf
        elif began == self._call[0]:
            oldest_came = min(oldest_came, self._call[1])
        else:
            self._call = began, oldest_came
        self._oldest_came = oldest_came

    def _counts(self, now: float, reading: FlowReading) -> Counts:
        head = self._head()
        # Where no sampler of ours decides, each span is its own root: nothing is thinned out by then.
        thinned = head.roots > 0
        return Counts(
            roots=head.roots if thinned else reading.sampled,
            kept=head.kept if thinned else reading.sampled,
            spans=reading.sampled - reading.low,
            low=reading.low,
            overflowed=reading.overflowed,
            queued=reading.queued,
            refusals=self.exports.refusals,
            waiting=self.exports.waiting(now),
            ceiling=head.ceiling,
        )

    def after_fork_in_child(self) -> None:
        """What was learned of the collector by the last tick holds here too; the rest is the parent's."""
        self._lock = allocate_lock()
        self._told.clear()
        self._marks = deque([(self._clock(), 0)])
        self._call = None, math.inf
        self.exports.after_fork_in_child()
        self.budget.restart()
