"""The policy by default: which local traces the budget is spent on.

Asked in the ledger, by whoever is in it; it reads no clock and takes no lock. Owns two thresholds, and a debt. The rule
that must stay true: a threshold is made of rates and of what was kept before, never of the trace at hand, so it is the
probability with which that trace was kept.

Failed, slow, HIGH and CRITICAL traces have the first claim: on ``keep_share`` of the budget, and on what the others
leave of the rest. Where that is enough for them they are kept as they are, else by a threshold of their own. The others
share what is left, by theirs. Both are set anew ten times a second, so that

    spans kept a second = B - (backlog - standing) / 6 s, at least B/2, + debt / 3 s         B: the budget

The backlog is what was kept and has not gone out; as much as may stand keeps the collector busy. The debt is what was
kept too little of that so far, or too much: the demand is known by its recent rate only, and what is kept is chosen at
random, so with thresholds alone the collector would be idle at times, and at others more would be kept than it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from otel_shed.control.threshold import NEVER, probability_of, threshold_of
from otel_shed.control.trace_demand import TraceDemand
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.verdict import TraceView, Verdict
from otel_shed.record import Priority

TICK_SECONDS = 0.1
# A storm keeps so many seconds of the budget within less than a tick: then the next one comes as soon as this.
SURGE_SECONDS = 0.25
SURGE_TICK_SECONDS = 0.01
# As the budget has it: twice as long as a change takes to show.
DRAIN_SECONDS = 6.0
LEAST_SHARE = 1 / 2
# Of a small budget, so many seconds may stand.
STANDING_SECONDS = 5.0
SETTLE_SECONDS = 3.0
# What was not used is made up for, up to so many seconds of the budget or so many traces; more would be a burst. What
# was too much, as a large trace is, is paid back, by all but so large a share of the budget.
MOST_OWED_SECONDS = 1.0
MOST_OWED_TRACES = 4.0
MOST_OVERDRAWN_SECONDS = 10.0
LEAST_WHILE_OVERDRAWN = 1 / 4
# What comes late does so within the time of a trace.
SIZE_SECONDS = 10.0
MOST_FOR_EACH = 100.0

_NEVER_KEPT = Verdict(DropReason.OVER_BUDGET, NEVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the policy goes by, besides the demand.

    spans_per_second: the budget; None while no limit is known. min_priority: traces of a lower one are shed, unless
    they have a first claim; and spans below it, at most NORMAL, are left out of those that are kept. probability_floor:
    the share, 0..1, of NORMAL traces that is kept where they are below ``min_priority``. summarizes: of what is below
    it a summary is kept, and what has a first claim has no more than its share.
    """

    spans_per_second: float | None = None
    min_priority: Priority = Priority.LOW
    probability_floor: float = 0.0
    summarizes: bool = False


class _Size:
    """How many spans come of a kept trace, for each that it had when it was decided on: late ones, but no LOW ones."""

    def __init__(self) -> None:
        self._came = self._seen = 0.0

    @property
    def value(self) -> float:
        if not self._seen:
            return 1.0
        return min(MOST_FOR_EACH, max(1.0 / MOST_FOR_EACH, self._came / self._seen))

    def add(self, came: int, seen: int, seconds: float) -> None:
        remembered = math.exp(-seconds / SIZE_SECONDS)
        self._came = self._came * remembered + came
        self._seen = self._seen * remembered + seen


class BudgetPolicy:
    """Spends a budget of spans a second on whole traces; see the module.

    probability: 0..1, with which a trace without a first claim is kept now.
    """

    def __init__(
        self,
        *,
        conditions: Callable[[float], Conditions],
        occasion: Callable[[], object] | None = None,
        keep_share: float = 0.5,
        min_probability: float = 0.0,
        slow_trace: float | None = None,
        standing: int = 768,
    ) -> None:
        """``conditions`` is asked at most ten times a second, with the time, and at once where ``occasion`` gives
        another object than before; neither must wait.

        ``keep_share``, and ``min_probability`` of traces without a first claim: 0..1. ``slow_trace``: seconds; None is
        never. ``standing``: the spans that may wait for the worker without anything being done about it: a batch and a
        half. ValueError for what is out of range.
        """
        if not 0.0 <= keep_share <= 1.0:
            raise ValueError(f"keep_share must be from 0 to 1, not {keep_share!r}")
        if slow_trace is not None and not 0.0 <= slow_trace < math.inf:
            raise ValueError(f"slow_trace must be at least 0 s and finite, not {slow_trace!r}")
        if standing < 0:
            raise ValueError(f"standing must be at least 0 spans, not {standing!r}")
        self._conditions = conditions
        self._occasion = occasion
        self._last_occasion: object = None
        self._keep_share = keep_share
        self._min_probability = min_probability
        self._slow_trace = math.inf if slow_trace is None else slow_trace
        self._standing = standing
        self._at = self._due = -math.inf
        self._claimed, self._others = TraceDemand(), TraceDemand()
        # What was aimed at since the last tick, spans a second; the spans that were kept since then, as they were seen;
        # those that had come of traces kept; and how many come for each that is seen.
        self._aim = 0.0
        self._kept = self._came = 0
        self._size = _Size()
        self._surge = math.inf
        self._debt = 0.0
        self._publish(Conditions(), 0, 0)

    def __call__(self, trace: TraceView) -> Verdict:
        """Keep it, or shed it."""
        if self._occasion is not None and (occasion := self._occasion()) is not self._last_occasion:
            self._last_occasion = occasion
            self._look(trace)
        elif not self._at <= trace.now < (self._due if self._kept < self._surge else self._at + SURGE_TICK_SECONDS):
            self._look(trace)
        is_claimed = (
            trace.failed
            or trace.priority >= Priority.HIGH
            or (trace.duration is not None and trace.duration >= self._slow_trace)
        )
        if trace.priority < self._min_priority and not is_claimed:
            if trace.priority is Priority.LOW:
                return self._low
            keep, shed = self._by_floor
        elif is_claimed:
            self._claimed.add(trace.spans, trace.threshold)
            keep, shed = self._by_claim
        else:
            self._others.add(trace.spans, trace.threshold)
            keep, shed = self._by_rest
        if trace.randomness < (keep.threshold or 0):
            return shed
        self._kept += trace.spans
        return keep

    def _look(self, trace: TraceView) -> None:
        conditions, seconds = self._conditions(trace.now), trace.now - self._at
        self._at, self._due = trace.now, trace.now + TICK_SECONDS
        came, self._came = max(0, trace.kept - self._came), trace.kept
        if 0.0 < seconds < math.inf:
            self._claimed.look(seconds)
            self._others.look(seconds)
            self._size.add(came, self._kept, seconds)
            self._debt += self._aim * seconds - came
        self._kept = 0
        budget = conditions.spans_per_second
        if budget is None:
            self._aim, self._debt, self._surge = 0.0, 0.0, math.inf
            self._publish(conditions, 0, 0)
            return
        self._surge = SURGE_SECONDS * budget
        backlog = max(0.0, trace.ready - min(self._standing, STANDING_SECONDS * budget))
        self._aim = max(LEAST_SHARE * budget, budget - backlog / DRAIN_SECONDS)
        most = MOST_OVERDRAWN_SECONDS * budget
        owed = min(most, max(MOST_OWED_SECONDS * budget, MOST_OWED_TRACES * self._others.spans_per_trace))
        self._debt = min(owed, max(-most, self._debt))
        room = max(LEAST_WHILE_OVERDRAWN * budget, self._aim + self._debt / SETTLE_SECONDS) / self._size.value
        if conditions.summarizes:
            room *= self._keep_share
        claim = max(self._keep_share * room, room - self._others.spans_per_second)
        claim = min(claim, self._claimed.spans_per_second)
        self._publish(
            conditions,
            threshold_of(self._claimed.probability(claim)),
            threshold_of(max(self._min_probability, self._others.probability(room - claim))),
        )

    def _publish(self, conditions: Conditions, claimed: int, others: int) -> None:
        """The verdicts until the next look; thresholds of 0 keep all."""
        below = Fate.SUMMARIZED if conditions.summarizes else DropReason.LOW_PRIORITY
        self._min_priority = conditions.min_priority
        left_out = min(conditions.min_priority, Priority.NORMAL)
        claimed, others = min(claimed, NEVER - 1), min(others, NEVER - 1)
        floor = min(max(others, threshold_of(conditions.probability_floor)), NEVER - 1)
        if conditions.summarizes and not self._keep_share:
            self._by_claim = self._by_rest = self._by_floor = (_NEVER_KEPT, Verdict(below))
            self._low = Verdict(below)
            self.probability = 0.0
            return
        self._by_claim = (
            Verdict(None, claimed or None, left_out, Priority.HIGH),
            Verdict(DropReason.OVER_BUDGET, claimed),
        )
        self._low = Verdict(below)
        self.probability = probability_of(others if conditions.min_priority <= Priority.NORMAL else floor)
        self._by_rest = (Verdict(None, others, left_out), Verdict(DropReason.OVER_BUDGET, others))
        self._by_floor = (Verdict(None, floor, left_out), Verdict(below, floor))
