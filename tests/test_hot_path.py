"""The hot path: the compiled on_end and the plain one are told apart by nothing but the time they take."""

from __future__ import annotations

import gc
import itertools
import logging
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, Priority, ShedConfig, SheddingSpanProcessor
from otel_shed import hot_path as module
from otel_shed.compiled import extension
from otel_shed.control.priority import ChoosePriority
from otel_shed.hot_path import OnEnd, compiled_on_end
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.encode import wrap_span
from otel_shed.otlp.encode_compiled import encoder
from otel_shed.otlp.samples import sample_spans
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import KINDS
from otel_shed.pipeline.queue import NEVER, Queue
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.transport import ScriptedTransport
from tests.conftest import ended_span
from tests.handling import handling
from tests.interpreter import IS_FREE_THREADED
from tests.otlp.encoders import compiled_only, everything
from tests.otlp.made_spans import CONTEXT, RESOURCE, SCOPE, bounded, made_span, spans
from tests.otlp.test_compiled import HOSTILE, KEYS, ODD_FIELDS, hostile_attributes, made_of

# The machine's own memory is not to press.
ALONE = ShedConfig(memory_limit_bytes=2**50)
UNSAMPLED = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.DEFAULT))


def otlp() -> OTLPSpanExporter:
    """An exporter of ours whose requests are all accepted."""
    exporter = OTLPSpanExporter()
    exporter._client = OTLPClient(ScriptedTransport(), timeout=10.0)
    return exporter


EXPORTERS: dict[str, Callable[[], SpanExporter]] = {"ours": otlp, "any other": RecordingExporter}
either_exporter = pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)


@pytest.fixture(autouse=True)
def lines_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor's lines are one a minute in all: those of these tests are not to cost others theirs."""
    monkeypatch.setattr("otel_shed.processor._log", LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic))


class Pair:
    """Both paths into one queue, where what they hand over stays until it has been looked at.

    left: how many spans the compiled path has left to the plain one.
    """

    def __init__(
        self,
        exporter: Callable[[], SpanExporter] = otlp,
        *,
        config: ShedConfig = ALONE,
        priority: ChoosePriority | None = None,
        classify: Callable[..., Any] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.shedder = LoadShedder(config, priority=priority, clock=self.clock)
        self.processor = SheddingSpanProcessor(exporter(), shedder=self.shedder)  # plain, for its clock
        self.plain: OnEnd = self.processor.on_end
        self.left = 0
        control, pipeline = self.shedder.assembly.control, self.processor._pipeline
        if classify is not None:
            control.gate.classifier.classify = classify  # type: ignore[method-assign]
        compiled = compiled_on_end(self._leave, control, pipeline, config, clock=control.clock)
        assert compiled is not None
        self.compiled: OnEnd = compiled
        self.queue, self._ledger, self._intake = pipeline.ledger.queue, pipeline.ledger, pipeline.intake
        self._intake._wake = None
        self.handed_over(self.plain, ended_span())
        self.handed_over(self.compiled, ended_span())  # looks at the control for the first time
        self.left = 0

    def popped(self) -> list[Any]:
        """The records that wait, which are dropped."""
        records, _ = self.queue.pop(NEVER)
        self._ledger.pop(len(records))
        self._ledger.let_go(DropReason.REJECTED, len(records))
        return records

    def _leave(self, span: ReadableSpan) -> None:
        self.left += 1
        self.plain(span)

    def handed_over(self, on_end: OnEnd, span: Any) -> list[Any]:
        """What comes to the queue: all that its records have, and what is counted without being queued."""
        before = self.queue.counts()[3]
        on_end(span)
        booked = [
            (fate, after - count) for fate, count, after in zip(KINDS, before, self.queue.counts()[3], strict=True)
        ]
        records = [
            everything(record) | {"order": 0, "span": record.span if record.span is not span else 0}
            for record in self.popped()
        ]
        return [*[(fate, count) for fate, count in booked if count], *records]

    def agree(self, make: Callable[[], Any]) -> list[Any]:
        """What comes of a span, made anew for each path: the same of either."""
        compiled, plain = self.handed_over(self.compiled, make()), self.handed_over(self.plain, make())
        assert compiled == plain
        assert len(plain) == 1
        return plain


# -- what is handed over -----------------------------------------------------------------------------------------------


@compiled_only
@either_exporter
def test_any_span_is_handed_over_alike(exporter: Callable[[], SpanExporter]) -> None:
    """Sampled or not, in the SDK's containers or in others, the intake gets the same record or the same count."""
    pair = Pair(exporter)

    @settings(max_examples=150, deadline=None)
    @given(span=spans())
    def check(span: ReadableSpan) -> None:
        pair.agree(lambda: span)

    check()


@compiled_only
@either_exporter
def test_hostile_attributes_are_handed_over_alike(exporter: Callable[[], SpanExporter]) -> None:
    """Whatever keys and values there are, the record is the same, or the span is counted as one that has none."""
    pair = Pair(exporter)

    @settings(max_examples=200, deadline=None)
    @given(first=hostile_attributes, second=hostile_attributes)
    def check(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
        def make() -> ReadableSpan:
            event, link = Event("event", bounded(made_of(second)), 7), Link(CONTEXT, bounded(made_of(second)))
            return made_span(attributes=made_of(first), events=[event], links=[link])

        pair.agree(make)

    check()


@compiled_only
@either_exporter
def test_odd_spans_are_handed_over_alike(exporter: Callable[[], SpanExporter]) -> None:
    """Whatever its fields are, a span comes to the same on either path."""
    pair = Pair(exporter)

    @settings(max_examples=300, deadline=None)
    @given(data=st.data(), like_sdk=st.booleans())
    def check(data: st.DataObject, like_sdk: bool) -> None:
        fields = {name: data.draw(st.sampled_from(found)) for name, found in ODD_FIELDS.items()}
        span = made_span(fields.pop("name"), like_sdk=like_sdk, **fields)
        pair.agree(lambda: span)

    check()


class _Context(SpanContext):
    @property
    def trace_id(self) -> int:
        return 7


class _Flags(TraceFlags):
    @property
    def sampled(self) -> bool:
        return False


class _Span(ReadableSpan):
    @property
    def name(self) -> str:
        return "renamed"


def _with_flags(flags: Any) -> ReadableSpan:
    return made_span(context=SpanContext(1, 2, False, trace_flags=flags))


ODD_SPANS: dict[str, Callable[[], Any]] = {
    "no span": object,
    "nothing": lambda: None,
    "a span without a context": lambda: made_span(context=None),
    "a span that is not sampled": lambda: made_span(context=UNSAMPLED),
    "a context that is no context": lambda: made_span(context=(1, 2, False, TraceFlags(1), None, True)),
    "a context of a subclass": lambda: made_span(context=_Context(1, 2, False, TraceFlags(1))),
    "a span of a subclass": lambda: _Span("work", CONTEXT, resource=RESOURCE, start_time=1, end_time=2),
    "flags that are a plain number": lambda: _with_flags(1),
    "flags that are a plain 0": lambda: _with_flags(0),
    "flags of a subclass": lambda: _with_flags(_Flags(1)),
    "flags that are no number": lambda: _with_flags("1"),
    "flags below 0": lambda: _with_flags(TraceFlags(-1)),
    "flags beyond 64 bits": lambda: _with_flags(TraceFlags((1 << 70) + 1)),
    "flags with more in them": lambda: _with_flags(TraceFlags(0x1FF)),
    "a span made by hand": lambda: ReadableSpan("work", CONTEXT, resource=RESOURCE),
}


@compiled_only
@either_exporter
@pytest.mark.parametrize("make", ODD_SPANS.values(), ids=ODD_SPANS)
def test_what_is_not_as_usual_comes_to_the_same(exporter: Callable[[], SpanExporter], make: Callable[[], Any]) -> None:
    """Other classes, other flags, no context at all: what the plain one makes of it, the compiled one does too."""
    Pair(exporter).agree(make)


@compiled_only
@either_exporter
def test_usual_spans_are_not_left_to_the_plain_one(exporter: Callable[[], SpanExporter]) -> None:
    """What the SDK hands to a processor is taken by the compiled one, whatever it says of its priority."""
    pair, provider = Pair(exporter), TracerProvider(shutdown_on_exit=False)
    ended: list[ReadableSpan] = []
    taken = SheddingSpanProcessor(RecordingExporter())
    taken.on_end = ended.append  # type: ignore[assignment, method-assign]
    provider.add_span_processor(taken)
    tracer = provider.get_tracer("a.library", "1.0")
    outer = tracer.start_span("outer", attributes={"a": 1, "otlp.priority": "high"})
    inner = tracer.start_span("inner", links=[Link(outer.get_span_context())])
    inner.record_exception(ValueError("nothing"))
    inner.set_status(StatusCode.ERROR, "it failed")
    for span in (inner, outer):
        span.end()
    usual = [*ended, *(span for span in sample_spans() if span.context and span.context.trace_flags.sampled)]
    for one in usual:
        pair.agree(lambda one=one: one)  # type: ignore[misc]
    assert (len(usual) > 5, pair.left) == (True, 0)
    taken.shutdown()


# -- what a span is worth ----------------------------------------------------------------------------------------------

SAID = ["low", "LOW", "Normal", " high ", "Critical", "critical", "none of these", "", 3, None, True, ["high"], b"high"]
RULES = {
    "no rules": ALONE,
    "by name": replace(ALONE, low_priority_names=("GET /health*",), critical_priority_names=("pay",)),
    "by kind": replace(ALONE, low_priority_kinds=("internal",), high_priority_kinds=("server",)),
    "other attributes": replace(ALONE, priority_attributes=("a", "b")),
    "no attributes": replace(ALONE, priority_attributes=()),
}


@compiled_only
@either_exporter
@pytest.mark.parametrize("config", RULES.values(), ids=RULES)
def test_priorities_are_the_same(exporter: Callable[[], SpanExporter], config: ShedConfig) -> None:
    """By attribute, in any case of letters, by status, by name and by kind: either path says the same."""
    pair, found = Pair(exporter, config=config), set()
    names = ("otlp.priority", "observability.priority", "OTLP.priority", "a")
    statuses = (Status(), Status(StatusCode.OK), Status(StatusCode.ERROR))
    for said, name, status in itertools.product(SAID, names, statuses):
        span = made_span("GET /healthz", attributes={name: said, "other": 1}, status=status)
        (record,) = pair.agree(lambda span=span: span)  # type: ignore[misc]
        found.add(record["priority"])
    for name, kind, status in itertools.product(("pay", "GET /health", "x"), SpanKind, statuses):
        span = made_span(name, kind=kind, status=status)
        (record,) = pair.agree(lambda span=span: span)  # type: ignore[misc]
        found.add(record["priority"])
    assert (len(found) > 1, pair.left) == (True, 0)


@compiled_only
@either_exporter
@pytest.mark.parametrize(
    ("answer", "priority"),
    [
        (Priority.CRITICAL, Priority.CRITICAL),
        (0, Priority.LOW),
        (None, Priority.NORMAL),
        ("x", Priority.NORMAL),
        (9, 1),
    ],
)
def test_a_callable_is_asked_once(exporter: Callable[[], SpanExporter], answer: Any, priority: Priority) -> None:
    """The application's own is asked once for each span on either path, and nonsense is NORMAL."""
    asked = []

    def choose(span: ReadableSpan) -> Any:
        asked.append(span)
        return answer

    pair = Pair(exporter, priority=choose)
    batch = [
        made_span(),
        made_span(attributes={"a": object()}),
        made_span(like_sdk=False, kind=9),
        made_span(name=None),
    ]
    del asked[:]
    for span in batch:
        (record,) = pair.agree(lambda span=span: span)  # type: ignore[misc]
        assert record["priority"] is Priority(priority)
    assert asked == [span for span in batch for _ in range(2)]


@compiled_only
def test_a_callable_is_asked_once_of_what_is_left_to_the_plain_one() -> None:
    """A span that cannot be encoded, and one that is too large, is judged once, as the plain path does."""
    asked: list[ReadableSpan] = []
    pair = Pair(config=replace(ALONE, max_request_bytes=2048), priority=asked.append)
    del asked[:]
    for span in (made_span(start_time=-1), made_span(attributes={"a": "x" * 5000})):
        assert type(pair.agree(lambda span=span: span)[0]) is tuple  # type: ignore[misc]
    assert (len(asked), pair.left) == (4, 2)


@compiled_only
@either_exporter
def test_a_callable_that_fails_costs_nothing(exporter: Callable[[], SpanExporter]) -> None:
    """A priority callable that raises makes a NORMAL span of it."""

    def choose(span: ReadableSpan) -> Priority:
        raise ZeroDivisionError

    pair = Pair(exporter, priority=choose)
    assert pair.agree(made_span)[0]["priority"] is Priority.NORMAL
    assert pair.left == 0


@compiled_only
@pytest.mark.parametrize("nonsense", [None, "high", object(), 7])
def test_a_classifier_that_says_nonsense_costs_the_span_alike(nonsense: Any) -> None:
    """The queue has no place for a priority that is none: the span is counted, by either path."""

    def classify(span: ReadableSpan, attributes: Any = None) -> Any:
        return nonsense

    pair = Pair(config=RULES["by name"], classify=classify)
    assert pair.agree(made_span) == [(DropReason.ENCODE_FAILED, 1)]


@compiled_only
def test_a_classifier_that_fails_is_survived_alike() -> None:
    """A fault of the classifier's makes a NORMAL span of it."""

    def classify(span: ReadableSpan, attributes: Any = None) -> Any:
        raise ZeroDivisionError

    pair = Pair(config=RULES["by name"], classify=classify)
    assert pair.agree(made_span)[0]["priority"] is Priority.NORMAL


# -- sizes and lengths -------------------------------------------------------------------------------------------------


@compiled_only
@either_exporter
@pytest.mark.parametrize(
    ("request_bytes", "held_bytes"), [(1024, 1024), (2048, 4096), (2048, 1 << 25), (1 << 20, 1 << 25)]
)
def test_sizes_near_a_limit(exporter: Callable[[], SpanExporter], request_bytes: int, held_bytes: int) -> None:
    """A span, its resource and its scope, of whatever size, fit or are too large alike."""
    pair = Pair(exporter, config=replace(ALONE, max_request_bytes=request_bytes, max_held_bytes=held_bytes))
    results = set()
    for whole, part in itertools.product((request_bytes, held_bytes), (0, 4, 2, 1)):
        size = min(whole, 1 << 20) // part if part else 0
        for more in (-200, -100, -60, -40, -20, -10, 0, 10, 1000):
            text = "x" * max(0, size + more)
            for span in (
                made_span(attributes={"text": text}),
                made_span(resource=Resource({"text": text})),
                made_span(instrumentation_scope=InstrumentationScope(text, "1")),
                made_span(
                    attributes={"text": text[: len(text) // 2]}, resource=Resource({"text": text[len(text) // 2 :]})
                ),
            ):
                results.add(type(pair.agree(lambda span=span: span)[0]))  # type: ignore[misc]
    assert results == ({dict, tuple} if exporter is otlp else {dict})


@compiled_only
@either_exporter
def test_attributes_are_cut_as_the_phase_says_a_tenth_of_a_second_later(exporter: Callable[[], SpanExporter]) -> None:
    """The compiled path looks at the phase ten times a second, and then does what the plain one does."""
    pair = Pair(exporter, config=replace(ALONE, degraded_attribute_length=5))

    def lengths() -> tuple[int, int]:
        """Of the attribute, by the compiled path and by the plain one."""
        span, found = made_span(attributes={"text": "y" * 50}), []
        for on_end in (pair.compiled, pair.plain):
            on_end(span)
            (record,) = pair.popped()
            if record.body is None:  # which is cut when it is exported
                found.append(50 if record.limit is None else record.limit - 1)
            else:
                found.append(record.body.count(b"y"))
        return found[0], found[1]

    assert lengths() == (50, 50)
    pair.shedder.force_phase(Phase.DEGRADE)
    pair.clock.advance(0.05)
    assert lengths() == (50, 4)
    pair.clock.advance(0.06)
    pair.left = 0
    assert lengths() == (4, 4)
    assert pair.left == 0  # the compiled path does it by itself
    pair.shedder.force_phase(Phase.NORMAL)
    pair.clock.advance(0.11)
    assert lengths() == (50, 50)


# -- which of them is used ---------------------------------------------------------------------------------------------


def is_compiled(processor: Any) -> bool:
    """Whether its on_end is the compiled one."""
    return extension is not None and type(processor.on_end) is extension.HotPath


@either_exporter
def test_where_there_is_a_compiled_one_it_is_in_use(exporter: Callable[[], SpanExporter]) -> None:
    """By default a processor's on_end is the compiled one, where the compiled parts are."""
    assert is_compiled(SheddingSpanProcessor(exporter())) is (extension is not None)


def test_where_it_would_not_do_the_plain_one_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in observe mode, with a clock of one's own, with an encoder of another kind, or without compiled parts."""
    assert not is_compiled(SheddingSpanProcessor(otlp(), shedder=LoadShedder(replace(ALONE, mode="observe"))))
    assert not is_compiled(SheddingSpanProcessor(otlp(), shedder=LoadShedder(ALONE, clock=FakeClock())))
    monkeypatch.setattr("otel_shed.pipeline.sender.encode_span", lambda span, limit=None: None)
    assert not is_compiled(SheddingSpanProcessor(otlp()))
    for part, value in (("_ENCODER", None), ("extension", None)):
        monkeypatch.undo()
        monkeypatch.setattr(module, part, value)
        assert not is_compiled(SheddingSpanProcessor(otlp()))
    monkeypatch.undo()
    monkeypatch.setattr("otel_shed.pipeline.sender.wrap", wrap_span)  # the compiled one has not proved itself
    assert not is_compiled(SheddingSpanProcessor(RecordingExporter()))


@either_exporter
def test_a_subclass_is_asked(exporter: Callable[[], SpanExporter]) -> None:
    """An on_end that a subclass has is called, and may call the one it overrides."""
    names = []

    class Watching(SheddingSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            names.append(span.name)
            super().on_end(span)

    processor = Watching(exporter())
    for number in range(3):
        processor.on_end(made_span(f"span {number}"))
    assert names == ["span 0", "span 1", "span 2"]
    assert processor.force_flush()
    assert processor.stats().exported == 3


@either_exporter
def test_the_share_of_cpu_is_measured(exporter: Callable[[], SpanExporter]) -> None:
    """With cpu_share the time of either on_end is measured, and the span goes on."""
    shedder = LoadShedder(replace(ALONE, cpu_share=0.5))
    meter = shedder.assembly.control.meter
    assert meter is not None
    asked: list[float] = []

    def every_one() -> float:
        asked.append(0.0)
        return 0.0

    meter._random = every_one
    processor = SheddingSpanProcessor(exporter(), shedder=shedder)
    for _ in range(5):
        processor.on_end(made_span())
    assert len(asked) == 5
    assert meter.collect() > 0.0
    assert processor.force_flush()
    assert processor.stats().exported == 5


def test_arguments_are_those_of_on_end() -> None:
    """One span, by position or by name; anything else is the TypeError that it always was."""
    processor = SheddingSpanProcessor(RecordingExporter())
    processor.on_end(made_span())
    processor.on_end(span=made_span())
    for arguments, named in (((), {}), ((made_span(), 1), {}), ((), {"other": 1})):
        with pytest.raises(TypeError):
            processor.on_end(*arguments, **named)  # type: ignore[arg-type]
    assert processor.stats().ended == 2


# -- interrupts, threads, forks ----------------------------------------------------------------------------------------


class _Interrupting(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise KeyboardInterrupt


@either_exporter
def test_an_interrupt_is_the_applications(exporter: Callable[[], SpanExporter]) -> None:
    """Ctrl-C in a value's or in the application's code is not swallowed, and the span is counted as lost."""
    asked = []

    def choose(span: ReadableSpan) -> Priority | None:
        asked.append(span)
        if span.name == "interrupted":
            raise KeyboardInterrupt
        return None

    processor = SheddingSpanProcessor(exporter(), shedder=LoadShedder(ALONE, priority=choose))
    good, interrupted = made_span(attributes={"a": [1]}), made_span("interrupted")
    processor.on_end(good)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            processor.on_end(interrupted)
        processor.on_end(good)
    if exporter is otlp:
        with pytest.raises(KeyboardInterrupt):
            processor.on_end(made_span(attributes={"a": _Interrupting()}))
    assert not processor.force_flush()
    stats = processor.stats()
    assert (stats.exported, stats.dropped, stats.unaccounted) == (4, {"encode_failed": 3 + (exporter is otlp)}, 0)
    assert asked.count(interrupted) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this platform")
@either_exporter
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_a_signal_handler_that_raises(exporter: Callable[[], SpanExporter], error: type[BaseException]) -> None:
    """What a handler raises in the middle of on_end reaches the application, and the span is counted as lost."""

    def interrupt(*_: Any) -> None:
        raise error

    def choose(span: ReadableSpan) -> None:
        if span.name == "interrupted":
            signal.raise_signal(signal.SIGUSR1)

    handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        processor = SheddingSpanProcessor(exporter(), shedder=LoadShedder(ALONE, priority=choose))
        for number in range(10):
            processor.on_end(made_span())
            with pytest.raises(error):
                processor.on_end(made_span("interrupted"))
            assert processor.stats().ended == 2 * (number + 1)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert not processor.force_flush()
    stats = processor.stats()
    assert (stats.exported, stats.dropped, stats.unaccounted) == (10, {"encode_failed": 10}, 0)


class _Signalling(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        signal.raise_signal(signal.SIGUSR1)
        return super().__iter__()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this platform")
@pytest.mark.parametrize("place", ["attribute", "event", "link"])
@pytest.mark.parametrize("is_plain", [False, True])
def test_a_signal_handler_that_raises_in_a_values_own_code(place: str, is_plain: bool) -> None:
    """It costs no attribute, event or link: the exception is the application's, and the span is counted as lost."""
    processor = SheddingSpanProcessor(otlp())
    on_end = partial(SheddingSpanProcessor.on_end, processor) if is_plain else processor.on_end
    odd = bounded({"key": 1})
    odd._dict["odd"] = _Signalling([1])
    context = SpanContext(1, 2, is_remote=False)
    made: dict[str, dict[str, Any]] = {
        "attribute": {"attributes": odd},
        "event": {"events": [Event("event", odd)]},
        "link": {"links": [Link(context, odd)]},
    }
    with handling(signal.SIGUSR1, TimeoutError) as came, pytest.raises(TimeoutError):
        on_end(made_span(**made[place]))
    assert (len(came), processor.stats().dropped, processor.stats().ended) == (1, {"encode_failed": 1}, 1)


@either_exporter
def test_a_span_that_ends_in_the_middle_of_another(exporter: Callable[[], SpanExporter]) -> None:
    """Code of the application's that on_end calls may end spans itself: all of them are taken, none twice."""
    processor: SheddingSpanProcessor

    class Ending(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            processor.on_end(made_span("inner", attributes={"a": ["b"]}))
            return iter([1])

    def choose(span: ReadableSpan) -> None:
        if span.name == "outer":
            processor.on_end(made_span("asked"))

    processor = SheddingSpanProcessor(exporter(), shedder=LoadShedder(ALONE, priority=choose))
    for _ in range(5):
        processor.on_end(made_span("outer", attributes={"a": Ending()}))
    assert processor.force_flush()
    stats = processor.stats()
    assert (stats.ended, stats.exported) == ((15, 15) if exporter is otlp else (10, 10))


@either_exporter
def test_many_threads_are_counted_exactly(exporter: Callable[[], SpanExporter]) -> None:
    """Eight threads that end spans at once: what ended was exported or dropped, exactly."""
    shedder = LoadShedder(replace(ALONE, max_queue_size=64, max_export_batch_size=32, max_held_spans=64))
    processor = SheddingSpanProcessor(exporter(), shedder=shedder)
    batch = [
        made_span("usual", attributes={"a": 1}),
        made_span("odd", attributes={"a": object(), "b": "x" * 100_000}),
        made_span("said", attributes={"otlp.priority": "low"}),
        made_span("unsampled", context=UNSAMPLED),
        made_span("bad", start_time=-1),
        made_span(like_sdk=False),
    ]
    start, rounds = threading.Barrier(8), 400

    def run() -> None:
        start.wait()
        for _ in range(rounds):
            for span in batch:
                processor.on_end(span)

    threads, interval = [threading.Thread(target=run) for _ in range(8)], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    processor.force_flush()
    stats = processor.stats()
    each = 8 * rounds
    assert (stats.ended, stats.unsampled, stats.queued, stats.in_flight) == (each * len(batch), each, 0, 0)
    assert stats.dropped.get("encode_failed", 0) == (each if exporter is otlp else 0)
    assert stats.ended == stats.unsampled + stats.exported + stats.summarized + sum(stats.dropped.values())
    assert stats.exported > 0


@either_exporter
def test_a_fork_in_between(exporter: Callable[[], SpanExporter]) -> None:
    """In a forked child what had ended is the parent's, and what ends from then on is taken as before."""
    processor = SheddingSpanProcessor(exporter())
    pipeline = processor._pipeline
    pipeline.intake._wake = None  # the child has no worker
    for _ in range(7):
        processor.on_end(made_span())
    assert (pipeline.ledger.queue.records, processor.stats().ended) == (7, 7)
    for _ in range(3):
        processor.on_end(made_span())
    pipeline.after_fork_in_child()
    pipeline.intake._wake = pipeline._wake
    for _ in range(4):
        processor.on_end(made_span())
    assert processor.force_flush()
    stats = processor.stats()
    assert (stats.ended, stats.exported, stats.dropped) == (14, 4, {"fork": 10})


# -- memory ------------------------------------------------------------------------------------------------------------


@either_exporter
def test_a_processor_that_nobody_holds_is_collected(exporter: Callable[[], SpanExporter]) -> None:
    """The hot path and its processor refer to each other, and go together."""
    processor = SheddingSpanProcessor(exporter())
    processor.on_end(made_span())
    processor.shutdown()
    gone = weakref.ref(processor)
    paths = [] if extension is None else [thing for thing in gc.get_objects() if type(thing) is extension.HotPath]
    assert extension is None or processor.on_end in paths
    before = len(paths)
    paths.clear()
    del processor
    gc.collect()
    assert gone() is None
    if extension is not None:
        assert sum(type(thing) is extension.HotPath for thing in gc.get_objects()) < before


def _batch() -> list[Any]:
    """Spans of every kind, those too that are left to the plain path and those that cannot be encoded."""
    hostile = {f"{number}": make() for number, make in enumerate(HOSTILE.values())}
    every = list(zip(KEYS, HOSTILE, strict=False))
    batch: list[Any] = [
        made_span(attributes=hostile, events=[Event("event", bounded(hostile), 7)]),
        made_span(attributes=made_of(every), links=[Link(CONTEXT, bounded(made_of(every)))]),
        made_span("\ud800", events=[Event("\ud800", bounded({"a": 1}), 1)]),
        made_span(attributes={"otlp.priority": "high"}),
        made_span(resource=Resource({"text": "x" * 2000})),
        made_span(attributes={"text": "x" * 2000}),
        made_span(attributes={"text": "x" * 900}),
        *(make() for make in ODD_SPANS.values()),
        *sample_spans(),
    ]
    for name, odd in ODD_FIELDS.items():
        batch += [made_span(**{"name": "work", name: value}) for value in odd]
    return batch


def _failing(span: ReadableSpan) -> Priority | None:
    if len(span.name) % 3 == 0:
        raise ZeroDivisionError
    return None


@compiled_only
@pytest.mark.skipif(not sys.getallocatedblocks(), reason="Python's own allocator is not in use")
@either_exporter
@pytest.mark.parametrize("priority", [None, _failing])
def test_nothing_is_left_behind(exporter: Callable[[], SpanExporter], priority: ChoosePriority | None) -> None:
    """After many spans, on every path there is, memory is where it was, and so are references to what spans share."""
    config = replace(ALONE, max_request_bytes=2048, max_held_bytes=1 << 20)
    pair, batch = Pair(exporter, config=config, priority=priority), _batch()
    shared: list[Any] = [
        RESOURCE, SCOPE, CONTEXT, *Priority, *StatusCode, *SpanKind, ReadableSpan, SpanContext, BoundedAttributes,
        pair.compiled, pair.clock, pair._intake, pair.queue, encoder, *batch,
        *(part for span in batch if isinstance(span, ReadableSpan) for part in vars(span).values()),
    ]  # fmt: skip
    shared = [thing for thing in shared if type(thing) not in (int, str, bool, tuple, float, type(None))]

    def run(times: int) -> None:
        for _ in range(times):
            pair.clock.advance(0.03)
            for span in batch:
                pair.compiled(span)
            pair.popped()

    run(60)
    for _ in range(3):  # what earlier tests have left goes in turns: pipelines first, then what they held
        gc.collect()
    references, blocks = [sys.getrefcount(thing) for thing in shared], sys.getallocatedblocks()
    run(60)
    gc.collect()
    grown = sys.getallocatedblocks() - blocks
    for _ in range(10):
        if abs(grown) < 60 or not IS_FREE_THREADED:  # without the lock, what is freed may be given back later
            break
        blocks = sys.getallocatedblocks()
        run(60)
        gc.collect()
        grown = sys.getallocatedblocks() - blocks
    assert [sys.getrefcount(thing) for thing in shared] == references
    assert abs(grown) < 60  # one block a span, or a batch, would be more


@compiled_only
@pytest.mark.skipif(not sys.getallocatedblocks(), reason="Python's own allocator is not in use")
@either_exporter
def test_two_hundred_thousand_spans_leave_memory_where_it_was(exporter: Callable[[], SpanExporter]) -> None:
    """What is held while records wait is given back with them."""
    pair, span = Pair(exporter), made_span(attributes={"a": "b", "n": 1}, events=[Event("e", bounded({"k": "v"}), 1)])
    pair.compiled(span)
    pair.popped()
    gc.collect()
    before, references = sys.getallocatedblocks(), sys.getrefcount(span)
    for _ in range(2_000):
        for _ in range(100):
            pair.compiled(span)
        assert len(pair.popped()) == 100
    assert abs(sys.getallocatedblocks() - before) < 100
    assert (sys.getrefcount(span), pair.left) == (references, 0)


# -- its parts ---------------------------------------------------------------------------------------------------------


class Parts:
    """A HotPath of parts that a test can break. left: what it has left to the plain one."""

    def __init__(self, **broken: Any) -> None:
        self.left: list[Any] = []
        self.queue: Any = Queue(kinds=4, full=0, refused=1, closed=2, failed=3)
        self.intake = SimpleNamespace(tell=broken.pop("tell", self._tell))
        self.told = 0
        parts: dict[str, Any] = {
            "encoder": encoder,
            "careful": self.left.append,
            "intake": self.intake,
            "queue": self.queue,
            "clock": lambda: 1.0,
            "look": lambda: (2.0, -1),
            "classify": lambda span, attributes: Priority.LOW,
            "names": ("key",),
            "normal": Priority.NORMAL,
            "high": Priority.HIGH,
            "roomy": 100_000,
            "wraps": False,
        }
        self.on_end = extension.HotPath(**parts | broken)

    @property
    def counted(self) -> tuple[int, int]:
        """Spans that are queued, and those that are counted as lost."""
        return self.queue.records, self.queue.counts()[3][3]

    def _tell(self) -> None:
        self.told += 1


def _raising(error: type[BaseException]) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


BROKEN: dict[str, dict[str, Any]] = {
    "a clock that is none": {"clock": lambda: "now"},
    "a clock that raises": {"clock": _raising(OSError)},
    "a look that raises": {"look": _raising(LookupError)},
    "a look that says nothing": {"look": lambda: None},
    "a look that says too little": {"look": lambda: (1.0,)},
    "a look that says nonsense": {"look": lambda: ("later", 5)},
    "a limit beyond all": {"look": lambda: (1.0, 1 << 80)},
    "a classifier that raises": {"classify": _raising(OSError), "names": None},
    "names that cannot be looked up": {"names": ([],)},
    "no room in a request": {"roomy": 10},
    "no room for its group": {"roomy": 60},
}


@compiled_only
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_part_that_fails_leaves_the_span_to_the_plain_one(broken: dict[str, Any]) -> None:
    """Whatever fails before a record is handed over, the plain one has the span, once."""
    parts, span = Parts(**broken), made_span(attributes={"key": 1})
    for times in range(1, 4):
        assert parts.on_end(span) is None
        assert (parts.left, parts.queue.records, parts.told) == ([span] * times, 0, 0)


@compiled_only
@pytest.mark.parametrize("part", ["clock", "look", "classify"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_a_part_is_the_applications(part: str, error: type[BaseException]) -> None:
    """What is no Exception goes to the application, and the span is counted as lost."""
    parts = Parts(**{part: _raising(error)})
    with pytest.raises(error):
        parts.on_end(made_span(attributes={"key": 1}))
    assert (parts.left, parts.counted) == ([], (0, 1))


@compiled_only
@pytest.mark.parametrize("part", ["clock", "look", "classify", "tell"])
def test_what_a_signal_handler_raises_in_a_part_is_the_applications(part: str) -> None:
    """An Exception of a handler's goes to the application too, and the span is counted: as held, or else as lost."""
    parts = Parts(**{part: lambda *_: signal.raise_signal(signal.SIGUSR1)})
    parts.queue.wake_when(1)
    with handling(signal.SIGUSR1, TimeoutError), pytest.raises(TimeoutError):
        parts.on_end(made_span(attributes={"key": 1}))
    assert (parts.left, parts.counted) == ([], (1, 0) if part == "tell" else (0, 1))


@compiled_only
@pytest.mark.parametrize("clock", [time.monotonic, lambda: time.monotonic()], ids=["the system's", "any other"])
@pytest.mark.parametrize(("seconds", "looks"), [(-1.0, 3), (3600.0, 1)])
def test_it_looks_when_it_is_time_to(clock: Callable[[], float], seconds: float, looks: int) -> None:
    """By time.monotonic, which it reads without calling it, as by any other clock."""
    seen: list[float] = []

    def look() -> tuple[float, int]:
        seen.append(time.monotonic())
        return seen[-1] + seconds, -1

    parts = Parts(clock=clock, look=look)
    for _ in range(3):
        parts.on_end(made_span())
    assert (len(seen), parts.queue.records, parts.left) == (looks, 3, [])


@compiled_only
@pytest.mark.parametrize("now", [5.0, 1e9])
def test_a_clock_in_the_place_of_the_systems_is_the_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """As in a program's tests, where time stands still or jumps."""
    clock, looks = FakeClock(now), []

    def look() -> tuple[float, int]:
        looks.append(clock())
        return clock() + 0.1, -1

    monkeypatch.setattr(time, "monotonic", clock)
    parts = Parts(clock=time.monotonic, look=look)
    for _ in range(3):
        parts.on_end(made_span())
        parts.on_end(made_span())
        clock.advance(1.0)
    assert looks == [now, now + 1.0, now + 2.0]


@compiled_only
@pytest.mark.parametrize("wraps", [False, True])
def test_somebody_is_told_when_there_is_enough(wraps: bool) -> None:
    """From when on the consumer asked for, in records or in bytes, which may change at any time, each span tells."""
    parts = Parts(wraps=wraps)
    parts.queue.wake_when(3)
    for _ in range(4):
        parts.on_end(made_span())
    assert (parts.queue.records, parts.told) == (4, 2)
    parts.queue.wake_when(sys.maxsize)
    parts.on_end(made_span())
    assert (parts.queue.records, parts.told) == (5, 2)
    parts.queue.wake_when(sys.maxsize, 2000)
    parts.on_end(made_span("large", attributes={"a": "x" * 2000}))
    assert (parts.queue.records, parts.told) == (6, 2 if wraps else 3)
    assert parts.left == []


@compiled_only
def test_what_fails_after_the_span_was_handed_over_is_not_left_to_the_plain_one() -> None:
    """A span that is queued is not counted again, whatever else happens."""
    parts = Parts(tell=_raising(OSError))
    parts.queue.wake_when(1)
    with pytest.raises(OSError):
        parts.on_end(made_span())
    assert (parts.left, parts.queue.records) == ([], 1)


@compiled_only
def test_it_is_made_of_an_encoder_and_a_queue() -> None:
    """Parts that cannot be are refused at once."""
    for broken in ({"encoder": None}, {"encoder": object()}, {"names": ["key"]}, {"roomy": "x"}, {"queue": object()}):
        with pytest.raises(TypeError):
            Parts(**broken)
    for arguments in ((), (1,)):
        with pytest.raises(TypeError):
            extension.HotPath(*arguments)


@compiled_only
def test_parts_that_refer_back_to_it_are_collected_with_it() -> None:
    """Whichever part it is that closes the circle."""
    for part in ("careful", "clock", "look", "classify"):

        class Part:
            path: Any = None

            def __call__(self, *_: Any) -> None:
                """Refers to the path."""

        closing = Part()
        parts = Parts(**{part: closing})
        closing.path = parts.on_end
        gone = weakref.ref(closing)
        del closing, parts, Part
        gc.collect()
        assert gone() is None
