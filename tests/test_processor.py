"""The span processor's face: what a program sees of it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, StaticSampler
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, Priority, ShedConfig, SheddingSpanProcessor
from otel_shed.otlp.client import OTLPClient
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.transport import ScriptedTransport
from tests.conftest import ended_span
from tests.control.spans import span
from tests.interpreter import IS_FREE_THREADED

# The machine's own memory is not to press.
ALONE = ShedConfig(memory_limit_bytes=2**50)


def test_a_program_sees_the_stock_processor() -> None:
    """The drop-in: spans reach any exporter as ReadableSpans, in order."""
    exporter = RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for number in range(3):
        with tracer.start_as_current_span(f"span-{number}"):
            pass
    assert provider.force_flush()
    assert [span.name for span in exporter.spans] == ["span-0", "span-1", "span-2"]
    provider.shutdown()
    assert (exporter.shutdowns, exporter.flushes) == (1, 2)  # one of them at the shutdown


@pytest.mark.skipif(IS_FREE_THREADED, reason="a span that another thread gives up is there until its maker goes on")
def test_what_has_been_exported_is_not_held_while_the_exporter_flushes() -> None:
    """However long that takes: its bytes count as free by then."""
    exported: list[weakref.ref[ReadableSpan]] = []
    alive: list[int] = []

    class Flushing(RecordingExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            exported.extend(map(weakref.ref, spans))
            return SpanExportResult.SUCCESS

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            alive.append(sum(reference() is not None for reference in exported))
            return True

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(Flushing()))
    for _ in range(50):
        provider.get_tracer("test").start_span("work").end()
    assert provider.force_flush()
    provider.shutdown()
    assert (len(exported), alive) == (50, [0, 0])  # at the flush, and at the shutdown


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_queue_size": 0},
        {"max_queue_size": -1},
        {"schedule_delay_millis": 0},
        {"schedule_delay_millis": -1},
        {"max_export_batch_size": 0},
        {"max_export_batch_size": -1},
        {"max_queue_size": 256, "max_export_batch_size": 512},
    ],
)
def test_refuses_what_the_stock_processor_refuses(arguments: dict[str, int]) -> None:
    """Parity D11, R6: a wrong setting in code raises ValueError, as it does in the stock constructor."""
    with pytest.raises(ValueError):
        BatchSpanProcessor(RecordingExporter(), **arguments)
    with pytest.raises(ValueError):
        SheddingSpanProcessor(RecordingExporter(), **arguments)


def test_counts_spans_that_are_recorded_but_not_sampled() -> None:
    """Parity L5: a RECORD_ONLY span is not exported and is counted as unsampled."""

    class RecordOnly(Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:  # type: ignore[override]
            return SamplingResult(Decision.RECORD_ONLY)

        def get_description(self) -> str:
            return "RecordOnly"

    exporter = RecordingExporter()
    processor = SheddingSpanProcessor(exporter)
    provider = TracerProvider(sampler=RecordOnly(), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("work").end()
    assert processor.force_flush()
    stats = processor.stats()
    assert (stats.ended, stats.unsampled, exporter.spans) == (1, 1, [])


def test_a_full_queue_keeps_what_is_worth_more() -> None:
    """Parity L9: of the spans that do not fit, those that say low go first, and failures stay."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    processor = SheddingSpanProcessor(exporter, max_queue_size=3, max_export_batch_size=1)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("test")
    tracer.start_span("in flight").end()
    exporter.wait_until_called()
    for name, priority in (("a", "low"), ("b", "high"), ("c", ""), ("d", "low"), ("e", "critical")):
        tracer.start_span(name, attributes={"otlp.priority": priority} if priority else None).end()
    failed = tracer.start_span("failed")
    failed.set_status(StatusCode.ERROR)
    failed.end()
    gate.set()
    assert processor.force_flush()
    assert [span.name for span in exporter.spans] == ["in flight", "b", "e", "failed"]
    assert processor.stats().dropped == {"queue_full": 3}


def test_cuts_long_attributes_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SHED_ATTRIBUTE_LENGTH the exporter gets a cut copy, and other processors the span as it is."""
    monkeypatch.setenv("OTEL_SHED_ATTRIBUTE_LENGTH", "5")
    ours, theirs = RecordingExporter(), RecordingExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(ours))
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    provider.get_tracer("test").start_span("work", attributes={"key": "a long value"}).end()
    assert provider.force_flush()
    assert (ours.spans[0].attributes or {})["key"] == "a lo…"
    assert (theirs.spans[0].attributes or {})["key"] == "a long value"


def test_cuts_shorter_while_it_sheds(clock: FakeClock) -> None:
    """In the phases that shed, values have degraded_attribute_length, else attribute_length; the span stays whole."""
    ours, theirs = RecordingExporter(), RecordingExporter()
    # On a clock of its own by the plain path, which follows the phase at once (for the other one see test_hot_path).
    shedder = LoadShedder(replace(ALONE, attribute_length=20, degraded_attribute_length=5), clock=clock)
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=3), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor(ours))
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    lengths = {}
    for phase in (*Phase, Phase.NORMAL):
        shedder.force_phase(phase)
        attributes = {"dropped": "by the limit", "otlp.priority": "high", "text": "x" * 50, "all": ("y" * 50, "z")}
        provider.get_tracer("test").start_span(phase, attributes=attributes).end()
        assert provider.force_flush()
        cut, whole = ours.spans[-1], theirs.spans[-1]
        assert cut.name == whole.name == phase
        read = cut.attributes or {}
        lengths[phase] = len(str(read["text"]))
        assert read["all"] == ("y" * (lengths[phase] - 1) + "…", "z")
        assert read["text"] == "x" * (lengths[phase] - 1) + "…"
        assert read["otlp.priority"] == "high"[: lengths[phase]]
        assert (whole.attributes or {})["text"] == "x" * 50
        assert (cut.dropped_attributes, whole.dropped_attributes) == (1, 1)
    assert lengths == {
        Phase.NORMAL: 20,
        Phase.OBSERVE: 20,
        Phase.DEGRADE: 5,
        Phase.SHED_OPTIONAL: 5,
        Phase.RECOVERY: 5,
    }


@pytest.mark.parametrize("phase", [Phase.NORMAL, Phase.DEGRADE])
def test_cuts_what_it_encodes(phase: Phase) -> None:
    """Over OTLP the values are as short, and the count of what the span had to drop is the span's."""
    exporter, transport = OTLPSpanExporter(), ScriptedTransport()
    exporter._client = OTLPClient(transport, timeout=10.0)
    shedder = LoadShedder(ALONE, exporter=exporter)
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=1), shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor())
    shedder.force_phase(phase)
    provider.get_tracer("test").start_span("work", attributes={"dropped": "", "text": "x" * 300}).end()
    assert provider.force_flush()
    (payload,) = transport.payloads
    sent = ExportTraceServiceRequest.FromString(payload).resource_spans[0].scope_spans[0].spans[0]
    (attribute,) = sent.attributes
    assert attribute.value.string_value == ("x" * 300 if phase is Phase.NORMAL else "x" * 254 + "…")
    assert sent.dropped_attributes_count == 1


def test_observing_cuts_nothing() -> None:
    """In observe mode attributes are as long as ever, and nothing is shed; it is counted what would have been."""
    exporter = RecordingExporter()
    shedder = LoadShedder(replace(ALONE, mode="observe"), exporter=exporter)
    processor = shedder.span_processor()
    shedder.force_phase(Phase.SHED_OPTIONAL)
    for priority in Priority:
        processor.on_end(span(priority=priority, text="x" * 300))
    assert processor.force_flush()
    assert [len(str((one.attributes or {})["text"])) for one in exporter.spans] == [300] * 4
    stats = shedder.stats()
    assert (stats.ended, stats.exported, stats.would_have_shed, stats.summary) == (4, 4, 2, ())
    assert (stats.phase, stats.sample_probability, stats.unaccounted) == (Phase.SHED_OPTIONAL, 1.0, 0)


def test_sheds_what_the_phase_says() -> None:
    """Spans go out by their priority, and each that does not is counted as what it came to."""
    exporter = RecordingExporter()
    shedder = LoadShedder(ALONE, exporter=exporter)
    processor = shedder.span_processor()
    gone: dict[Phase, list[str]] = {}
    for phase in Phase:
        shedder.force_phase(phase)
        before = len(exporter.spans)
        for priority in Priority:
            processor.on_end(span(priority.name, priority))
        assert processor.force_flush()
        gone[phase] = [priority.name for priority in Priority]
        for one in exporter.spans[before:]:
            gone[phase].remove(one.name)
    assert gone == {
        Phase.NORMAL: [],
        Phase.OBSERVE: [],
        Phase.DEGRADE: ["LOW"],
        Phase.RECOVERY: ["LOW"],
        Phase.SHED_OPTIONAL: ["LOW", "NORMAL"],
    }
    stats = shedder.stats()
    assert (stats.dropped, stats.summarized, stats.exported) == ({"low_priority": 2}, 2, 16)


def test_dropped_spans_never_arrive() -> None:
    """What the sampler drops never reaches the processor."""
    processor = SheddingSpanProcessor(RecordingExporter())
    provider = TracerProvider(sampler=StaticSampler(Decision.DROP), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("work").end()
    assert processor.stats().ended == 0


class Broken:
    """Stands for a span none of whose parts can be read."""

    @property
    def context(self) -> object:
        raise ZeroDivisionError("broken span")


class HalfBroken:
    """Stands for a span of which only the context can be read."""

    context = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError("half a span")


def test_on_end_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is handed to on_end, the application hears nothing, and it is counted."""
    processor = SheddingSpanProcessor(RecordingExporter())
    processor.on_end(Broken())  # type: ignore[arg-type]
    assert processor.stats().dropped == {"encode_failed": 1}
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("phase", list(Phase))
def test_on_end_never_raises_while_it_sheds(phase: Phase) -> None:
    """A span that cannot be judged is counted once, in every phase."""
    exporter = OTLPSpanExporter()
    exporter._client = OTLPClient(ScriptedTransport(), timeout=10.0)
    shedder = LoadShedder(ALONE, exporter=exporter)
    processor = shedder.span_processor()
    shedder.force_phase(phase)
    for broken in (Broken(), HalfBroken()):
        processor.on_end(broken)  # type: ignore[arg-type]
    stats = shedder.stats()
    assert (stats.ended, stats.dropped, stats.unaccounted) == (2, {"encode_failed": 2}, 0)


class HungExporter(SpanExporter):
    """Never returns from export until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.over.wait(60)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.over.set()


def test_producers_never_wait_for_a_hung_exporter(caplog: pytest.LogCaptureFixture) -> None:
    """Parity D6, D9, R3: 8 threads, 16 places, an exporter that hangs: nobody waits, all is counted, no line a span."""
    exporter = HungExporter()
    processor = SheddingSpanProcessor(exporter, max_queue_size=16, max_export_batch_size=8)

    def produce() -> None:
        for _ in range(1_250):
            processor.on_end(ended_span())

    producers = [threading.Thread(target=produce) for _ in range(8)]
    began = time.monotonic()
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    assert time.monotonic() - began < 5.0
    stats = processor.stats()
    assert (stats.ended, stats.unaccounted) == (10_000, 0)
    assert stats.queued <= 16
    assert set(stats.dropped) <= {"queue_full", "over_budget"}
    assert len(caplog.records) <= 1
    exporter.over.set()
    processor.shutdown()


def test_reports_an_exporter_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parity D7: the stats say that the exporter is not healthy."""
    exporter = RecordingExporter(result=SpanExportResult.FAILURE)
    processor = SheddingSpanProcessor(exporter)
    assert processor.stats().exporter_healthy
    processor.on_end(ended_span())
    assert not processor.force_flush()
    assert not processor.stats().exporter_healthy


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exporter_that_raises_costs_its_batch(error: type[BaseException]) -> None:
    """An exception, even one that would end a thread, is an export that failed; the next batch goes through."""
    answers = [error("no")]

    def answer(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if answers:
            raise answers.pop()
        return SpanExportResult.SUCCESS

    exporter = RecordingExporter(result=answer)
    processor = SheddingSpanProcessor(exporter)
    processor.on_end(ended_span("lost"))
    assert not processor.force_flush()
    processor.on_end(ended_span("kept"))
    assert processor.force_flush()
    assert [span.name for span in exporter.spans] == ["kept"]
    assert processor.stats().dropped == {"exporter_error": 1}


def test_disabled_is_the_stock_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_SHED_ENABLED=false every call goes to a stock BatchSpanProcessor."""
    monkeypatch.setenv("OTEL_SHED_ENABLED", "false")
    exporter = RecordingExporter()
    processor = SheddingSpanProcessor(exporter)
    assert isinstance(processor, SpanProcessor)
    assert any(thread.name == "OtelBatchSpanRecordProcessor" for thread in threading.enumerate())
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert len(exporter.spans) == 1
    assert processor.stats().ended == 0
    processor.shutdown()


def test_does_not_trace_its_own_exports() -> None:
    """Spans that an exporter's own instrumentation would make are suppressed while it exports."""
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []

    def answer(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        seen.append(is_instrumentation_enabled())
        return SpanExportResult.SUCCESS

    processor = SheddingSpanProcessor(RecordingExporter(result=answer))
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert seen == [False]
