"""Stats: the sums and shares that are derived from what is counted, and what the control adds to them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext

from otel_shed import LoadShedder, Phase, Priority, ShedConfig, SheddingSpanExporter, SheddingSpanProcessor, Stats
from otel_shed.control.budget import BudgetState, Counts, RateBudget
from otel_shed.control.ceiling import FixedCeiling
from otel_shed.control.threshold import in_force
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.control.spans import span

# The machine's own memory is not to press.
ALONE = ShedConfig(memory_limit_bytes=2**50)


class Fixed(RateBudget):
    """A budget that is what the test says."""

    def __init__(self, probability: float, spans_per_second: float | None) -> None:
        super().__init__(queue_capacity=100, batch_size=10)
        self.state = BudgetState(in_force(probability), spans_per_second)

    def tick(self, now: float, counts: Counts) -> None:
        pass


def test_rates_are_shares() -> None:
    """Parity R4: the share of spans dropped, and how full the queue is; nothing at all is no share."""
    stats = Stats(ended=10, exported=4, queued=4, dropped={"queue_full": 2}, queue_capacity=16)
    assert (stats.drop_rate, stats.utilization, stats.unaccounted) == (0.2, 0.25, 0)
    assert (Stats().drop_rate, Stats().utilization) == (0.0, 0.0)


def test_a_span_that_is_nowhere_shows() -> None:
    """What is not booked is unaccounted for, whatever else is."""
    assert Stats(ended=10, unsampled=1, queued=1, in_flight=1, exported=1, summarized=1).unaccounted == 5


def test_at_rest(clock: FakeClock) -> None:
    """Nothing has happened: all is kept, nothing presses, no limit is known."""
    stats = LoadShedder(ALONE, clock=clock).stats()
    assert stats == Stats()
    assert (stats.phase, stats.pressure, stats.reasons, stats.sample_probability) == (Phase.NORMAL, 0.0, (), 1.0)
    assert (stats.budget_spans_per_second, stats.oldest_seconds, stats.would_have_shed) == (None, 0.0, 0)


def test_is_a_value(clock: FakeClock) -> None:
    """It does not change when what it was read from does, nor can it be changed."""
    shedder = LoadShedder(ALONE, exporter=RecordingExporter(), clock=clock)
    processor = shedder.span_processor()
    stats = shedder.stats()
    processor.on_end(ended_span())
    assert (stats.ended, shedder.stats().ended) == (0, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.ended = 1  # type: ignore[misc]


def test_says_what_the_phase_does(clock: FakeClock) -> None:
    """Phase, pressure and reasons are the brownout's; the probability is that of a root that starts now."""
    shedder = LoadShedder(ALONE, clock=clock)
    # Where batches are queued as they come, it is for the sampler to keep to the budget.
    exporter = SheddingSpanExporter(RecordingExporter(), max_batches=4, shedder=shedder)
    shedder.sampler(ceiling=FixedCeiling(0.5))
    (flow,) = shedder.assembly.control._flows
    flow.budget = Fixed(0.25, 120.0)
    assert shedder.stats().sample_probability == 0.5
    shedder.force_phase(Phase.DEGRADE, "ledger", "storm")
    clock.advance(0.1)
    stats = shedder.stats()
    assert (stats.phase, stats.reasons, stats.pressure) == (Phase.DEGRADE, ("ledger", "storm"), 0.0)
    assert (stats.sample_probability, stats.budget_spans_per_second) == (0.25, 120.0)
    exporter.shutdown()


def test_budgets_add_up(clock: FakeClock) -> None:
    """The shedder's is what all collectors take, a face's what its own does."""
    shedder = LoadShedder(ALONE, clock=clock)
    faces = [shedder.span_processor(RecordingExporter()) for _ in range(3)]
    assert shedder.stats().budget_spans_per_second is None
    for flow, budget in zip(shedder.assembly.control._flows, (100.0, 50.0, None), strict=True):
        flow.budget = Fixed(1.0, budget)
    assert shedder.stats().budget_spans_per_second == 150.0
    own = [face.stats().budget_spans_per_second for face in faces if isinstance(face, SheddingSpanProcessor)]
    assert own == [100.0, 50.0, None]


def test_samplers_count_in_the_shedders() -> None:
    """Head decisions are of no single pipeline: a face's own account has none."""
    shedder = LoadShedder(ALONE, exporter=RecordingExporter())
    processor = shedder.span_processor()
    assert isinstance(processor, SheddingSpanProcessor)
    for root in (None, ALWAYS_OFF):
        provider = TracerProvider(sampler=shedder.sampler(root), shutdown_on_exit=False)
        provider.get_tracer("test").start_span("work").end()
    assert (shedder.stats().started, shedder.stats().sampled_out) == (2, 1)
    assert (processor.stats().started, processor.stats().sampled_out) == (0, 0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What an exporter waits for; open when the test is over, however that ended."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize("priority", list(Priority))
def test_the_oldest_does_not_get_younger(clock: FakeClock, gate: threading.Event, priority: Priority) -> None:
    """While one export hangs its spans are the oldest, whatever is shed or dropped of those that came later."""
    exporter = RecordingExporter(gate=gate)
    config = dataclasses.replace(ALONE, max_export_batch_size=1, max_queue_size=20, max_held_spans=50)
    shedder = LoadShedder(config, exporter=exporter, clock=clock)
    processor = shedder.span_processor()
    processor.on_end(span("in flight", priority))
    exporter.wait_until_called()
    for second in range(1, 61):
        for _ in range(10):
            clock.advance(0.1)
            for _ in range(5):
                processor.on_end(span("queued", priority))
        assert shedder.stats().oldest_seconds == pytest.approx(second, abs=1.5)
    assert sum(shedder.stats().dropped.values()) + shedder.stats().summarized > 1000
    gate.set()
    assert processor.force_flush()
    assert shedder.stats().oldest_seconds == 0.0


def test_a_trace_that_is_undecided_ages(clock: FakeClock) -> None:
    """Others come and go; it is held, and its age is told."""
    shedder = LoadShedder(
        dataclasses.replace(ALONE, trace_timeout_millis=60_000), clock=clock, exporter=RecordingExporter()
    )
    processor = shedder.span_processor()
    shedder.force_phase(Phase.DEGRADE)
    child = span("child", Priority.NORMAL)
    parent = SpanContext(child.context.trace_id, 2, is_remote=False)
    processor.on_end(ReadableSpan("child", child.context, parent, start_time=1, end_time=2))
    for second in range(1, 41):
        for _ in range(10):
            clock.advance(0.1)
            processor.on_end(span("other", Priority.LOW))
        assert shedder.stats().oldest_seconds == pytest.approx(second, abs=1.5)


def test_the_age_of_the_oldest_span(clock: FakeClock) -> None:
    """For how long the oldest that is held has been, in flight or queued; nothing when all is delivered."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    shedder = LoadShedder(dataclasses.replace(ALONE, max_export_batch_size=1), exporter=exporter, clock=clock)
    processor = shedder.span_processor()
    processor.on_end(span("in flight", Priority.HIGH))
    exporter.wait_until_called()
    for _ in range(40):
        clock.advance(1.0)
        processor.on_end(span("queued", Priority.HIGH))
    assert shedder.stats().oldest_seconds == pytest.approx(40.0, abs=1.5)
    gate.set()
    assert processor.force_flush()
    assert shedder.stats().oldest_seconds == 0.0


def test_a_batch_that_came_while_a_thread_was_in_the_ledger_is_counted() -> None:
    """It waits for that thread to hold it; a reading of the statistics does so first."""
    gate = threading.Event()
    exporter = SheddingSpanExporter(RecordingExporter(gate=gate), max_batches=10)
    pipeline = exporter._pipeline
    pipeline.intake._wake = None  # no thread of ours comes by
    with pipeline.ledger.lock:
        other = threading.Thread(target=exporter.export, args=([ended_span()],))
        other.start()
        other.join(10)
    assert pipeline.intake.waiting_batches == 1
    assert (exporter.stats().ended, exporter.stats().queued) == (1, 1)
    gate.set()
    pipeline.intake._wake = pipeline._wake
    exporter.shutdown()
