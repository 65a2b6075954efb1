"""The control: one refresh for all who ask, flows that come and go, nobody who waits, nothing that raises."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed import LoadShedder, PressureReading, ShedConfig
from otel_shed.control.budget import BudgetState, RateBudget
from otel_shed.control.flow import Flow, FlowReading, HeadCounts
from otel_shed.control.overload import OverloadControl
from otel_shed.control.phase import Phase
from otel_shed.control.threshold import KEEP_ALL, in_force
from otel_shed.log_limit import PREFIX
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.worker import LOOK_SECONDS
from otel_shed.record import Priority
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.control.spans import span

# Nothing that the machine does to the tests' own process is to press.
PLENTY = 2**50


class Dial:
    """A signal that a test turns."""

    def __init__(self, pressure: float = 0.0) -> None:
        self.pressure = pressure
        self.reads = 0
        self.during: Callable[[], object] = lambda: None

    def read(self, now: float) -> PressureReading:
        self.reads += 1
        self.during()
        return PressureReading(self.pressure, "dial")


class Budget(RateBudget):
    """A budget that is what the test says, and fails where it says so."""

    fault: Exception | None = None

    def tick(self, now: float, counts: Any) -> None:
        if self.fault is not None:
            raise self.fault

    def says(self, probability: float, spans_per_second: float | None = 100.0) -> None:
        self.state = BudgetState(in_force(probability), spans_per_second)


@dataclass
class Bench:
    """A control with a dial, and flows that read what the test says."""

    clock: FakeClock
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dial = Dial()
        config = ShedConfig(memory_limit_bytes=PLENTY, **self.settings)
        self.control = OverloadControl(config, signals=[self.dial], clock=self.clock)

    def add_flow(self, probability: float = 1.0, spans_per_second: float | None = None) -> tuple[Flow, Budget]:
        flow = self.control.add_flow(FlowReading, queue_capacity=100, batch_size=10)
        budget = flow.budget = Budget(queue_capacity=100, batch_size=10)
        budget.says(probability, spans_per_second)
        return flow, budget

    def press(self, pressure: float, seconds: float = 0.1) -> None:
        self.dial.pressure = pressure
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.control.wanted()


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


# -- the threshold in force ------------------------------------------------------------------------------------------


def test_all_is_kept_until_it_sheds(bench: Bench) -> None:
    """In NORMAL and OBSERVE no trace is left out, whatever the budget would have."""
    bench.add_flow(0.1)
    bench.press(0.0)
    assert bench.control.threshold() is KEEP_ALL
    bench.press(0.7)
    assert bench.control.snapshot().phase is Phase.OBSERVE
    assert bench.control.threshold() is KEEP_ALL


def test_the_tightest_budget_holds(bench: Bench) -> None:
    """A trace is recorded once for all pipelines, so the one that can take least decides."""
    bench.add_flow(0.5)
    bench.add_flow(0.25)
    bench.add_flow(0.75)
    bench.press(0.8)
    assert bench.control.threshold() == in_force(0.25)


def test_the_trickle_is_kept(bench: Bench) -> None:
    """However small the budget, the least share is recorded, or recovery could not be seen."""
    bench.add_flow(0.0)
    bench.press(1.0)
    assert bench.control.snapshot().phase is Phase.SHED_OPTIONAL
    assert bench.control.threshold() == in_force(0.01)


def test_recovery_ramps_up_to_all(bench: Bench) -> None:
    """Calm raises the floor from the trickle to everything within three seconds, over whatever the budget says."""
    bench.add_flow(0.02)
    bench.press(0.8)
    bench.press(0.0, 3.0)
    assert bench.control.snapshot().phase is Phase.RECOVERY
    kept = []
    for _ in range(29):
        bench.press(0.0)
        kept.append(bench.control.threshold().probability)
    assert kept == sorted(kept)
    assert kept[0] < 0.1
    assert kept[-1] > 0.9
    bench.press(0.0, 0.2)
    assert bench.control.threshold() is KEEP_ALL


def test_without_a_pipeline_nothing_is_left_out(bench: Bench) -> None:
    """A sampler alone, in a storm of some signal of the user's, has no budget to keep to."""
    bench.press(0.8)
    assert bench.control.snapshot().phase is Phase.DEGRADE
    assert bench.control.threshold().probability == 1.0


def test_the_cpu_share_is_a_ceiling(clock: FakeClock) -> None:
    """What tracing may cost limits what is recorded, however much the collector would take."""
    bench = Bench(clock, {"cpu_share": 0.02})
    assert bench.control._cpu is not None
    bench.add_flow(0.5)
    bench.press(0.8)
    bench.control._cpu.ceiling = 0.125
    bench.press(0.8)
    assert bench.control.threshold() == in_force(0.125)


def test_observing_keeps_all(clock: FakeClock) -> None:
    """In observe mode what would be in force is known, and is not."""
    bench = Bench(clock, {"mode": "observe"})
    bench.add_flow(0.25)
    bench.press(0.8)
    assert bench.control.threshold() is KEEP_ALL
    assert bench.control.wanted() == in_force(0.25)
    assert bench.control.snapshot().phase is Phase.DEGRADE


def test_the_budget_is_that_of_all_collectors(bench: Bench) -> None:
    """The sum of those that are known; None while none is."""
    bench.add_flow(1.0, None)
    assert bench.control.budget is None
    bench.add_flow(0.5, 100.0)
    bench.add_flow(0.5, 50.0)
    assert bench.control.budget == 150.0


def test_samplers_count_together(bench: Bench) -> None:
    """Roots and kept ones add up; of their ceilings the highest is what may come."""
    assert bench.control.head_counts() == HeadCounts()
    bench.control.add_head(lambda: HeadCounts(10, 5, 0.5))
    bench.control.add_head(lambda: HeadCounts(20, 20, 0.75))
    assert bench.control.head_counts() == HeadCounts(30, 25, 0.75)


# -- who does it, and when -------------------------------------------------------------------------------------------


def test_once_in_a_tenth_of_a_second(bench: Bench) -> None:
    """However many spans end and traces begin, what is measured is read ten times a second."""
    book: list[Any] = []
    for _ in range(10):
        for _ in range(50):
            bench.control.threshold()
            bench.control.gate.judge(span(), book.append)
            bench.control.snapshot()
        bench.clock.advance(0.1)
    assert bench.dial.reads == 10


def test_a_span_that_ends_moves_all_of_it_on(bench: Bench) -> None:
    """Without a sampler, and with a worker that hangs, whoever ends a span keeps budget and phase going."""
    flow, _ = bench.add_flow()
    flow.budget = RateBudget(queue_capacity=100, batch_size=10)
    bench.dial.pressure = 0.8
    bench.clock.advance(1.0)
    assert bench.control.gate.judge(span(priority=Priority.LOW), lambda _: None) is None
    assert flow.budget.due > bench.clock()


def test_eight_threads_and_one_that_refreshes(bench: Bench) -> None:
    """While one thread is at it, and does not come back, seven others get what was found before, at once."""
    bench.add_flow(0.5)
    bench.press(0.8)
    before = bench.control.threshold()
    at_it, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        at_it.set()
        assert go_on.wait(10)

    bench.dial.during, bench.dial.pressure = stop, 1.0
    reads = bench.dial.reads
    bench.clock.advance(1.0)
    first = threading.Thread(target=bench.control.threshold)
    first.start()
    assert at_it.wait(10)
    answers: list[object] = []

    def ask() -> None:
        book: list[Any] = []
        answers.append(bench.control.threshold())
        answers.append(bench.control.gate.judge(span(priority=Priority.LOW), book.append))
        answers.append(bench.control.snapshot().phase)
        answers.append(bench.control.look(bench.clock()) is not None)
        answers.extend(book)

    others = [threading.Thread(target=ask) for _ in range(7)]
    for other in others:
        other.start()
    for other in others:
        other.join(10)
        assert not other.is_alive()
    assert answers.count(before) == 7
    assert answers.count(None) == answers.count(Phase.DEGRADE) == answers.count(DropReason.LOW_PRIORITY) == 7
    assert answers.count(True) == 7
    assert bench.dial.reads == reads + 1
    go_on.set()
    first.join(10)
    assert bench.control.snapshot().phase is Phase.SHED_OPTIONAL


def test_a_quiet_program_comes_back_to_full_fidelity(bench: Bench) -> None:
    """A worker that looks when it is told to is enough: no span has to end."""
    bench.press(1.0)
    bench.dial.pressure = 0.0
    began, looks = bench.clock(), 0
    while (pause := bench.control.look(bench.clock())) is not None:
        assert pause > 0.0
        bench.clock.advance(pause)
        looks += 1
    assert bench.control.snapshot().phase is Phase.NORMAL
    assert bench.clock() - began < 10.0
    assert looks < 10


def test_a_look_does_not_spin_while_another_is_at_it(bench: Bench) -> None:
    """A worker that finds an evaluation under way, however long it takes, waits before it looks again."""
    bench.press(1.0)
    at_it, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        at_it.set()
        assert go_on.wait(10)

    bench.dial.during = stop
    bench.clock.advance(60.0)
    first = threading.Thread(target=bench.control.threshold)
    first.start()
    assert at_it.wait(10)
    pause = bench.control.look(bench.clock())
    assert pause is not None
    assert pause >= 0.1
    go_on.set()
    first.join(10)


# -- flows that come and go ------------------------------------------------------------------------------------------


def test_a_flow_presses_while_it_is_there(bench: Bench) -> None:
    """What its collector says counts until it is removed, and taking it away twice does no harm."""
    flow, _ = bench.add_flow(0.5)
    flow.exports.began()
    bench.clock.advance(60.0)
    assert bench.control.snapshot().reasons == ("export_latency",)
    bench.control.remove_flow(flow)
    bench.control.remove_flow(flow)
    bench.clock.advance(0.1)
    assert bench.control.snapshot().pressure == 0.0
    assert bench.control.budget is None
    bench.press(0.8)
    assert bench.control.threshold().probability == 1.0


def test_flows_that_come_and_go_at_once(bench: Bench) -> None:
    """Pipelines made and closed by eight threads, with signals of the user's among them: none is lost or left over."""
    start = threading.Barrier(8)

    def come_and_go() -> None:
        start.wait()
        for _ in range(100):
            bench.control.add_signal(Dial())
            bench.control.remove_flow(bench.add_flow()[0])

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    before = len(bench.control.brownout._signals._sources)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    finally:
        sys.setswitchinterval(interval)
    assert bench.control._flows == ()
    assert len(bench.control.brownout._signals._sources) == before + 800


def asked(shedder: LoadShedder, dial: Dial, clock: FakeClock) -> None:
    """A tenth of a second later, once everything has been read again; the worker may be at it as well."""
    clock.advance(0.1)
    reads = dial.reads
    while dial.reads == reads:
        shedder.brownout()


def made(clock: FakeClock, **settings: Any) -> tuple[LoadShedder, Dial]:
    """A shedder with nothing but a dial that presses."""
    dial = Dial()
    return LoadShedder(ShedConfig(memory_limit_bytes=PLENTY, **settings), signals=[dial], clock=clock), dial


def test_a_pipeline_that_is_shut_down_presses_no_more(clock: FakeClock) -> None:
    """Its collector hangs, which counts; when it is shut down, what that one does is nobody's business."""
    shedder, dial = made(clock, shutdown_grace_millis=1)
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    processor = shedder.span_processor(exporter)
    shedder.span_processor(RecordingExporter())
    processor.on_end(ended_span())
    threading.Thread(target=processor.force_flush).start()
    exporter.wait_until_called()
    clock.advance(60.0)
    asked(shedder, dial, clock)
    assert shedder.brownout().reasons == ("export_latency",)
    threads = [threading.Thread(target=processor.shutdown)]
    threads[0].start()
    clock.advance(60.0)  # the grace is over
    threads[0].join(10)
    assert not threads[0].is_alive()
    asked(shedder, dial, clock)
    assert shedder.brownout().pressure == 0.0


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests make nobody else holds, as the fixture that looks into every account would."""
    monkeypatch.setattr(lifecycle, "watch", lambda pipeline: None)


@pytest.mark.usefixtures("unwatched")
def test_a_pipeline_that_nobody_holds_presses_no_more(clock: FakeClock) -> None:
    """The control keeps no pipeline alive, and forgets one that is gone: neither flow nor signal stays."""
    shedder, _ = made(clock)
    control = shedder.assembly.control
    before = len(control.brownout._signals._sources)
    processor = shedder.span_processor(RecordingExporter())
    exporter = shedder.span_exporter(RecordingExporter())
    assert len(control._flows) == 2
    kept = weakref.ref(processor), weakref.ref(exporter)
    del processor, exporter
    gc.collect()
    assert [reference() for reference in kept] == [None, None]
    assert control._flows == ()
    assert len(control.brownout._signals._sources) == before


@pytest.mark.usefixtures("unwatched")
def test_a_shedder_that_nobody_holds_is_gone(clock: FakeClock) -> None:
    """Forks are told to those who live; being told of them keeps nobody."""
    shedder, _ = made(clock)
    control = weakref.ref(shedder.assembly.control)
    shedder.span_processor(RecordingExporter())
    del shedder
    gc.collect()
    gc.collect()  # first the pipeline goes, then what was to be told of it
    assert control() is None


# -- faults ----------------------------------------------------------------------------------------------------------


def test_a_budget_that_raises_costs_its_own_flow_at_most(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Phase, other flows and all who ask go on; it is one line a minute, and full fidelity comes back."""
    _, broken = bench.add_flow(0.5)
    flow, _ = bench.add_flow(0.5)
    healthy = flow.budget = RateBudget(queue_capacity=100, batch_size=10)
    broken.fault = ZeroDivisionError("budget")
    with caplog.at_level(logging.WARNING, "otel_shed"):
        bench.press(0.8, 5.0)
        assert bench.control.threshold() == in_force(0.5)
        assert healthy.due > bench.clock()
        bench.press(0.0, 10.0)
    assert bench.control.threshold() is KEEP_ALL
    faults = [record.getMessage().removeprefix(PREFIX) for record in caplog.records if "fault" in record.getMessage()]
    assert faults == ["fault in the budget: ZeroDivisionError: budget"]


def test_a_fault_of_the_control_reaches_nobody(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A sampler's counts that cannot be read: what was in force stays, and all is as it was when they can be again."""
    faults: list[Exception] = []

    def head() -> HeadCounts:
        if faults:
            raise faults[0]
        return HeadCounts(10, 10)

    bench.control.add_head(head)
    flow, _ = bench.add_flow(0.5)
    bench.press(0.8)
    faults.append(ZeroDivisionError())
    with caplog.at_level(logging.WARNING, "otel_shed"):
        bench.press(0.8, 2.0)
        assert bench.control.threshold() == in_force(0.5)
        assert bench.control.gate.judge(span(), lambda _: None) == (Priority.NORMAL, 255)
        flow.told(bench.clock(), Outcome(accepted=1))
    faults.clear()
    bench.press(0.0, 7.0)
    assert bench.control.threshold() is KEEP_ALL


@pytest.mark.parametrize("said", [float("nan"), ZeroDivisionError()])
def test_a_signal_that_fails_counts_as_its_last_word(bench: Bench, said: object, caplog: Any) -> None:
    """In a storm it stays one, before it nothing; those who ask hear of nothing."""

    def fail() -> None:
        if isinstance(said, Exception):
            raise said

    bench.press(0.8)
    bench.dial.during, bench.dial.pressure = fail, said if isinstance(said, float) else 0.0
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for _ in range(50):
            bench.clock.advance(0.1)
            bench.control.threshold()
    assert (bench.control.snapshot().phase, bench.control.snapshot().pressure) == (Phase.DEGRADE, 0.8)
    assert len([record for record in caplog.records if "counts as its last value" in record.getMessage()]) == 1


def test_a_clock_that_goes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is asked for is found anew all the same; from a storm before it, it is back within ten seconds."""
    now = [10_000.0]
    dial = Dial(1.0)
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=PLENTY), signals=[dial], clock=lambda: now[0])
    shedder.span_processor(RecordingExporter())
    assert shedder.brownout().phase is Phase.SHED_OPTIONAL
    dial.pressure = 0.0
    with caplog.at_level(logging.WARNING, "otel_shed"):
        now[0] -= 3_600.0
        for _ in range(100):
            now[0] += 0.1
            shedder.brownout()
    assert shedder.brownout().phase is Phase.NORMAL
    assert [line.removeprefix(PREFIX) for line in caplog.messages if "clock" in line] == [
        "the clock went back by 3599.900 s, which is taken as no time"
    ]


def test_what_is_held_for_long_is_warned_about(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Once it is more than 30 s old, and then once a minute."""
    flow = bench.control.add_flow(lambda: FlowReading(admitted=5), queue_capacity=100, batch_size=10)
    assert flow.oldest_seconds == 0.0
    with caplog.at_level(logging.WARNING, "otel_shed"):
        bench.press(0.0, 28.0)
        assert caplog.messages == []
        bench.press(0.0, 92.0)
    first, second = caplog.messages
    assert first.startswith("otel-shed: the oldest span held is 30 s old")
    assert "the oldest span held is 90 s old" in second
    assert bench.control.oldest_seconds == pytest.approx(120.0, abs=1.5)


# -- forks -----------------------------------------------------------------------------------------------------------


@contextmanager
def held_in_a_thread(hold: Callable[[Callable[[], None]], object]) -> Iterator[None]:
    """While the body runs, another thread stands in the middle of ``hold``, where that calls what it is given."""
    at_it, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        at_it.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=hold, args=(stop,))
    thread.start()
    assert at_it.wait(10)
    try:
        yield
    finally:
        go_on.set()
        thread.join(10)


def test_a_fork_leaves_nothing_locked(clock: FakeClock) -> None:
    """In the child, whatever a thread of the parent was in the middle of, all goes on as if it had not been."""
    bench = Bench(clock, {"cpu_share": 0.5})
    bench.add_flow(0.5)
    bench.press(0.8)
    control = bench.control

    def evaluate(stop: Callable[[], None]) -> None:
        bench.dial.during = stop
        clock.advance(1.0)
        control.threshold()

    def change(stop: Callable[[], None]) -> None:
        with control._change:
            stop()

    with held_in_a_thread(evaluate), held_in_a_thread(change):
        bench.dial.during = lambda: None
        control.after_fork_in_child()
        assert control.snapshot().phase is Phase.DEGRADE
        bench.press(1.0)
        assert control.snapshot().phase is Phase.SHED_OPTIONAL
        assert control.gate.judge(span(), lambda _: None) is None
        assert [row.count for row in control.summary.snapshot()] == [1]
        flow, _ = bench.add_flow()
        control.remove_flow(flow)
        bench.press(0.0, 10.0)
        assert control.threshold() is KEEP_ALL


def test_a_fork_in_the_middle_on_the_same_thread(bench: Bench) -> None:
    """A signal handler that forks while this thread is at it: the call that it interrupted ends in the child too."""
    bench.add_flow(0.5)
    bench.dial.during = bench.control.after_fork_in_child
    bench.press(0.8, 1.0)
    assert bench.control.threshold() == in_force(0.5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_every_control_is_told_of_forks(bench: Bench) -> None:
    """A child's summary is its own; the phase holds there too."""
    bench.press(0.8)
    bench.control.gate.judge(span(priority=Priority.LOW), lambda _: None)
    child = os.fork()
    if not child:
        told = (bench.control.summary.count, bench.control.snapshot().phase) == (0, Phase.DEGRADE)
        os._exit(0 if told else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bench.control.summary.count == 1


# -- the cost of tracing ---------------------------------------------------------------------------------------------


def test_a_worker_that_never_rests_is_measured(clock: FakeClock) -> None:
    """Its CPU time counts from one batch to the next, not only when there is none left."""
    shedder, _ = made(clock, cpu_share=0.5, max_export_batch_size=1)
    meter = shedder.assembly.control.meter
    assert meter is not None
    used: list[float] = []

    def export(_: object) -> SpanExportResult:
        used.append(meter.collect())
        sum(range(100_000))
        clock.advance(LOOK_SECONDS)
        return SpanExportResult.SUCCESS

    gate = threading.Event()
    exporter = RecordingExporter(result=export, gate=gate)
    processor = shedder.span_processor(exporter)
    processor.on_end(ended_span())
    exporter.wait_until_called()
    for _ in range(3):
        processor.on_end(ended_span())
    gate.set()
    assert processor.force_flush()
    assert used[0] < used[1] < used[2] < used[3]
