"""The cases of the rows about shedding, through what a program sees: named by the row that they show."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, Status, StatusCode, get_current_span, set_span_in_context

from otel_shed import (
    Action,
    BrownoutSnapshot,
    LoadShedder,
    Phase,
    PressureReading,
    Priority,
    ShedConfig,
    SheddingSpanExporter,
    SheddingSpanProcessor,
    Stats,
)
from otel_shed.control.threshold import adjusted_count, parse_ot, read_ot
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter

# The machine's own memory is not to press.
PLENTY = 2**50


class Dial:
    """A signal of the user's that the case turns, and by which it sees that pressure was read."""

    def __init__(self) -> None:
        self.pressure = 0.0
        self.read_at = 0.0

    def read(self, now: float) -> PressureReading:
        self.read_at = now
        return PressureReading(self.pressure, "dial")


class Program:
    """A program that is traced: one shedder, one processor, time that only the case moves."""

    def __init__(
        self, exporter: SpanExporter | None = None, meter_provider: MeterProvider | None = None, **settings: Any
    ) -> None:
        self.clock = FakeClock()
        self.dial = Dial()
        self.exporter = exporter or RecordingExporter()
        self.shedder = LoadShedder(
            ShedConfig(memory_limit_bytes=PLENTY, **settings),
            exporter=self.exporter,
            signals=[self.dial],
            meter_provider=meter_provider,
            clock=self.clock,
        )
        self.provider = TracerProvider(
            sampler=self.shedder.sampler(),
            shutdown_on_exit=False,
            id_generator=Repeatable(2),
            meter_provider=meter_provider,
        )
        self.processor = self.shedder.span_processor()
        assert isinstance(self.processor, SheddingSpanProcessor)
        self._pipeline = self.processor._pipeline
        # Processor time too is moved by the case alone: it makes no difference how fast the machine decides.
        self._pipeline.intake._cpu_clock = self.clock
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("parity")

    def end(self, name: str = "work", priority: str = "", *, failed: bool = False) -> None:
        span = self.tracer.start_span(name, attributes={"otlp.priority": priority} if priority else None)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def end_one_of_each(self) -> None:
        for priority in Priority:
            self.end(priority.name, priority.name.lower())

    def later(self, seconds: float = 0.1) -> BrownoutSnapshot:
        """What the brownout makes of so much more time, in which it is asked ten times a second."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            snapshot = self.shedder.brownout()
            while self.dial.read_at != self.clock():  # the worker was at it
                snapshot = self.shedder.brownout()
        return snapshot

    def arrived(self) -> list[str]:
        """The names of what has reached the exporter since this was last asked."""
        assert self.processor.force_flush()
        assert isinstance(self.exporter, RecordingExporter)
        names = [span.name for span in self.exporter.spans]
        self.exporter.batches.clear()
        return names

    def decide(self) -> None:
        """Have all looked at that has ended, which the threads behind the queue do within some milliseconds."""
        with self._pipeline.ledger.lock:
            self._pipeline.intake._decide()

    def decided(self) -> Stats:
        """The stats once all has been looked at that has ended."""
        self.decide()
        return self.stats()

    def stats(self) -> Stats:
        stats = self.shedder.stats()
        assert stats.unaccounted == 0
        return stats


class Repeatable(IdGenerator):
    """Ids that are the same in each run."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def generate_span_id(self) -> int:
        return self._random.getrandbits(64) or 1

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or 1


class Collector(SpanExporter):
    """Takes a batch when the case says so."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.entered = threading.Semaphore(0)
        self._go_on = threading.Semaphore(0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.release()
        self._go_on.acquire()
        self.spans += spans
        return SpanExportResult.SUCCESS

    def wait_until_called(self) -> None:
        assert self.entered.acquire(timeout=30)

    def answer(self) -> None:
        """Take the batch that is waiting."""
        self._go_on.release()

    def shutdown(self) -> None:
        self._go_on.release(1_000)


Make = Callable[..., Program]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes programs, whose exporters hang no longer when the case is over."""
    made: list[Program] = []

    def make(*parts: Any, **settings: Any) -> Program:
        made.append(Program(*parts, **settings))
        return made[-1]

    yield make
    for program in made:
        program.exporter.shutdown()
        program.processor.shutdown()
        assert program.stats().queued == 0


ALL = [priority.name for priority in Priority]


def test_l7(make: Make) -> None:
    """NORMAL and OBSERVE export all, DEGRADE and RECOVERY drop what is low, SHED_OPTIONAL retains the summary only."""
    program = make(keep_share=0.0)
    arrived: dict[Phase, list[str]] = {}
    for phase in Phase:
        program.shedder.force_phase(phase, "ledger")
        program.end_one_of_each()
        arrived[phase] = program.arrived()
    assert arrived == {
        Phase.NORMAL: ALL,
        Phase.OBSERVE: ALL,
        Phase.DEGRADE: ALL[1:],
        Phase.RECOVERY: ALL[1:],
        Phase.SHED_OPTIONAL: [],
    }
    stats = program.stats()
    assert (stats.exported, stats.summarized, stats.dropped) == (14, 4, {"low_priority": 2})
    assert {row.name: row.count for row in stats.summary} == {"LOW": 3, "NORMAL": 1, "HIGH": 1, "CRITICAL": 1}


def test_l7_what_is_worth_keeping(make: Make) -> None:
    """Unless it is told to keep nothing: what failed, is HIGH or CRITICAL, goes out in SHED_OPTIONAL too."""
    program = make()
    program.shedder.force_phase(Phase.SHED_OPTIONAL, "ledger")
    program.end_one_of_each()
    program.end("failed", failed=True)
    assert program.arrived() == ["HIGH", "CRITICAL", "failed"]
    assert program.stats().summarized == 2


def test_l8(make: Make) -> None:
    """Without a ledger's word all is exported; one that is taken back leaves it to the library's own signals."""
    program = make()
    program.end_one_of_each()
    assert program.arrived() == ALL
    assert not program.shedder.brownout().forced
    program.shedder.force_phase(Phase.DEGRADE, "ledger")
    assert program.shedder.brownout().forced
    program.end_one_of_each()
    assert program.arrived() == ALL[1:]
    program.shedder.force_phase(None)
    snapshot = program.shedder.brownout()
    assert (snapshot.phase, snapshot.forced) == (Phase.RECOVERY, False)
    assert program.later(3.0).phase is Phase.NORMAL
    program.end_one_of_each()
    assert program.arrived() == ALL
    program.dial.pressure = 0.8
    assert (program.later().phase, program.later().reasons) == (Phase.DEGRADE, ("dial",))


@pytest.mark.parametrize("name", ["otlp.priority", "observability.priority"])
def test_l9(make: Make, name: str) -> None:
    """Either attribute makes a span low; normal, high and critical do not; what says nothing known is normal."""
    program = make()
    program.shedder.force_phase(Phase.DEGRADE)
    for value in ("low", "Low", "normal", "high", "critical", "lowest"):
        program.tracer.start_span(value, attributes={name: value}).end()
    assert program.arrived() == ["normal", "high", "critical", "lowest"]


def test_l9_configurable(make: Make) -> None:
    """The attributes that are read are the user's to name, and the first that says something counts."""
    program = make(priority_attributes=("app.tier", "app.weight"))
    program.shedder.force_phase(Phase.DEGRADE)
    for attributes in ({"app.tier": "low"}, {"app.weight": "low", "app.tier": "high"}, {"otlp.priority": "low"}):
        program.tracer.start_span(str(attributes), attributes=attributes).end()
    assert len(program.arrived()) == 2
    assert program.stats().dropped == {"low_priority": 1}


def test_l10(make: Make) -> None:
    """What was dropped in a brownout, what was kept as a summary and what a full queue let go are counted apart."""
    collector = Collector()
    program = make(collector, max_queue_size=2, max_export_batch_size=1)
    program.end("in flight")
    collector.wait_until_called()
    program.shedder.force_phase(Phase.DEGRADE)
    for _ in range(3):
        program.end("low", "low")
        assert program.decided().queued == 0
    program.shedder.force_phase(Phase.SHED_OPTIONAL)
    for _ in range(5):
        program.end("normal")
        assert program.decided().queued == 0
    program.shedder.force_phase(Phase.NORMAL)
    program.decide()
    for number in range(9):
        program.end(f"number {number}")
    stats = program.stats()
    assert (stats.dropped, stats.summarized) == ({"low_priority": 3, "queue_full": 7}, 5)
    assert (stats.queued, stats.in_flight) == (2, 1)
    assert sum(row.count for row in stats.summary) == 15
    for _ in range(3):
        collector.answer()
    assert program.processor.force_flush()
    assert [span.name for span in collector.spans] == ["in flight", "number 7", "number 8"]


def test_l11(make: Make) -> None:
    """One look says the action, the phase, who set it, why, and how much was shed for which reason."""
    program = make()
    began = program.clock()
    assert program.shedder.brownout() == BrownoutSnapshot(Phase.NORMAL, Action.EXPORT_ALL, 0.0, (), began, False)
    program.dial.pressure = 0.8
    assert program.later() == BrownoutSnapshot(
        Phase.DEGRADE, Action.DROP_LOW_PRIORITY, 0.8, ("dial",), program.clock(), False
    )
    program.clock.advance(5.0)
    program.shedder.force_phase(Phase.SHED_OPTIONAL, "ledger", "maintenance")
    assert program.shedder.brownout() == BrownoutSnapshot(
        Phase.SHED_OPTIONAL, Action.RETAIN_SUMMARY_ONLY, 0.8, ("ledger", "maintenance"), program.clock(), True
    )
    program.end_one_of_each()
    stats = program.decided()
    assert (stats.phase, stats.pressure, stats.reasons) == (Phase.SHED_OPTIONAL, 0.8, ("ledger", "maintenance"))
    assert (stats.summarized, stats.dropped) == (2, {})


def test_l12(make: Make) -> None:
    """While it sheds, values are cut to 255 characters, the ellipsis among them; before and after they are whole."""
    program = make()
    lengths = []
    for phase in (Phase.NORMAL, Phase.DEGRADE, Phase.NORMAL):
        program.shedder.force_phase(phase)
        program.tracer.start_span("work", attributes={"text": "é" * 300, "all": ["é" * 300, "short"]}).end()
        assert program.processor.force_flush()
        assert isinstance(program.exporter, RecordingExporter)
        text, every = (dict(program.exporter.spans[-1].attributes or {})[name] for name in ("text", "all"))
        assert isinstance(text, str)
        assert isinstance(every, tuple)
        assert every == (text, "short")
        lengths.append(len(text))
        if len(text) < 300:
            assert text == "é" * 254 + "…"
    assert lengths == [300, 255, 300]


def test_l13(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The age of the oldest span that is held is in the stats; beyond 30 s it is one line a minute."""
    collector = Collector()
    program = make(collector, max_export_batch_size=1)
    program.end("in flight")
    collector.wait_until_called()

    def lines() -> int:
        return sum("the oldest span held is" in record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.WARNING, "otel_shed"):
        for second in range(1, 151):
            program.later(1.0)
            program.end("queued", "high")
            assert program.stats().oldest_seconds == pytest.approx(second, abs=1.5)
            assert lines() == (0 if second < 30 else lines() if second < 32 else 1 + (second - 31) // 60)
    assert lines() == 2
    collector.shutdown()
    assert program.processor.force_flush()
    assert program.stats().oldest_seconds == 0.0


def test_l15(make: Make) -> None:
    """Whole local traces are decided on: once complete, at the latest in time or at a flush, late spans as the rest."""
    program = make(trace_timeout_millis=2000, max_held_spans=64, max_queue_size=64, max_export_batch_size=64)
    program.shedder.force_phase(Phase.SHED_OPTIONAL)

    def start(parent: Span | None = None) -> Span:
        return program.tracer.start_span("work", set_span_in_context(parent) if parent else None)

    def exported() -> tuple[int, int, int]:
        stats = program.decided()
        return stats.queued, stats.exported, stats.summarized

    # What fails last takes all with it that ended before.
    root = start()
    late, failed = start(root), start(root)
    start(root).end()
    assert exported() == (1, 0, 0)
    failed.set_status(Status(StatusCode.ERROR))
    failed.end()
    root.end()
    assert len(program.arrived()) == 3
    late.end()
    assert len(program.arrived()) == 1
    # Nothing of another one goes out, late or not.
    root = start()
    late = start(root)
    root.end()
    late.end()
    assert exported() == (0, 4, 2)
    # One whose local root does not end is decided on when its time is over, or when a flush asks for it.
    start(start()).end()
    assert exported() == (1, 4, 2)
    program.clock.advance(2.0)
    start(start()).end()
    assert exported() == (1, 4, 3)
    assert program.arrived() == []
    assert exported() == (0, 4, 4)
    # However many are open, what is held is bounded.
    for _ in range(1000):
        start(start()).end()
        assert program.stats().queued <= 64
        assert program.decided().queued <= 64
    assert program.arrived() == []
    assert exported() == (0, 4, 1004)


def queued(program: Program, collector: Collector, count: int) -> None:
    """Have so many spans queued and one more in flight, from fewer or from more."""
    while program.decided().queued < count:
        program.end()
    while program.decided().queued > count:
        collector.answer()
        collector.wait_until_called()


def test_d1_queue_fill(make: Make) -> None:
    """Backpressure is entered when pressure reaches 0.75 and left below 0.50, which a queue has at 56 % and at 25 %."""
    collector = Collector()
    program = make(collector, max_queue_size=100, max_export_batch_size=1)
    program.end()
    collector.wait_until_called()
    queued(program, collector, 56)
    assert program.later().phase is Phase.OBSERVE
    queued(program, collector, 57)
    snapshot = program.later()
    assert (snapshot.phase, snapshot.reasons) == (Phase.DEGRADE, ("intake_fill",))
    assert snapshot.pressure == pytest.approx(0.57**0.5)

    def flow(fill: int, seconds: float) -> Phase:
        """Spans come as they go, fewer than could, while the queue is so full."""
        for tenth in range(round(seconds * 10)):
            if tenth % 3 == 0:
                queued(program, collector, fill - 1)
            queued(program, collector, fill)
            phase = program.later().phase
        return phase

    assert flow(25, 10.0) is Phase.DEGRADE
    assert flow(24, 2.9) is Phase.DEGRADE
    assert Phase.RECOVERY in [flow(24, 0.1) for _ in range(60)]


@pytest.mark.parametrize(("drops", "phase"), [(4, Phase.OBSERVE), (5, Phase.DEGRADE)])
def test_d1_drop_rate(make: Make, drops: int, phase: Phase) -> None:
    """Five spans a second lost to a full queue are backpressure, however short the queue is; 3 s without one end it."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    program = make(exporter, max_queue_size=10, max_export_batch_size=10)
    program.later()
    for _ in range(10):
        program.end()
    exporter.wait_until_called()
    for _ in range(10 + drops):
        program.end()
    gate.set()
    assert program.processor.force_flush()
    snapshot = program.later()
    assert (snapshot.phase, snapshot.reasons) == (phase, ("drop_rate",))
    assert program.stats().dropped == {"queue_full": drops}
    if phase is Phase.DEGRADE:
        assert program.later(2.9).phase is Phase.DEGRADE
        assert program.later(0.2).phase is Phase.RECOVERY
        assert program.later(3.1).phase is Phase.NORMAL


class Storm:
    """A program of traces of two spans each, and a collector of 200 spans a second that is slow beyond that."""

    CAPACITY, BATCH = 200.0, 50

    def __init__(self, make: Make) -> None:
        self.collector = Collector()
        self.program = make(
            self.collector, max_queue_size=400, max_export_batch_size=self.BATCH, schedule_delay_millis=3_600_000
        )
        self.began: float | None = None
        self.answered = 0
        self.roots = 0
        self.recorded: list[tuple[int, int]] = []  # of the traces that are: their randomness, their threshold
        self.phases: list[Phase] = []

    def blow(self, traces_per_second: int, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.program.clock.advance(0.1)
            for _ in range(traces_per_second // 10):
                self._trace()
                self.program.decide()
            self._collect()
            phase = self.program.shedder.brownout().phase
            if not self.phases or self.phases[-1] is not phase:
                self.phases.append(phase)

    def _trace(self) -> None:
        tracer = self.program.tracer
        self.roots += 1
        with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
            assert child.is_recording() is root.is_recording()
            if root.is_recording():
                context = root.get_span_context()
                threshold = parse_ot(context.trace_state["ot"]).threshold
                assert threshold is not None
                self.recorded.append((context.trace_id & 2**56 - 1, threshold))

    def _collect(self) -> None:
        """Let the collector take what it could by now."""
        stats, clock = self.program.shedder.stats, self.program.clock
        while True:
            now = stats()
            if self.began is None:
                if now.queued + now.in_flight < self.BATCH:
                    return
                self.collector.wait_until_called()
                self.began = clock()
            if clock() - self.began < self.BATCH / self.CAPACITY - 1e-6:
                return
            waiting = stats().queued
            self.answered += 1
            self.collector.answer()
            if waiting < self.BATCH:
                while stats().exports_attempted < self.answered:
                    pass
                self.began = None
                return
            self.collector.wait_until_called()
            self.began += self.BATCH / self.CAPACITY


def test_d2(make: Make) -> None:
    """NORMAL keeps all; backpressure keeps what the collector takes, whole traces, and the counts stay honest."""
    storm = Storm(make)
    storm.blow(50, 5.0)
    assert len(storm.recorded) == storm.roots
    assert set(storm.phases) <= {Phase.NORMAL, Phase.OBSERVE}
    storm.blow(500, 15.0)  # until the budget is found
    before = storm.program.stats()
    storm.roots = 0
    storm.blow(500, 20.0)
    during = storm.program.stats()
    assert during.phase is Phase.DEGRADE
    assert during.budget_spans_per_second == pytest.approx(200.0, rel=0.1)
    assert during.sample_probability == pytest.approx(0.2, rel=0.25)
    assert during.dropped.get("queue_full", 0) == before.dropped.get("queue_full", 0)
    assert during.exported - before.exported == pytest.approx(20.0 * 200.0, rel=0.05)
    kept = [
        (span.context.trace_id & 2**56 - 1, read_ot(span.context.trace_state).threshold or 0)
        for span in storm.collector.spans[before.exported :]
        if span.context and span.parent is None
    ]
    assert all(randomness >= threshold > 0 for randomness, threshold in kept)
    assert sum(adjusted_count(threshold) for _, threshold in kept) == pytest.approx(storm.roots, rel=0.08)
    exported = Counter(span.context.trace_id for span in storm.collector.spans[before.exported :] if span.context)
    torn = sum(count != 2 for count in exported.values())
    assert torn <= 2  # one that the cut between two batches tore at either end
    storm.blow(20, 12.0)
    storm.roots, storm.recorded = 0, []
    storm.blow(20, 5.0)
    after = storm.program.stats()
    assert (after.phase, after.sample_probability, len(storm.recorded)) == (Phase.NORMAL, 1.0, storm.roots)


def test_d3(make: Make) -> None:
    """Load that swings every second for a minute makes one change of phase, and its end two, within ten seconds."""
    program = make()
    seen: list[Phase] = []
    for second in range(60):
        program.dial.pressure = 0.9 if second % 2 else 0.2
        seen.append(program.later(1.0).phase)
    assert seen == [Phase.NORMAL] + [Phase.DEGRADE] * 59
    program.dial.pressure = 0.2
    seen = [program.later(1.0).phase for _ in range(10)]
    assert list(dict.fromkeys(seen)) == [Phase.DEGRADE, Phase.RECOVERY, Phase.NORMAL]
    assert seen[-1] is Phase.NORMAL


def test_d5(make: Make) -> None:
    """One reading: created, sampled in and out, dropped, exports, queue, backpressure and the rate in force."""
    collector = Collector()
    program = make(collector, max_queue_size=4, max_export_batch_size=2)
    for _ in range(2):
        program.end()
    collector.wait_until_called()
    for _ in range(6):
        program.end()
    stats = program.stats()
    assert (stats.started, stats.sampled_out, stats.ended) == (8, 0, 8)
    assert (stats.queued, stats.queue_capacity, stats.utilization) == (4, 4, 1.0)
    assert (stats.in_flight, stats.dropped, stats.drop_rate) == (2, {"queue_full": 2}, 0.25)
    assert (stats.exports_attempted, stats.exports_succeeded, stats.exporter_healthy) == (0, 0, True)
    assert program.later().phase is Phase.DEGRADE
    stats = program.stats()
    assert (stats.phase is Phase.NORMAL, stats.sample_probability) == (False, 1.0)
    assert stats.reasons == ("intake_fill", "drop_rate")
    # Now that traces are held, they have seven eighths of the room: the rest is for what comes.
    stats = program.decided()
    assert (stats.queued, stats.in_flight, stats.dropped) == (3, 2, {"queue_full": 2, "over_budget": 1})
    collector.shutdown()
    assert program.processor.force_flush()
    stats = program.stats()
    assert (stats.exports_attempted, stats.exports_succeeded, stats.exported) == (3, 3, 5)


def test_d8(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queue, rate in force, drops, sampled out, backpressure and exports are OpenTelemetry metrics."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader, collector = InMemoryMetricReader(), Collector()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    program = make(collector, meters, max_queue_size=4, max_export_batch_size=2)

    def read(name: str, by: str) -> dict[Any, Any]:
        data = reader.get_metrics_data()
        assert data is not None
        points = [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return {(point.attributes or {}).get(by): getattr(point, "value", None) for point in points}

    for _ in range(2):
        program.end()
    collector.wait_until_called()
    for _ in range(7):
        program.end()
    assert program.stats().dropped == {"queue_full": 3}
    assert read("otel_shed.held", "otel_shed.state") == {"queued": 4, "in_flight": 2}
    assert read("otel.sdk.processor.span.queue.size", "") == read("otel.sdk.processor.span.queue.capacity", "")
    assert read("otel.sdk.processor.span.queue.size", "") == {None: 4}
    assert program.later().phase is Phase.DEGRADE
    program.decide()  # traces are held, which have seven eighths of the room
    assert read("otel_shed.held", "otel_shed.state") == {"queued": 3, "in_flight": 2}
    assert read("otel_shed.spans", "otel_shed.outcome")["over_budget"] == 1
    assert read("otel_shed.spans", "otel_shed.outcome")["queue_full"] == 3
    active = {phase.value: int(phase is Phase.DEGRADE) for phase in Phase}
    assert read("otel_shed.phase", "otel_shed.phase") == active
    assert read("otel_shed.pressure", "otel_shed.signal")["intake_fill"] >= 0.75
    assert read("otel_shed.probability", "") == {None: program.stats().sample_probability}
    collector.shutdown()
    assert program.processor.force_flush()
    assert read("otel_shed.spans", "otel_shed.outcome")["exported"] == 5
    assert read("otel.sdk.processor.span.processed", "error.type") == {None: 5, "queue_full": 3, "over_budget": 1}
    out = program.shedder.sampler(ALWAYS_OFF)
    provider = TracerProvider(sampler=out, shutdown_on_exit=False, meter_provider=meters)
    provider.get_tracer("parity").start_span("left out").end()
    assert read("otel.sdk.span.started", "otel.span.sampling_result") == {"RECORD_AND_SAMPLE": 9, "DROP": 1}
    assert (program.stats().started, program.stats().sampled_out) == (10, 1)


def test_d10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Context, attributes, names and status are the SDK's, and so are their limits: OTEL_SPAN_* hold here."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "16")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "256")
    exporter = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=PLENTY), exporter=exporter)
    provider = TracerProvider(sampler=shedder.sampler(), span_limits=SpanLimits(), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor())
    tracer = provider.get_tracer("parity")
    with tracer.start_as_current_span("n" * 128) as parent:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
    remote = get_current_span(propagate.extract(carrier)).get_span_context()
    with tracer.start_as_current_span("child", context=set_span_in_context(parent)) as child:
        child.set_attributes({f"key{number}": "v" * 1_000 for number in range(20)})
        child.set_status(Status(StatusCode.ERROR, "it broke"))
    assert provider.force_flush()
    first, second = exporter.spans
    assert first.context is not None
    assert second.context is not None
    assert remote.is_remote
    assert (remote.trace_id, remote.span_id) == (first.context.trace_id, first.context.span_id)
    assert second.parent is not None
    assert second.parent.span_id == first.context.span_id
    assert second.context.trace_state == first.context.trace_state == remote.trace_state
    assert first.name == "n" * 128
    attributes = dict(second.attributes or {})
    assert (len(attributes), set(map(len, map(str, attributes.values()))), second.dropped_attributes) == (16, {256}, 4)
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, "it broke")
    provider.shutdown()


def test_the_same_behind_the_exporter_interface() -> None:
    """L7, L9 to L11 hold for SheddingSpanExporter as well: it is the same pipeline."""
    inner = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=PLENTY, keep_share=0.0), clock=FakeClock())
    exporter = SheddingSpanExporter(inner, shedder=shedder, max_batches=4)
    batch = RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    maker = LoadShedder(ShedConfig(memory_limit_bytes=PLENTY), exporter=batch)
    provider.add_span_processor(maker.span_processor())
    for priority in Priority:
        provider.get_tracer("parity").start_span(priority.name, attributes={"otlp.priority": priority.name}).end()
    assert provider.force_flush()
    for phase in (Phase.DEGRADE, Phase.SHED_OPTIONAL, Phase.OBSERVE):
        shedder.force_phase(phase)
        assert exporter.export(batch.spans) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    assert [[span.name for span in spans] for spans in inner.batches] == [ALL[1:], ALL]
    stats = exporter.stats()
    assert (stats.dropped, stats.summarized, stats.unaccounted) == ({"low_priority": 1}, 4, 0)
    exporter.shutdown()
    provider.shutdown()
