"""The rate budget: how many spans a second the collector takes, found from what it accepts, and what is kept for that.

Owns the budget and what it was found from. ``exported`` is called after each export call, on the worker thread;
``tick`` by whoever comes by once ``due`` is past, so that a call that hangs or silence do not stop the clock. The
caller sees to it that only one of them runs at a time; anybody may read ``state``, which is replaced as a whole. It
takes no lock, reads no clock, makes no thread. The rules: the budget alone sets the probability, as Brownout alone sets
the phase; the probability depends on rates and on nothing about a trace, so a threshold made of it is honest.

The law. B is the budget, spans a second; while no limit was ever met there is none, and all is kept.

    kept share  p = aim / (roots a second * spans a kept root), at least min_probability, at most the ceiling
    aim           = B + (T - backlog) / 6 s, from B/2 to 1.03 B         T: a sixth of the queue; 0 where it refuses
    follow      B = m               m: throughput while a batch is always waiting, of a collector that does not refuse
    refused     B = 0.95 m          m: from one refusal to the next; where no other program is there
                B = 0.93 B          otherwise, once a call, and not if the call before was refused too; the
                                    first time at most what was taken lately
                B = 0.93 B          each time, while a batch waits, but no further than to 1.25 of what was taken lately
    unanswered  B = B/2             once, until the next answer
    grow        B = B + j s batch/64          each answer while no batch waits, at most B/10; s: seconds' worth of B
                                              that was taken, at most 2; j: 0.75..1.25
                B = B (1 + 0.07 j r^1.5)      instead, where programs share one that refuses; r: a batch in 8 s over B;
                                              with r/4 for r^1.5 where that is more
    explore     B = B 2^(s/6)       besides, while B is only a guess

So a collector that is slow is measured, not probed: what is aimed at keeps a batch waiting, with a sixth of the queue
behind it, and B follows what is seen. Programs that share one have a batch waiting each, and it serves them in turn.

One that refuses is probed. A program that has it to itself comes to rest where every fourth request is refused at
first; what it takes from one refusal to the next is the limit. Where programs share one, that is luck and no guide. But
each request is as likely to be refused as another's, so who has more is cut more often, and grows by a smaller part for
each request: shares become equal, whatever they were (Chiu, Jain 1989), in two or three minutes. The power is between 1
(growth the same for each request), with which they would stay as they are where refusals come to all at a time, and 2
(the same for each second), with which those that have little would be refused all the time, and those that have much
hardly move.

No growth while arrivals are below 0.8 B: nothing is learned about a limit that is not reached. B is a guess after an
outage, and where a collector that does not refuse works faster than that. After a minute in which all that was offered
fits, B is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import random as uniform

from otel_shed.control.demand import Demand
from otel_shed.control.threshold import KEEP_ALL, ThresholdInForce, in_force
from otel_shed.control.throughput import FORGET_SECONDS, Throughput
from otel_shed.outcome import Outcome

# Gentle, because what was measured is exact.
ALONE = 0.95
# Shares settle the closer to each other the less a refusal costs, and the later (TCP gives 1/2, RFC 9438 0.3, Netflix's
# concurrency-limits 0.1).
REFUSED = 0.93
UNANSWERED = 0.5
# A batch waits after each wait that was asked for; a budget that is too high shows in what does not get through.
BEYOND = 1.25
# At 500 spans a second 1.6 % a second, so from one refusal to the next it takes 10 s or 20 s.
STEPS_PER_BATCH = 64
# Where a cut and growth weigh the same. In simulation, a tenth of the requests is refused where programs have 500 spans
# a second each, a fifth at 250, and nearly half at 100.
EVEN_SECONDS = 8.0
EVEN_POWER = 1.5
# So that those who send two batches a second and more are refused some times a minute all the same.
LEAST_SHARE = 1 / 4
MOST_STEP = 0.1
# Half as far again by the time that it shows in what ends.
DOUBLING_SECONDS = 6.0
MOST_SECONDS = 2.0
# concurrency-limits' limits do not grow below half use; p is set for the whole budget, so here it is nearer to it.
USED = 0.8

# The backlog that is to stand, of the queue, and the time in which it is brought there: twice as long as a change of p
# takes to show in what ends.
STANDING = 1 / 6
DRAIN_SECONDS = 6.0
LEAST_AIM, MOST_AIM = 0.5, 1.03
# Less than a span a second is no budget, and a long way back.
LEAST = 1.0

TICK_SECONDS = 0.1
# A clock that is so far back was set back; less is two threads that read it, one of which then waited for the other.
BACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the pipeline can tell at one moment; all but the last three are counts since its start.

    roots: local roots that the sampler may thin out (``eligible``); kept: those that are recorded. Without a sampler
    that thins out, both are ``spans``. spans: sampled spans that have ended, but for ``low``, those shed for their low
    priority. overflowed: those dropped by a full queue. refusals: requests that the collector asked to make fewer of.
    queued: spans in the queue. waiting: seconds for which the answer to a request has been awaited, without waits that
    the collector asked for. ceiling: the most that may be kept for other reasons, 0..1.
    """

    roots: int
    kept: int
    spans: int
    overflowed: int = 0
    low: int = 0
    refusals: int = 0
    queued: int
    waiting: float = 0.0
    ceiling: float = 1.0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The budget at one moment.

    in_force: what new roots are decided by. spans_per_second: the budget; None while no limit is known. offered: spans
    a second that would come if all that the ceiling allows were kept. spans_per_root: how many a kept root brings.
    """

    in_force: ThresholdInForce = KEEP_ALL
    spans_per_second: float | None = None
    offered: float = 0.0
    spans_per_root: float = 1.0


class RateBudget:
    """The budget of one pipeline."""

    def __init__(
        self,
        *,
        queue_capacity: int,
        batch_size: int,
        min_probability: float = 0.01,
        random: Callable[[], float] = uniform,
    ) -> None:
        """``queue_capacity``, ``batch_size``: spans. ``min_probability``: 0..1, kept whatever the budget says, so that
        shedding does not blind what it goes by. ``random``: 0..1, so that programs do not move in step.
        """
        self._batch_size = batch_size
        self._standing = STANDING * queue_capacity
        self._min_probability = min_probability
        self._random = random
        self.state = BudgetState()
        self._budget: float | None = None
        # Whether B is only a guess.
        self._is_guess = False
        self._jitter = 1.0
        self._begin()

    def restart(self) -> None:
        """Forget counts and times: in a forked child they begin anew. What the collector takes is known there too."""
        self._begin()

    def _begin(self) -> None:
        self.due = -math.inf
        self._at = -math.inf
        self._demand = Demand()
        self._throughput = Throughput(self._batch_size)
        self._refusals = 0
        self._was_unanswered = False
        self._fits_since = math.inf

    def exported(self, now: float, begun: float, outcome: Outcome, *, queued: int, refusals: int) -> None:
        """An export call that began at ``begun`` has come to ``outcome``; times in seconds of one clock.

        ``queued``, ``refusals``: as in Counts. What it changes shows at the next tick.
        """
        self._mind_the_clock(now)
        self._notice_refusals(now, refusals)
        seen = self._throughput
        seen.exported(now, begun, outcome, queued=queued)
        if seen.unanswered:
            self._halve(now)
        elif seen.is_measured and not seen.is_refusing(now):
            self._follow(seen.while_pressed)
        elif not (seen.failed or seen.pressed or seen.refusals):
            self._grow(now)
        self._was_unanswered = seen.unanswered

    def ticks(self, now: float) -> bool:
        """Whether it is time for a tick, if somebody comes by who does not come back by himself."""
        return not self._at <= now < self._at + TICK_SECONDS / 2

    def tick(self, now: float, counts: Counts) -> None:
        """Take notice of what has come since, and set the probability anew."""
        self._mind_the_clock(now)
        if now - self._at < TICK_SECONDS / 2:
            return
        self._at, self.due = now, now + TICK_SECONDS
        self._demand.note(
            now,
            roots=counts.roots,
            kept=counts.kept,
            spans=counts.spans,
            low=counts.low,
            ceiling=counts.ceiling,
        )
        self._notice_refusals(now, counts.refusals)
        seen = self._throughput
        if self._budget is not None and seen.is_measured and counts.waiting > 0.0 and not seen.is_refusing(now):
            self._follow(min(self._budget, seen.at_best(counts.waiting)))
        self._publish(now, counts)

    def _mind_the_clock(self, now: float) -> None:
        if now < self._at - BACK_SECONDS:
            self._begin()

    # -- the law -------------------------------------------------------------------------------------------------

    def _set(self, budget: float, *, is_guess: bool) -> None:
        self._budget, self._is_guess = max(LEAST, budget), is_guess
        self._jitter = 0.75 + 0.5 * self._random()

    def _follow(self, measured: float) -> None:
        if self._budget is not None or measured < self._demand.arrivals:
            self._set(measured, is_guess=False)

    def _notice_refusals(self, now: float, so_far: int) -> None:
        refusals, self._refusals = max(0, so_far - self._refusals), so_far
        if not refusals:
            return
        wanted = self._demand.wanted
        budget = wanted if self._budget is None else self._budget
        seen = self._throughput
        is_first = seen.refused(now, refusals)
        if budget <= 0.0:
            return
        exactly = seen.between_refusals if seen.is_alone(now) else None
        if exactly is not None:
            less = ALONE * exactly
        else:
            less = REFUSED * budget if is_first and not seen.refusals else budget
            if seen.pressed:
                less = min(less, max(REFUSED**refusals * budget, BEYOND * seen.lately))
            if self._budget is None and seen.lately > 0.0:
                less = min(less, seen.lately)
        # Below the trickle, which is kept anyway, it would only be longer on its way back.
        least = min(budget, self._min_probability * wanted)
        self._set(max(least, less), is_guess=False)

    def _halve(self, now: float) -> None:
        if self._budget is not None and not self._was_unanswered:
            self._set(UNANSWERED * self._budget, is_guess=True)

    def _grow(self, now: float) -> None:
        budget, seen = self._budget, self._throughput
        if budget is None or self._demand.arrivals < USED * budget:
            return
        seconds, refuses = min(MOST_SECONDS, seen.taken / budget), seen.is_refusing(now)
        if refuses and not seen.is_alone(now):
            ratio = self._batch_size / EVEN_SECONDS / budget
            growth = (1.0 - REFUSED) * max(ratio**EVEN_POWER, LEAST_SHARE * ratio)
        else:
            growth = self._batch_size / STEPS_PER_BATCH * seconds / budget
        grown = budget * (1.0 + min(MOST_STEP, self._jitter * growth))
        if self._is_guess or (budget < seen.service and not refuses):
            grown *= 2.0 ** (seconds / DOUBLING_SECONDS)
        self._budget = grown

    def _publish(self, now: float, counts: Counts) -> None:
        demand, probability = self._demand, 1.0
        if self._budget is None or demand.offered > self._budget:
            self._fits_since = now
        self._fits_since = min(self._fits_since, now)
        if now - self._fits_since > FORGET_SECONDS:
            self._budget = None
        if self._budget is not None and demand.wanted > 0.0:
            probability = self._aim(now, counts.queued, self._budget) / demand.wanted
        probability = min(1.0, counts.ceiling, max(self._min_probability, probability))
        self.state = BudgetState(in_force(probability), self._budget, demand.offered, demand.spans_per_root)

    def _aim(self, now: float, queued: int, budget: float) -> float:
        seen = self._throughput
        standing = 0.0 if seen.is_refusing(now) else self._standing
        aim = budget + (standing - seen.backlog(now, queued)) / DRAIN_SECONDS
        return min(MOST_AIM * budget, max(LEAST_AIM * budget, aim))
