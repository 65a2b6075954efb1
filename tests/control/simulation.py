"""A closed loop in a time that only the simulation moves: programs, each with its control and sampler, and a collector.

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
from typing import Protocol

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
from otel_shed.otlp.retry import Attempt, RetryPolicy, Verdict
from otel_shed.outcome import DropReason, Outcome
from otel_shed.sampler import AdaptiveSampler

QUEUE, BATCH, LINGER = 2048, 512, 5.0
EXPORT_SECONDS, PARKED_SECONDS = 30.0, 300.0  # of trying, and of waiting because the collector asked for it
ROUND_TRIP = 0.005
_NO_PARENT = Context()
# A trace's spans end in so many lumps at most.
_LUMPS = 10

Load = Callable[[float], float]


class Collector(Protocol):
    """What answers a request of ``size`` spans made at ``now``."""

    capacity: float
    down: bool
    works_while_asked: bool

    def request(self, now: float, size: int) -> tuple[float, Attempt]:
        """When the answer comes, and what it is."""


_REFUSED_CONNECTION = Attempt(Verdict.RETRYABLE, "connection refused", answered=False)


@dataclass
class Blocking:
    """Works through requests one after the other, and answers each when it is done; capacity: spans a second."""

    capacity: float
    down: bool = False
    free_at: float = 0.0
    works_while_asked = True

    def request(self, now: float, size: int) -> tuple[float, Attempt]:
        if self.down:
            return now + ROUND_TRIP, _REFUSED_CONNECTION
        self.free_at = max(now, self.free_at) + size / self.capacity
        return self.free_at + ROUND_TRIP, Attempt(Verdict.ACCEPTED, "OK", duration=self.free_at - now)


@dataclass
class Throttling:
    """Takes ``capacity`` spans a second, ``burst`` seconds' worth at once; refuses more, and says for how long.

    strict: it lets a request in only if there is room for all of it; otherwise if there is room for any.
    """

    capacity: float
    down: bool = False
    burst: float = 2.0
    strict: bool = False
    at: float = 0.0
    room: float = math.inf
    works_while_asked = False

    def request(self, now: float, size: int) -> tuple[float, Attempt]:
        if self.down:
            return now + ROUND_TRIP, _REFUSED_CONNECTION
        most = max(self.burst * self.capacity, 2.0 * BATCH)
        self.room = min(most, self.room + max(0.0, now - self.at) * self.capacity)
        self.at = max(now, self.at)  # clients come in any order within a step
        wanted = size if self.strict else 1
        if self.room >= wanted:
            self.room -= size
            return now + ROUND_TRIP, Attempt(Verdict.ACCEPTED, "200", duration=ROUND_TRIP)
        wait = math.ceil((wanted - self.room) / self.capacity)  # Retry-After has whole seconds
        return now + ROUND_TRIP, Attempt(Verdict.RETRYABLE, "429", retry_after=float(wait), duration=ROUND_TRIP)


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
        self._due: float | None = None
        self._batch = 0
        self._attempts, self._begun, self._waited = 0, 0.0, 0.0
        self._next_event = math.inf
        self._answer: Attempt | None = None
        self._asked = self._credited = 0.0
        self._sampled = self._shed_low = self._overflowed = 0
        self.totals = Totals()
        self.seconds: list[Second] = []
        self._second = Second()

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

    # -- the program -------------------------------------------------------------------------------------------------

    def advance(self, until: float) -> None:
        """Live through one step, which ends at ``until``."""
        self._work(until)
        self._start_traces()
        self._end_spans()
        phase = self.control.brownout.row(until).phase
        before = self.totals.phases
        if phase is not (before[-1][1] if before else Phase.NORMAL):
            before.append((until, phase))

    def _start_traces(self) -> None:
        size, rng = self._size, self._rng
        number = _poisson(rng, self.load(self.now) / size * self._step)
        self.totals.roots += number
        self._second.offered += number * size
        ends, place, sampler = self._ends, self._place, self.sampler
        for _ in range(number):
            if sampler is not None:
                result = sampler.should_sample(_NO_PARENT, rng.getrandbits(128), "root")
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
            self._second.summarized += spans
            return
        if row.action is Action.DROP_LOW_PRIORITY:
            self._low_left += self._low * spans
            low = int(self._low_left)
            self._low_left -= low
            self._shed_low += low
            self._second.low += low
            spans -= low
        self.queued += spans
        if self.queued > QUEUE:
            over = self.queued - QUEUE
            self.queued = QUEUE
            self._overflowed += over
            self._second.overflowed += over

    # -- its worker --------------------------------------------------------------------------------------------------

    def _work(self, until: float) -> None:
        while True:
            if self._batch:
                if self._next_event > until:
                    break
                self.now = max(self.now, self._next_event)
                self._event()
                continue
            self.control.look(self.now)
            if not self.queued:
                self._due = None
                break
            if self._due is None:
                self._due = self.now + LINGER
            if self.queued < BATCH:
                if self._due > until:
                    break
                self.now = max(self.now, self._due)
            self._due = None
            self._batch = min(BATCH, self.queued)
            self.queued -= self._batch
            self._attempts, self._begun, self._waited = 0, self.now, 0.0
            self.flow.exports.began()
            self._request()
        self.now = until

    def _request(self) -> None:
        self._attempts += 1
        self._asked = self.now
        self._next_event, self._answer = self.collector.request(self.now, self._batch)

    def _event(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None:  # a wait is over
            self._request()
            return
        self.flow.exports.attempted(answer)
        if answer.accepted:
            self._credit()
            self._ended(Outcome(self._batch, attempts=self._attempts, duration=self.now - self._begun))
        elif answer.retry_after is not None:
            pause = self._retry.throttle(answer.retry_after, self._attempts, self._rng.random)
            self._waited += pause
            if self._waited > PARKED_SECONDS:
                self._lost()
            else:
                self._next_event = self.now + pause
        else:
            pause = self._retry.backoff(self._attempts, self._rng.random)
            if self.now + pause - self._begun - self._waited > EXPORT_SECONDS:
                self._lost()
            else:
                self._next_event = self.now + pause

    def _lost(self) -> None:
        lost = Outcome(0, reason=DropReason.RETRY_EXHAUSTED, attempts=self._attempts, duration=self.now - self._begun)
        self._ended(lost)

    def _ended(self, outcome: Outcome) -> None:
        self._batch, self._next_event = 0, math.inf
        self.flow.exports.ended(outcome)
        self.flow.told(self._begun, outcome)

    def _credit(self) -> None:
        """Spread what was taken over the time that it took; at once, it would come in lumps of a batch."""
        since, until = self._asked, self.now
        if not self.collector.works_while_asked:
            since = max(self._credited, until - self._batch / self.collector.capacity)
        self._credited = until
        for second in range(int(since), int(until) + 1):
            part = min(until, second + 1) - max(since, second)
            share = self._batch * (part / (until - since) if until > since else 1.0)
            target = self.seconds[second] if second < len(self.seconds) else self._second
            target.accepted += share

    def end_second(self) -> None:
        """Close the books of a second."""
        self._second.queued = self.queued
        self._second.probability = self.control.threshold().probability
        self._second.budget = self.flow.state.spans_per_second
        self._second.phase = self.control.brownout.row(self.now).phase
        self.seconds.append(self._second)
        self._second = Second()


def run(
    clients: list[Client],
    *,
    seconds: int,
    step: float,
    rng: random.Random,
    at_second: Callable[[int], None] | None = None,
) -> None:
    """Let so much time pass; clients go in random order, so that none is always first.

    step: seconds, one over a whole number. at_second: told of each second before it begins.
    """
    order = list(clients)
    steps = round(1 / step)
    for second in range(seconds):
        if at_second is not None:
            at_second(second)
        for number in range(1, steps + 1):
            rng.shuffle(order)
            for client in order:
                client.advance(second + number / steps)
        for client in clients:
            client.end_second()


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 30.0:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        number += 1
    return number
