"""What the parts make of each other once they are connected: users' policies, reports, changes, modes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, set_span_in_context

from otel_shed import LoadShedder, Phase, ShedConfig, SheddingSpanExporter, SheddingSpanProcessor
from otel_shed.log_limit import PREFIX
from otel_shed.outcome import DropReason
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter

PLENTY = 2**50
HALF = 1 << 55


class Program:
    """A traced program with a shedder, in a phase of the test's choice."""

    def __init__(self, clock: FakeClock, policy: Policy | None = None, **settings: Any) -> None:
        self.clock = clock
        self.exporter = RecordingExporter()
        self.shedder = LoadShedder(
            ShedConfig(memory_limit_bytes=PLENTY, **settings), exporter=self.exporter, policy=policy, clock=clock
        )
        self.provider = TracerProvider(shutdown_on_exit=False)
        processor = self.shedder.span_processor()
        assert isinstance(processor, SheddingSpanProcessor)
        self.processor = processor
        self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("test")

    @property
    def pipeline(self) -> Pipeline:
        return self.processor._pipeline

    def start(self, name: str, parent: Span | None = None, **attributes: str) -> Span:
        context = None if parent is None else set_span_in_context(parent)
        return self.tracer.start_span(name, context=context, attributes=attributes)

    def trace(self, name: str = "root") -> None:
        root = self.start(name)
        self.start(f"{name}'s child", root).end()
        root.end()

    def look(self) -> float | None:
        """As the worker does at each of its turns."""
        return self.pipeline._worker._look(self.clock())  # type: ignore[misc]

    def names(self) -> list[str]:
        assert self.processor.force_flush()
        return [span.name for span in self.exporter.spans]


Make = Callable[..., Program]


@pytest.fixture
def make(clock: FakeClock) -> Iterator[Make]:
    made: list[Program] = []

    def make(*parts: Any, **settings: Any) -> Program:
        made.append(Program(clock, *parts, **settings))
        return made[-1]

    yield make
    for program in made:
        program.provider.shutdown()


def test_a_policy_of_the_users_decides(make: Make) -> None:
    """On whole traces, each once, and what it says is what is written; in NORMAL nobody is asked."""
    seen: list[TraceView] = []

    def decide(trace: TraceView) -> Verdict:
        seen.append(trace)
        return Verdict(DropReason.OVER_BUDGET) if len(seen) == 1 else Verdict(threshold=HALF)

    program = make(decide)
    program.trace("streamed")
    assert program.processor.force_flush()
    assert not seen
    program.shedder.force_phase(Phase.OBSERVE)
    program.trace("shed")
    program.trace("kept")
    assert program.names() == ["streamed's child", "streamed", "kept's child", "kept"]
    assert [trace.spans for trace in seen] == [2, 2]
    states = [span.context.trace_state.to_header() for span in program.exporter.spans if span.context]
    assert states == ["", "", "ot=th:8", "ot=th:8"]


def test_a_policy_that_fails_is_told_of_once_a_minute(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The traces are kept, and nothing is written from within Span.end()."""

    def fail(trace: TraceView) -> Verdict:
        raise ZeroDivisionError("half a policy")

    program = make(fail)
    program.shedder.force_phase(Phase.OBSERVE)
    program.trace("first")
    with caplog.at_level(logging.WARNING, "otel_shed"):
        program.names()
        assert [line.removeprefix(PREFIX) for line in caplog.messages] == [
            "the policy has failed on 1 local traces, which were kept: ZeroDivisionError: half a policy"
        ]
        for _ in range(3):
            program.trace()
            program.names()
        assert len(caplog.messages) == 1
        program.clock.advance(60.0)
        program.trace("last")
        program.names()
    assert "has failed on 5 local traces" in caplog.messages[1]
    assert len(program.exporter.spans) == 10


@pytest.mark.parametrize("is_wanted", [True, False])
def test_what_was_shed_is_reported(make: Make, is_wanted: bool) -> None:
    """Among the program's spans, as one of them in the account, whatever the phase; unless that is switched off."""
    program = make(lambda trace: Verdict(DropReason.OVER_BUDGET if trace.priority < 3 else None), report=is_wanted)
    program.shedder.force_phase(Phase.OBSERVE)
    program.trace()
    assert program.names() == []
    program.clock.advance(60.0)
    for _ in range(100):  # until the worker has looked, which it does between two flushes
        if not is_wanted or program.names():
            break
    assert program.names() == (["otel_shed.report"] if is_wanted else [])
    stats = program.shedder.stats()
    assert (stats.ended, stats.exported, stats.unaccounted) == (2 + is_wanted, int(is_wanted), 0)
    if is_wanted:
        (span,) = program.exporter.spans
        assert span.resource is program.provider.resource
        told = dict(span.attributes or {})
        assert (told["otel_shed.spans.over_budget"], told["otel_shed.phase"]) == (2, "observe")
        assert '"otel_shed.report"' in span.to_json()


def test_an_idle_worker_waits_for_the_report_alone(make: Make) -> None:
    """What was shed is logged and reported though no span ends any more; then there is nothing to wake up for."""
    program = make(lambda trace: Verdict(DropReason.OVER_BUDGET if trace.priority < 3 else None))
    assert program.look() is None
    program.shedder.force_phase(Phase.OBSERVE)
    program.trace()
    assert program.processor.force_flush()
    program.clock.advance(15.0)
    assert program.look() == 1.0  # the first line
    program.clock.advance(1.0)
    assert program.look() == pytest.approx(2.0)  # the last one, after the calm
    program.clock.advance(2.0)
    assert program.look() == 42.0
    program.clock.advance(42.0)
    assert program.look() is None


def test_a_child_reports_what_is_its_own(make: Make) -> None:
    """Not what its parent had shed."""
    program = make(lambda trace: Verdict(DropReason.OVER_BUDGET))
    program.shedder.force_phase(Phase.OBSERVE)
    program.trace()
    program.pipeline.account()
    program.pipeline._worker._look.__self__.after_fork_in_child()  # type: ignore[union-attr]
    program.pipeline.after_fork_in_child()
    program.clock.advance(60.0)
    assert program.look() is None
    assert program.shedder.stats().ended == 0


def test_observe_mode_holds_nothing(make: Make) -> None:
    """Whatever the phase would be, spans go out as they come, and no policy is asked."""
    program = make(lambda trace: Verdict(DropReason.OVER_BUDGET), mode="observe")
    for phase in Phase:
        program.shedder.force_phase(phase)
        root = program.start("root")
        program.start("child", root).end()
        assert program.names()[-1] == "child"
        root.end()
    assert program.names().count("root") == len(Phase)
    assert program.shedder.stats().dropped == {}


def test_held_spans_are_bounded_as_the_setting_says(make: Make) -> None:
    """OTEL_SHED_MAX_HELD_SPANS; never below the queue's size, which what goes out as it comes may have."""
    program = make(max_held_spans=20, max_queue_size=10, max_export_batch_size=5)
    program.shedder.force_phase(Phase.OBSERVE)
    roots = [program.start("root") for _ in range(50)]
    for root in roots:
        program.start("child", root).end()
    stats = program.shedder.stats()
    assert stats.queued + stats.in_flight <= 20
    assert stats.queued + stats.in_flight + stats.exported + sum(stats.dropped.values()) == 50


def test_slow_traces_are_kept_as_the_setting_says(make: Make) -> None:
    """OTEL_SHED_SLOW_TRACE: a local root of that duration has the first claim."""
    program = make(slow_trace_millis=1000)
    program.shedder.force_phase(Phase.SHED_OPTIONAL)
    for name, seconds in (("quick", 0.999), ("slow", 1.0)):
        span = program.tracer.start_span(name, start_time=10**18)
        span.end(10**18 + int(seconds * 1e9))
    assert program.names() == ["slow"]


def test_undecided_traces_are_decided_as_the_setting_says(make: Make) -> None:
    """OTEL_SHED_TRACE_TIMEOUT: by whoever looks first once it is over."""
    program = make(trace_timeout_millis=2000)
    program.shedder.force_phase(Phase.OBSERVE)
    roots = [program.start("root") for _ in range(2)]
    program.start("child", roots[0]).end()
    store = program.pipeline.intake.store
    program.pipeline.intake.decide()
    assert (store.due_at, store.ready_spans) == (program.clock() + 2.0, 0)
    program.clock.advance(2.0)
    program.start("child", roots[1]).end()
    program.pipeline.intake.decide()
    assert store.due_at == program.clock() + 2.0


@pytest.mark.parametrize("max_batches", [None, 8])
def test_behind_the_batch_processor_nothing_is_lost(max_batches: int | None) -> None:
    """Eight threads, phases back and forth: all is exported, held or dropped for a reason; whole, or in batches."""
    exporter = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=PLENTY, keep_share=0.0))
    face = SheddingSpanExporter(exporter, max_batches=max_batches, shedder=shedder)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(face, max_queue_size=100_000, max_export_batch_size=16))
    tracer = provider.get_tracer("test")

    def work() -> None:
        for _ in range(50):
            with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for phase in [*Phase] * 4:
        shedder.force_phase(phase)
        provider.force_flush()
    for thread in threads:
        thread.join()
    shedder.force_phase(Phase.NORMAL)
    assert provider.force_flush()
    assert face.force_flush()
    stats = shedder.stats()
    assert (stats.ended, stats.queued, stats.in_flight, stats.unaccounted) == (800, 0, 0, 0)
    assert stats.exported == len({span.context.span_id for span in exporter.spans if span.context})
    provider.shutdown()


def test_the_samplers_time_is_tracings() -> None:
    """Where the share of the CPU is limited: a decision costs, also one against a trace."""
    shedder = LoadShedder(ShedConfig(cpu_share=0.02, memory_limit_bytes=PLENTY))
    meter = shedder.assembly.control.meter
    assert meter is not None
    times = iter(range(1000))
    meter._thread_time = lambda: float(next(times))
    meter._random = lambda: 0.0
    sampler = shedder.sampler()
    before = meter.collect()
    sampler.should_sample(None, 1, "root")
    assert meter.collect() > before
