"""A program in a time that only the simulation moves, with its control and sampler, a pipeline and a collector.

The control with its budget, signals, phases and thresholds, the sampler and the rules of retry are the real ones; the
program, its pipeline and the collector are models. A program starts traces at random (Poisson); their spans end evenly
over each trace's duration; the gate does to them what the phase says; the pipeline queues them (2,048; full: the oldest
go) and sends batches of 512 one at a time, or what there is after five seconds, as the worker does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from opentelemetry.context import Context

from otel_shed.config import ShedConfig
from otel_shed.control.budget import RateBudget
from otel_shed.control.ceiling import Ceiling
from otel_shed.control.flow import FlowReading, HeadCounts
from otel_shed.control.overload import OverloadControl
from otel_shed.control.phase import Action, Phase
from otel_shed.control.pressure import PressureSignal
from otel_shed.control.signals.memory import ProcessMemory
from otel_shed.control.threshold import adjusted_count, read_ot
from otel_shed.otlp.retry import RetryPolicy
from otel_shed.outcome import DropReason, Outcome
from otel_shed.sampler import AdaptiveSampler
from tests.control.collectors import Answer, Collector

QUEUE, BATCH, LINGER = 2048, 512, 5.0
EXPORT_SECONDS, PARKED_SECONDS = 30.0, 300.0  # of trying, and of waiting because the collector asked for it
_NO_PARENT = Context()
# A trace's spans end in so many lumps at most.
_LUMPS = 10

Load = Callable[[float], float]


@dataclass
class Second:
    """What a client saw within one second, in spans; the last four as they stood at its end."""

    offered: float = 0.0
    accepted: float = 0.0
    overflowed: int = 0
    summarized: int = 0
    low: int = 0
    queued: int = 0
    probability: float = 1.0
    budget: float | None = None
    phase: Phase = Phase.NORMAL

    @property
    def full(self) -> bool:
        """Whether it was one of full fidelity."""
        shed = self.overflowed + self.summarized + self.low
        return self.probability == 1.0 and self.phase in (Phase.NORMAL, Phase.OBSERVE) and not shed


@dataclass
class Totals:
    """Sums over a run: traces started, and the sum of the adjusted counts of those that were recorded."""

    roots: int = 0
    adjusted: float = 0.0
    phases: list[tuple[float, Phase]] = field(default_factory=list)


class _Control(OverloadControl):
    """Without the one signal that reads what the simulation does not make."""

    def _own_signals(self) -> Iterable[PressureSignal]:
        return (signal for signal in super()._own_signals() if not isinstance(signal, ProcessMemory))


class Client:
    """One program: it starts traces, its sampler decides on them, its worker sends their spans."""

    def __init__(
        self,
        collector: Collector,
        load: Load,
        *,
        rng: random.Random,
        step: float,
        size: int = 10,
        duration: float = 2.0,
        low: float = 0.0,
        sampled: bool = True,
        ceiling: Ceiling | None = None,
    ) -> None:
        """load: spans a second at a time. size: spans of a trace; duration: its seconds; low: the share of its spans
        that are of low priority. sampled: with a sampler, else only with a processor.
        """
        self.collector, self.load = collector, load
        self.now = 0.0
        self._rng, self._step, self._size, self._low = rng, step, size, low
        # Of their own, so that what is decided by them depends on nothing else that is drawn.
        self._trace_ids = random.Random(rng.getrandbits(64))
        clock = self._clock
        self.control = _Control(ShedConfig(), clock=clock)
        self.flow = self.control.add_flow(self._read, queue_capacity=QUEUE, batch_size=BATCH)
        self.flow.budget = RateBudget(queue_capacity=QUEUE, batch_size=BATCH, random=rng.random)
        self.sampler = AdaptiveSampler(threshold=self.control.threshold, ceiling=ceiling) if sampled else None
        if self.sampler is not None:
            self.control.add_head(self._head)
        self._retry = RetryPolicy()
        # The spans that end at each step from now on, in a ring.
        lumps = min(size, _LUMPS)
        self._offsets = [max(1, round(duration * part / lumps / step)) for part in range(1, lumps + 1)]
        self._lump = size / lumps
        self._ends = [0.0] * (self._offsets[-1] + 1)
        self._place = 0
        self._low_left = self._part_left = 0.0
        # The pipeline.
        self.queued = 0
        self._due = math.inf
        self._batch = 0
        self._attempts, self._begun, self._waited = 0, 0.0, 0.0
        self._answer: Answer | None = None
        self._sampled = self._shed_low = self._overflowed = 0
        # When the program goes on by a step, and when its worker does.
        self._lived_until = 0.0
        self._step_at, self._event_at = rng.random() * step, math.inf
        self.totals = Totals()
        self.seconds: list[Second] = []

    def _clock(self) -> float:
        return self.now

    def _read(self) -> FlowReading:
        return FlowReading(
            sampled=self._sampled,
            low=self._shed_low,
            overflowed=self._overflowed,
            queued=self.queued,
            fill=self.queued / QUEUE,
            is_exporting=self._batch > 0,
        )

    def _head(self) -> HeadCounts:
        sampler = self.sampler
        assert sampler is not None
        return HeadCounts(sampler.eligible, sampler.started - sampler.sampled_out, sampler.ceiling_probability)

    @property
    def next(self) -> float:
        """When it goes on."""
        return min(self._step_at, self._event_at)

    def go_on(self) -> None:
        """Live through what is next: an event of its worker, or a step of the program."""
        if self._event_at < self._step_at:
            self.now = self._event_at
            self._event()
        else:
            self.now = self._step_at
            self._live()
            # At random, or programs whose turn is always after a quiet moment would be let in more often than others.
            self._step_at = self.now + self._step * (0.5 + self._rng.random())

    # -- the program -------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        self.control.look(self.now)
        self._start_traces()
        self._end_spans()
        if not self._batch:
            self._wake()
        second, row = self._second(), self.control.brownout.last_row
        second.queued, second.phase = self.queued, row.phase
        second.probability = self.control.threshold().probability
        second.budget = self.flow.state.spans_per_second
        before = self.totals.phases
        if row.phase is not (before[-1][1] if before else Phase.NORMAL):
            before.append((self.now, row.phase))

    def _second(self, number: int | None = None) -> Second:
        number = int(self.now) if number is None else number
        while len(self.seconds) <= number:
            self.seconds.append(Second())
        return self.seconds[number]

    def _start_traces(self) -> None:
        size, trace_ids = self._size, self._trace_ids
        number = _poisson(self._rng, self.load(self.now) / size * (self.now - self._lived_until))
        self._lived_until = self.now
        self.totals.roots += number
        self._second().offered += number * size
        ends, place, sampler = self._ends, self._place, self.sampler
        for _ in range(number):
            if sampler is not None:
                result = sampler.should_sample(_NO_PARENT, trace_ids.getrandbits(128), "root")
                if not result.decision.is_sampled():
                    continue
                threshold = read_ot(result.trace_state).threshold
                assert threshold is not None
                self.totals.adjusted += adjusted_count(threshold)
            for offset in self._offsets:
                ends[(place + offset) % len(ends)] += self._lump

    def _end_spans(self) -> None:
        self._place = place = (self._place + 1) % len(self._ends)
        exact = self._ends[place] + self._part_left
        spans = int(exact)
        self._part_left, self._ends[place] = exact - spans, 0.0
        if not spans:
            return
        self._sampled += spans
        row = self.control.brownout.row(self.now)
        if row.action is Action.RETAIN_SUMMARY_ONLY:
            self._second().summarized += spans
            return
        if row.action is Action.DROP_LOW_PRIORITY:
            self._low_left += self._low * spans
            low = int(self._low_left)
            self._low_left -= low
            self._shed_low += low
            self._second().low += low
            spans -= low
        self.queued += spans
        if self.queued > QUEUE:
            over = self.queued - QUEUE
            self.queued = QUEUE
            self._overflowed += over
            self._second().overflowed += over

    # -- its worker --------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """No batch is out: send one, or see to it that one is sent when it is time."""
        if not self.queued:
            self._due = self._event_at = math.inf
            return
        self._due = min(self._due, self.now + LINGER)
        if self.queued < BATCH and self.now < self._due:
            self._event_at = self._due
            return
        self._due = math.inf
        self._batch = min(BATCH, self.queued)
        self.queued -= self._batch
        self._attempts, self._begun, self._waited = 0, self.now, 0.0
        self.flow.exports.began()
        self._request()

    def _request(self) -> None:
        self._attempts += 1
        self._answer = self.collector.request(self.now, self._batch)
        self._event_at = self._answer.at

    def _event(self) -> None:
        answer, self._answer = self._answer, None
        if not self._batch:  # what there is has lingered
            self._wake()
        elif answer is None:  # a wait is over
            self._request()
        else:
            self._answered(answer)

    def _answered(self, answer: Answer) -> None:
        attempt = answer.attempt
        self.flow.exports.attempted(attempt)
        if attempt.accepted:
            self._credit(answer)
            self._ended(Outcome(self._batch, attempts=self._attempts, duration=self.now - self._begun))
            return
        if attempt.retry_after is not None:
            pause = self._retry.throttle(attempt.retry_after, self._attempts, self._rng.random)
            self._waited += pause
            lost = self._waited > PARKED_SECONDS
        else:
            pause = self._retry.backoff(self._attempts, self._rng.random)
            lost = self.now + pause - self._begun - self._waited > EXPORT_SECONDS
        if lost:
            self._lost()
        else:
            self._event_at = self.now + pause

    def _lost(self) -> None:
        lost = Outcome(0, reason=DropReason.RETRY_EXHAUSTED, attempts=self._attempts, duration=self.now - self._begun)
        self._ended(lost)

    def _ended(self, outcome: Outcome) -> None:
        self._batch, self._event_at = 0, math.inf
        self.flow.exports.ended(outcome)
        self.flow.told(self._begun, outcome)
        self.control.look(self.now)
        self._wake()

    def _credit(self, answer: Answer) -> None:
        """Spread what was taken over the time in which the collector took it."""
        since, until = answer.since, answer.until
        for number in range(int(since), int(until) + 1):
            part = min(until, number + 1) - max(since, number)
            self._second(number).accepted += self._batch * (part / (until - since) if until > since else 1.0)


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 30.0:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        number += 1
    return number
