"""LoadShedder: the parts it makes, their sum, and the one control that they share."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from otel_shed import (
    Action,
    BrownoutSnapshot,
    LoadShedder,
    OTLPSpanExporter,
    Phase,
    PressureReading,
    Priority,
    ShedConfig,
    SheddingSpanExporter,
    SheddingSpanProcessor,
)
from otel_shed.config import SETTING, SETTINGS
from otel_shed.control.budget import BudgetState
from otel_shed.control.threshold import in_force
from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.setting import Kind
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.control.spans import span

# The machine's own memory is not to press.
ALONE = ShedConfig(memory_limit_bytes=2**50)


def test_stats_are_the_sum_of_its_faces() -> None:
    """Two faces of one shedder, one account."""
    shedder = LoadShedder(ShedConfig())
    provider = TracerProvider(sampler=shedder.sampler(), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor(RecordingExporter()))
    provider.add_span_processor(shedder.span_processor(RecordingExporter()))
    provider.get_tracer("test").start_span("work").end()
    assert provider.force_flush()
    stats = shedder.stats()
    assert (stats.ended, stats.exported, stats.started, stats.sampled_out) == (2, 2, 1, 0)
    assert stats.queue_capacity == 2 * 2048


def test_the_sampler_counts_what_its_root_drops() -> None:
    """Parity D5: created is sampled in plus sampled out."""
    shedder = LoadShedder(ShedConfig())
    provider = TracerProvider(sampler=shedder.sampler(ALWAYS_OFF), shutdown_on_exit=False)
    for _ in range(3):
        provider.get_tracer("test").start_span("work").end()
    stats = shedder.stats()
    assert (stats.started, stats.sampled_out) == (3, 3)


def test_exports_over_otlp_unless_told_otherwise() -> None:
    """Without an exporter the faces export as OTEL_EXPORTER_OTLP_* say."""
    processor = LoadShedder(ShedConfig()).span_processor()
    assert isinstance(processor, SheddingSpanProcessor)
    assert isinstance(processor.span_exporter, OTLPSpanExporter)


def test_one_exporter_for_all_faces_if_given() -> None:
    """The exporter of the shedder is what its faces export to."""
    exporter = RecordingExporter()
    face = LoadShedder(ShedConfig(), exporter=exporter).span_exporter()
    assert isinstance(face, SheddingSpanExporter)
    assert face.span_exporter is exporter


def test_disabled_makes_the_stock_parts() -> None:
    """With enabled false, the SDK's own processor, sampler and exporter."""
    shedder = LoadShedder(ShedConfig(enabled=False))
    exporter: SpanExporter = RecordingExporter()
    processor = shedder.span_processor(exporter)
    assert type(processor) is BatchSpanProcessor
    assert type(shedder.sampler()) is ParentBased
    assert shedder.span_exporter(exporter) is exporter
    processor.shutdown()


def test_default_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process-wide shedder is the same for everyone who asks."""
    monkeypatch.setattr("otel_shed.shedder._default", None)  # it ends with the test
    assert LoadShedder.default() is LoadShedder.default()


def test_a_smaller_queue_brings_a_smaller_batch() -> None:
    """A queue given to a face lowers the batch that the shedder's settings have."""
    processor = SheddingSpanProcessor(RecordingExporter(), max_queue_size=10, shedder=LoadShedder(ShedConfig()))
    assert processor.config.max_export_batch_size == 10


def test_refuses_a_batch_larger_than_the_queue() -> None:
    """A conflict given in code raises, with a shedder too."""
    with pytest.raises(ValueError):
        SheddingSpanProcessor(RecordingExporter(), 10, max_export_batch_size=11, shedder=LoadShedder(ShedConfig()))


class Dial:
    """A signal that a test turns."""

    def __init__(self, pressure: float) -> None:
        self.pressure = pressure

    def read(self, now: float) -> PressureReading:
        return PressureReading(self.pressure, "dial")


def test_signals_of_the_users_count(clock: FakeClock) -> None:
    """Those given at the start, and those that are added while it runs, from the next reading on."""
    shedder = LoadShedder(ALONE, signals=[Dial(0.6)], clock=clock)
    assert shedder.brownout() == BrownoutSnapshot(pressure=0.6, reasons=("dial",), since=clock())
    clock.advance(0.1)
    shedder.add_signal(Dial(0.8))
    assert shedder.brownout() == BrownoutSnapshot(Phase.DEGRADE, Action.DROP_LOW_PRIORITY, 0.8, ("dial",), clock())


def test_refuses_what_is_no_signal() -> None:
    """Something without a method read is a TypeError, at the start and later."""
    with pytest.raises(TypeError, match="read"):
        LoadShedder(ALONE, signals=[object()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="read"):
        LoadShedder(ALONE).add_signal(object())  # type: ignore[arg-type]


def test_refuses_what_is_no_phase() -> None:
    """A phase that does not exist is a ValueError, and nothing is forced."""
    shedder = LoadShedder(ALONE)
    with pytest.raises(ValueError, match="panic"):
        shedder.force_phase("panic")  # type: ignore[arg-type]
    assert not shedder.brownout().forced


def test_a_forced_phase_is_given_back_through_recovery(clock: FakeClock) -> None:
    """None gives it back to the signals: the ramp of RECOVERY, then NORMAL."""
    shedder = LoadShedder(ALONE, clock=clock)
    shedder.force_phase(Phase.SHED_OPTIONAL, "maintenance")
    snapshot = shedder.brownout()
    assert (snapshot.phase, snapshot.reasons, snapshot.forced) == (Phase.SHED_OPTIONAL, ("maintenance",), True)
    clock.advance(60.0)
    shedder.force_phase(None)
    assert (shedder.brownout().phase, shedder.brownout().forced) == (Phase.RECOVERY, False)
    clock.advance(3.0)
    assert shedder.brownout().phase is Phase.NORMAL


def test_its_faces_share_one_control(clock: FakeClock) -> None:
    """Two processors, an exporter and a sampler are in one phase; their sheds are in one summary, one account each."""
    shedder = LoadShedder(ALONE, clock=clock)
    faces = [shedder.span_processor(RecordingExporter()) for _ in range(2)]
    behind = shedder.span_exporter(RecordingExporter())
    assert isinstance(behind, SheddingSpanExporter)
    shedder.force_phase(Phase.SHED_OPTIONAL)
    for face in faces:
        assert isinstance(face, SheddingSpanProcessor)
        face.on_end(ended_span())
        assert face.force_flush()
        assert (face.stats().phase, face.stats().summarized) == (Phase.SHED_OPTIONAL, 1)
    behind.export([ended_span(), ended_span()])
    assert behind.force_flush()
    assert behind.stats().summarized == 2
    stats = shedder.stats()
    assert (stats.ended, stats.summarized, stats.exported) == (4, 4, 0)
    assert [(row.name, row.count) for row in stats.summary] == [("work", 4)]
    assert behind.stats().summary == stats.summary


def test_two_shedders_share_nothing(clock: FakeClock) -> None:
    """What one is forced to leaves the other alone."""
    one, other = LoadShedder(ALONE, clock=clock), LoadShedder(ALONE, clock=clock)
    one.force_phase(Phase.DEGRADE)
    assert other.brownout().phase is Phase.NORMAL


def test_a_callable_says_what_is_worth_what(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked where attribute, status and settings have no word; where it raises, the span is NORMAL."""

    def choose(one: ReadableSpan) -> Priority | None:
        if one.name == "broken":
            raise ZeroDivisionError
        return {"health": Priority.LOW, "login": Priority.CRITICAL}.get(one.name)

    exporter = RecordingExporter()
    processor = LoadShedder(ALONE, exporter=exporter, priority=choose)
    face = processor.span_processor()
    processor.force_phase(Phase.DEGRADE)
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for name in ("health", "login", "broken", "other"):
            face.on_end(span(name))
        face.on_end(span("health", Priority.HIGH))
    assert face.force_flush()
    assert [one.name for one in exporter.spans] == ["login", "broken", "other", "health"]
    assert sum("priority callable failed" in line for line in caplog.messages) == 1


def test_disabled_has_nothing_to_control() -> None:
    """With enabled false it may be asked and told everything, and the SDK's own parts go on as they do."""
    shedder = LoadShedder(ShedConfig(enabled=False), signals=[Dial(1.0)])
    exporter = RecordingExporter()
    processor = shedder.span_processor(exporter)
    shedder.force_phase(Phase.SHED_OPTIONAL)
    shedder.add_signal(Dial(1.0))
    processor.on_end(ended_span())
    assert processor.force_flush()
    processor.shutdown()
    assert [one.name for one in exporter.spans] == ["work"]
    assert (shedder.stats().ended, shedder.stats().summarized) == (0, 0)


def test_a_clock_that_goes_back_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An hour back, in a storm and after it: one warning, every span exported or counted, the phase comes back."""
    now = [10_000.0]
    dial = Dial(0.8)
    exporter = RecordingExporter()
    shedder = LoadShedder(ALONE, exporter=exporter, signals=[dial], clock=lambda: now[0])
    processor = shedder.span_processor()
    processor.on_end(span("before", Priority.LOW))
    now[0] -= 3_600.0
    with caplog.at_level(logging.WARNING, "otel_shed"):
        processor.on_end(span("after"))
        assert processor.force_flush()
        dial.pressure = 0.0
        while shedder.brownout().phase is not Phase.NORMAL:
            now[0] += 0.1
            assert now[0] < 6_420.0
    assert [one.name for one in exporter.spans] == ["after"]
    assert shedder.stats().dropped == {"low_priority": 1}
    assert sum("the clock went back" in line for line in caplog.messages) == 1


Step = tuple[Phase | None, list[tuple[str, Priority | None, bool]]]
NAMES = ("GET /", "POST /", "query", "")
SPANS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([None, *Priority]), st.booleans()), max_size=15)
STEPS = st.lists(st.tuples(st.sampled_from([None, *Phase]), SPANS), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", ["processor", "exporter", "batches"])
@settings(deadline=None, max_examples=60)
@given(steps=STEPS, share=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 2**32))
def test_what_is_shed_is_in_the_summary(kind: str, steps: list[Step], share: float, seed: int) -> None:
    """By name, in every phase: what ended and is not exported; in all, what the ledger has as shed by choice."""
    clock, gate, random = FakeClock(), threading.Event(), Random(seed)
    exporter = RecordingExporter(gate=gate)
    config = ShedConfig(memory_limit_bytes=2**50, max_queue_size=4, max_export_batch_size=1, keep_share=share)
    shedder = LoadShedder(config, clock=clock)
    if kind == "processor":
        face = SheddingSpanProcessor(exporter, shedder=shedder)
        end = face.on_end
    else:
        behind = SheddingSpanExporter(exporter, shedder=shedder, max_batches=3 if kind == "batches" else None)
        face, end = behind, lambda one: behind.export([one])  # type: ignore[assignment]
    end(span("first"))
    exporter.wait_until_called()
    (flow,) = shedder.assembly.control._flows
    flow.budget.state = BudgetState(in_force(1.0), 1.0)  # so that not all of what is worth more may go out
    ended = Counter(["first"])
    for phase, spans in steps:
        shedder.force_phase(phase)
        for name, priority, failed in spans:
            end(span(name, priority, failed=failed, trace_id=random.getrandbits(128)))
            ended[name] += 1
    gate.set()
    assert face.force_flush()
    stats = face.stats()
    summary = Counter({row.name: row.count for row in stats.summary})
    assert summary == ended - Counter(one.name for one in exporter.spans)
    by_choice = ("low_priority", "over_budget", "queue_full")
    assert set(stats.dropped) <= set(by_choice)
    assert summary.total() == stats.summarized + sum(stats.dropped.values())
    assert (stats.unaccounted, stats.queued, stats.in_flight) == (0, 0, 0)
    face.shutdown()


OF_THE_CONTROL = (
    "enter_drops_per_second",
    "calm_millis",
    "min_probability",
    "keep_share",
    "attribute_length",
    "degraded_attribute_length",
    "memory_limit_bytes",
    "cpu_share",
)
EXTREMES = [
    {"enter_pressure": 1.0, "leave_pressure": 0.99},
    {"enter_pressure": 0.02, "leave_pressure": 0.01},
    {"priority_attributes": ()},
    {"low_priority_names": ("*" * 50,), "low_priority_kinds": ("internal",), "critical_priority_names": ("",)},
    *(
        {name: value}
        for name in OF_THE_CONTROL
        for value in (SETTING[name].low, SETTING[name].high)
        if value is not None
    ),
]


@pytest.mark.parametrize("extreme", EXTREMES, ids=str)
@pytest.mark.parametrize("pressure", [0.0, 1.0])
def test_settings_at_the_end_of_their_range(extreme: dict[str, object], pressure: float, clock: FakeClock) -> None:
    """Whatever may be set can be lived with: every span is exported or shed by choice, and the pressure passes."""
    exporter = RecordingExporter()
    config = ShedConfig(**({"memory_limit_bytes": 2**50} | extreme))  # type: ignore[arg-type]
    dial = Dial(pressure)
    shedder = LoadShedder(config, exporter=exporter, signals=[dial], clock=clock)
    provider = TracerProvider(sampler=shedder.sampler(), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor())
    for number in range(40):
        clock.advance(0.1)
        for priority in (None, *Priority):
            attributes = {"otlp.priority": priority.name, "text": "x" * number} if priority else {}
            provider.get_tracer("test").start_span("work", attributes=attributes).end()
    assert provider.force_flush()
    stats = shedder.stats()
    assert stats.started == 200
    assert stats.ended == 200 - stats.sampled_out == stats.exported + sum(row.count for row in stats.summary)
    assert stats.exported == len(exporter.spans)
    assert (stats.unaccounted, set(stats.dropped) <= {"low_priority", "over_budget"}) == (0, True)


def test_nothing_but_bad_variables(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One warning for each, the default for all, and shedding does what it does by default."""
    forget_warnings()
    bad = [setting.variable for setting in SETTINGS if setting.kind not in (Kind.NAMES,)]
    for variable in bad:
        monkeypatch.setenv(variable, "not a value")
    exporter = RecordingExporter()
    with caplog.at_level(logging.WARNING, "otel_shed"):
        shedder = LoadShedder(exporter=exporter)
    assert sorted(line.removeprefix(PREFIX).partition("=")[0] for line in caplog.messages) == sorted(bad)
    assert shedder.config == ShedConfig()
    processor = shedder.span_processor()
    shedder.force_phase(Phase.DEGRADE)
    for priority in Priority:
        processor.on_end(span(priority.name, priority))
    assert processor.force_flush()
    assert [one.name for one in exporter.spans] == ["NORMAL", "HIGH", "CRITICAL"]
    forget_warnings()
