"""Tracing's share of the CPU: measured by thread time, held to its budget over a minute, let go when it can be."""

from __future__ import annotations

import itertools
import time
from collections import deque
from random import Random
from statistics import fmean, pstdev

import pytest

from otel_shed.control.brownout import Brownout
from otel_shed.control.phase import Phase
from otel_shed.control.phase_table import RANK
from otel_shed.control.signals.cpu import ONE_IN, CpuMeter, CpuShare
from otel_shed.testing.clock import FakeClock


class Program:
    """A program that spends so much of its CPU time on tracing, of the traces that are recorded.

    cost: tracing's CPU seconds a second, if all is recorded. fixed: what it costs if nothing is. rest: the program's
    own. Traces that have begun go on for ``lag`` seconds.
    """

    def __init__(
        self, clock: FakeClock, *, cost: float, fixed: float = 0.002, rest: float = 0.7, lag: float = 0.0
    ) -> None:
        self.clock = clock
        self.cost, self.fixed, self.rest = cost, fixed, rest
        self.thread_time = self.process_time = 0.0
        self.random = Random(7)
        self.meter = CpuMeter(thread_time=lambda: self.thread_time)
        self.signal = CpuShare(self.meter, 0.02, process_time=lambda: self.process_time)
        self.brownout = Brownout(signals=[self.signal], clock=clock)
        self.recorded = deque([1.0] * (round(lag * 10) + 1), maxlen=round(lag * 10) + 1)
        self.spent: list[float] = []
        self.phases: list[Phase] = []

    def run(self, seconds: float) -> float:
        """Let so much time pass; the share that was tracing's."""
        tracing, total = self.thread_time, self.process_time
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            phase = self.brownout.row().phase
            self.phases.append(phase)
            sheds = RANK[phase] >= RANK[Phase.RECOVERY]
            floor = self.brownout.probability_floor()
            self.recorded.append(max(floor, self.signal.ceiling) if sheds else 1.0)
            used = 0.1 * (self.fixed + self.cost * self.recorded[0]) * self.random.uniform(0.3, 1.7)
            self.thread_time += used
            self.process_time += used + 0.1 * self.rest
            self.meter.worker_turned()
        return (self.thread_time - tracing) / (self.process_time - total)

    def changes(self, seconds: float) -> int:
        """Changes of phase in the last ``seconds``."""
        last = self.phases[-round(seconds * 10) :]
        return sum(old is not new for old, new in itertools.pairwise(last))


@pytest.mark.parametrize("lag", [0.0, 0.5, 2.0])
def test_a_third_of_the_time_becomes_two_per_cent(clock: FakeClock, lag: float) -> None:
    """cpu_share=0.02 and a program that would spend 30 % on tracing: at most 2.5 %, measured over each minute."""
    program = Program(clock, cost=0.3, lag=lag)
    minutes = [program.run(60) for _ in range(6)]
    assert max(minutes) <= 0.025
    assert minutes[-1] >= 0.012, "the budget is used"
    assert program.changes(240) <= 8


@pytest.mark.parametrize("cost", [0.0145, 0.0155, 0.016, 0.02, 0.03, 0.1])
def test_around_the_budget_the_phase_is_steady(clock: FakeClock, cost: float) -> None:
    """Just below, at and above its budget the phase changes no more than twice a minute."""
    program = Program(clock, cost=cost, fixed=0.0)
    program.run(60)
    assert program.run(300) <= 0.025
    assert program.changes(300) <= 10


def test_a_late_effect_does_not_make_it_swing(clock: FakeClock) -> None:
    """With traces that go on for a second, the ceiling comes to rest and stays there."""
    program = Program(clock, cost=0.3, lag=1.0)
    program.run(120)
    ceilings = []
    for _ in range(600):
        program.run(0.1)
        ceilings.append(program.signal.ceiling)
    assert pstdev(ceilings) < 0.3 * fmean(ceilings)


def test_full_fidelity_when_tracing_is_cheap_again(clock: FakeClock) -> None:
    """Less than 10 s after tracing costs little by itself, everything is recorded again."""
    program = Program(clock, cost=0.3, lag=0.5)
    program.run(120)
    assert program.phases[-1] is Phase.DEGRADE
    program.cost = 0.005
    program.run(9.9)
    assert (program.phases[-1], program.signal.ceiling) == (Phase.NORMAL, 1.0)


def test_within_its_budget_nothing_is_shed(clock: FakeClock) -> None:
    """A program that spends 1 % on tracing never leaves NORMAL."""
    program = Program(clock, cost=0.007, fixed=0.0)
    program.run(120)
    assert set(program.phases) == {Phase.NORMAL}
    assert program.signal.share == pytest.approx(0.01, rel=0.3)


def test_an_idle_process_has_cpu_to_spare(clock: FakeClock) -> None:
    """Half of next to nothing is not shed: a process that uses 5 ms of CPU a second."""
    program = Program(clock, cost=0.0025, fixed=0.0, rest=0.0025)
    program.run(120)
    assert set(program.phases) == {Phase.NORMAL}


def test_what_cannot_be_held_is_held_as_far_as_it_goes(clock: FakeClock) -> None:
    """Where the fixed cost alone is over the budget, the ceiling is the trickle, and the debt is bounded."""
    program = Program(clock, cost=0.3, fixed=0.05)
    program.run(300)
    assert program.signal.ceiling == 0.01
    program.fixed, program.cost = 0.0, 0.006
    program.run(90)  # a minute's budget is paid back, not five minutes' excess
    assert program.phases[-1] is Phase.NORMAL


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.01, 0.0, 0.5), (0.0205, 0.75, 0.8), (0.1, 0.95, 0.96), (0.6, 0.99, 1.0)]
)
def test_the_reading_by_share(share: float, low: float, high: float) -> None:
    """At its budget the pressure is where shedding begins, at five times it is the worst, and has its reason."""
    tracing, process = [0.0], iter([0.0, 1.0])
    meter = CpuMeter(thread_time=lambda: tracing[0])
    signal = CpuShare(meter, 0.02, process_time=lambda: next(process))
    signal.read(0.0)
    tracing[0] = share
    meter.worker_turned()
    reading = signal.read(1.0)
    assert reading.reason == "cpu_share"
    assert low <= reading.pressure <= high


def test_clocks_that_begin_anew(clock: FakeClock) -> None:
    """In a forked child all CPU clocks start from zero: the window begins anew, nothing is negative."""
    program = Program(clock, cost=0.3)
    program.run(5)
    program.meter.restart()
    program.thread_time = program.process_time = 0.0
    ceiling = program.signal.ceiling
    clock.advance(1)
    assert program.signal.read(clock()).pressure <= 1.0
    assert program.signal.ceiling == ceiling
    clock.advance(1)
    program.run(60)
    assert program.run(60) <= 0.025


def test_one_call_in_sixteen_is_timed() -> None:
    """Calls on the hot path are timed at random, and each timed one stands for sixteen."""
    cpu, chances = [0.0], iter([0.9, 0.5, 1 / ONE_IN, 0.01] * 4)
    meter = CpuMeter(thread_time=lambda: cpu[0], random=lambda: next(chances))

    def work() -> None:
        cpu[0] += 0.001

    call = meter.metered(work)
    for _ in range(16):
        call()
    assert meter.collect() == pytest.approx(4 * ONE_IN * 0.001)


def test_what_a_timing_takes_is_not_counted() -> None:
    """A clock that takes 0.5 us to read does not make a call of 1 us one of 1.5 us, nor one of nothing negative."""
    cpu = [0.0]

    def thread_time() -> float:
        cpu[0] += 0.5e-6
        return cpu[0]

    meter = CpuMeter(thread_time=thread_time, random=lambda: 0.0)

    def work() -> None:
        cpu[0] += 1e-6

    call, nothing = meter.metered(work), meter.metered(lambda: None)
    for _ in range(1_000):
        call()
        nothing()
    assert meter.collect() == pytest.approx(ONE_IN * 1_000 * 1e-6)


def test_a_workers_time_is_counted_whole() -> None:
    """All that a worker's thread uses is tracing's, each worker by its own clock."""
    cpu, thread = [0.5], [1]
    meter = CpuMeter(thread_time=lambda: cpu[0], thread_id=lambda: thread[0])
    meter.worker_turned()
    cpu[0] = 2.0
    meter.worker_turned()
    cpu[0], thread[0] = 0.25, 2
    meter.worker_turned()
    assert meter.collect() == pytest.approx(2.25)
    thread[0] = 1
    meter.worker_turned()  # a thread that took the other's place: its clock is younger
    assert meter.collect() == pytest.approx(2.25)


def test_the_meter_measures_real_cpu_time() -> None:
    """With the clocks of the operating system: work counts, sleep does not."""
    meter = CpuMeter(random=lambda: 0.0)

    @meter.metered
    def work() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        time.sleep(0.05)

    work()
    assert 0.05 * ONE_IN <= meter.collect() < 0.09 * ONE_IN
