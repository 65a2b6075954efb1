"""The encoder: what a receiver reads is what the stock encoder would have sent, and nothing hostile gets further."""

from __future__ import annotations

import enum
import inspect
import threading
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_shed.otlp import attributes, groups
from otel_shed.otlp import span as span_module
from otel_shed.otlp.attributes import AttributeWriter, attribute_writer
from otel_shed.otlp.encode import Encoder, encode_public, wrap_span
from otel_shed.otlp.request import build_request
from otel_shed.otlp.slots import encode_slots
from otel_shed.record import Priority
from tests.otlp.encoders import ENCODERS, every_encoder, everything, header
from tests.otlp.made_spans import (
    CONTEXT,
    bounded,
    canonical,
    made_span,
    message,
    spans,
    stock_canonical,
    stock_message,
    values,
)


@settings(max_examples=250, deadline=None)
@given(span=spans())
def test_any_span_is_what_stock_makes_of_it(span: ReadableSpan) -> None:
    """Whichever encoder, a receiver reads every span as from stock; the record is the same to the byte."""
    expected, public, wrapped = stock_canonical([span]), encode_public(span), wrap_span(span)
    assert canonical([public]) == expected
    assert header(public) == header(wrapped)
    for encoder in ENCODERS.values():
        assert everything(encoder(span)) == everything(public)


@settings(max_examples=150, deadline=None)
@given(span=spans(), limit=st.integers(0, 9))
def test_any_span_is_cut_alike(span: ReadableSpan, limit: int) -> None:
    """Whichever encoder, a span with a limit is cut in the same places: the record is the same to the byte."""
    public = everything(encode_public(span, limit))
    assert [everything(encoder(span, limit)) for encoder in ENCODERS.values()] == [public] * len(ENCODERS)


@settings(max_examples=150, deadline=None)
@given(value=values, key=st.text(max_size=80))
def test_any_value_is_what_stock_makes_of_it(value: Any, key: str) -> None:
    """An attribute's value arrives as the stock encoder sends it, with cold caches and with warm ones."""
    for span in (made_span(attributes={key: value}), made_span(attributes={key: value, "other": value})):
        for encoder in ENCODERS.values():
            assert canonical([encoder(span)]) == stock_canonical([span])


surrogates = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("a\ud83d\udc22é漢🐢"))


@settings(max_examples=200, deadline=None)
@given(text=surrogates, limit=st.none() | st.integers(0, 9))
def test_any_text_is_encoded_alike(text: str, limit: int | None) -> None:
    """Text of any kind, halves of surrogate pairs in it too, cut or whole, is the same bytes from every encoder."""
    span = made_span(
        text,
        attributes={text: text, "list": [text, {text: text}]},
        events=[Event(text, bounded({text: text}), 1)],
        status=Status(StatusCode.ERROR, text),
    )
    public = everything(encode_public(span, limit))
    assert [everything(encoder(span, limit)) for encoder in ENCODERS.values()] == [public] * len(ENCODERS)


@every_encoder
def test_the_header_is_the_span_in_short(encoder: Encoder) -> None:
    """Ids, parent, flags, name, status and duration can be read without the bytes."""
    parent = SpanContext(0xABC, 0x123, is_remote=True)
    span = made_span("GET", parent=parent, status=Status(StatusCode.ERROR), start_time=5, end_time=12)
    record = encoder(span)
    assert (record.trace_id, record.span_id, record.parent_span_id) == (0xABC, 0xDEF, 0x123)
    assert (record.name, record.status, record.duration_ns, record.priority) == ("GET", 2, 7, Priority.NORMAL)
    assert record.flags == 0x301
    assert record.is_local_root
    assert message(record).flags == 0x300
    assert record.span is None
    wrapped = wrap_span(span)
    assert (wrapped.length, wrapped.group, wrapped.body, wrapped.span) == (0, None, None, span)


@every_encoder
@pytest.mark.parametrize(("start", "end"), [(None, 5), (5, None), (None, None), (9, 5), (5, 5)])
def test_a_duration_is_never_negative(encoder: Encoder, start: int | None, end: int | None) -> None:
    """A span whose times are unknown or run backwards lasted 0 nanoseconds."""
    assert encoder(made_span(start_time=start, end_time=end)).duration_ns == 0


class _Raising:
    """An event of which nothing can be read."""

    @property
    def name(self) -> str:
        raise OSError("no name")


class _Exception(str):
    __slots__ = ()


EXCEPTION = Event("exception", bounded({"exception.type": "OSError"}), 1)
OTHERS = [
    Event(name, bounded({}), 1)
    for name in ("Exception", "exceptions", "exceptio", "an exception", "exception ", "exception\0", "")
]


@every_encoder
@pytest.mark.parametrize(
    ("status", "events", "failed"),
    [
        (Status(), [], False),
        (Status(StatusCode.OK), OTHERS, False),
        (Status(StatusCode.ERROR, "why"), [], True),
        (Status(), [EXCEPTION], True),
        (Status(StatusCode.OK), [*OTHERS, EXCEPTION, *OTHERS], True),
        (None, [EXCEPTION], True),
        (None, OTHERS, False),
        (Status(), [Event(_Exception("exception"), bounded({}), 1)], True),
        (Status(), [Event("exception", bounded({}), -1)], True),  # cannot be encoded, but says enough
        (Status(), [_Raising(), EXCEPTION], True),
        (Status(), [_Raising(), object(), Mock(), Event(None, bounded({}), 1)], False),  # type: ignore[arg-type]
    ],
)
def test_a_span_has_failed_by_its_status_or_an_exception(
    encoder: Encoder, status: Status | None, events: list[Any], failed: bool
) -> None:
    """It failed if it says so, or has an event of exactly that name; other events and other statuses mean nothing."""
    for like_sdk in (True, False):
        span = made_span(status=status, events=events, like_sdk=like_sdk)
        assert [record.failed for record in (encoder(span), encoder(span, 3), wrap_span(span))] == [failed] * 3
        assert wrap_span(span).span_id == CONTEXT.span_id


@every_encoder
def test_a_tracestate_is_handed_on_as_it_is(encoder: Encoder) -> None:
    """The spans of a trace carry one mapping, the one inside it or itself; an empty one is none; it is not changed."""
    state = TraceState([("ot", "th:8;rv:0123456789abcd"), ("vendor", "value")])
    batch = [made_span(context=SpanContext(5, number, False, trace_state=state)) for number in (1, 2, 3)]
    expected = state if encoder is encode_public else state._dict
    assert all(encoder(span).trace_state is expected for span in batch)
    assert all(wrap_span(span).trace_state is state for span in batch)
    assert all(encoder(span, 1).trace_state.get("ot") == "th:8;rv:0123456789abcd" for span in batch)  # type: ignore[union-attr]
    assert (message(encoder(batch[0])).trace_state, state.to_header()) == (state.to_header(),) * 2
    for none in (TraceState(), None):
        span = made_span(context=SpanContext(5, 6, False, trace_state=none))
        assert (encoder(span).trace_state, wrap_span(span).trace_state) == (None, None)


@every_encoder
def test_what_is_no_tracestate_is_none(encoder: Encoder) -> None:
    """A dict in its place is as good; what is no mapping is never handed on."""
    by_hand: Any = {"ot": "th:4"}
    span = made_span(context=SpanContext(5, 6, False, trace_state=by_hand))
    assert encoder(span).trace_state is wrap_span(span).trace_state is by_hand
    pairs: Any = Mock(items=lambda: [("ot", "th:4")])
    span = made_span(context=SpanContext(5, 6, False, trace_state=pairs))
    record = encoder(span)
    assert (message(record).trace_state, record.trace_state, wrap_span(span).trace_state) == ("ot=th:4", None, None)


class _Ended(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@every_encoder
def test_spans_of_the_sdk_arrive_whole(encoder: Encoder) -> None:
    """What the installed SDK hands to a processor, an exception's event included, is encoded as stock does."""
    provider, ended = TracerProvider(shutdown_on_exit=False), _Ended()
    provider.add_span_processor(ended)
    tracer = provider.get_tracer("a.library", "1.0", "https://schema.example", {"a": 1})
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        outer.set_attributes({"a": "b", "n": [1, 2], "f": 1.5})
        with tracer.start_as_current_span("inner", links=[Link(outer.get_span_context(), {"k": True})]) as inner:
            inner.record_exception(ZeroDivisionError("nothing"))
            inner.set_status(StatusCode.ERROR, "it failed")
    assert len(ended.spans) == 2
    assert canonical([encoder(span) for span in ended.spans]) == stock_canonical(ended.spans)


@every_encoder
def test_values_that_are_equal_in_python_stay_apart(encoder: Encoder) -> None:
    """1, True and 1.0 under one key, one after the other, are an int, a bool and a double."""
    for value in (1, True, 1.0, True, 1, 0, False, -0.0):
        span = made_span(attributes={"same": value})
        assert message(encoder(span)) == stock_message(span)


@every_encoder
def test_a_kind_or_a_status_that_is_none_is_left_out(encoder: Encoder) -> None:
    """A kind that is unknown is unspecified; a status of None is absent, as from stock."""
    record = encoder(made_span(kind=None, status=None))
    assert message(record).kind == 0
    assert not message(record).HasField("status")
    assert record.status == 0


@every_encoder
def test_what_is_no_kind_is_unspecified(encoder: Encoder) -> None:
    """A kind or a status code of another enum, with a value that OpenTelemetry has not, says nothing."""
    for strange in enum.Enum("Strange", {"nine": 9, "below": -1, "text": "client"}):
        status = Status()
        status._status_code = strange  # type: ignore[assignment]
        for span in (made_span(kind=strange), made_span(status=status)):
            record = encoder(span)
            assert (record.kind, record.status) == (0, 0)
            assert message(record).kind == (0 if span.kind is strange else 1)
            assert message(record).status.code == 0


@every_encoder
def test_threads_do_not_disturb_each_other(encoder: Encoder) -> None:
    """Eight threads that encode the same spans at once, caches cold, make the same bytes."""
    batch = [made_span(f"t{n}", attributes={f"t{n % 7}": f"v{n}", "n": n}, links=[Link(CONTEXT)]) for n in range(50)]
    expected = [stock_message(span) for span in batch]
    start, wrong = threading.Barrier(8), []

    def run() -> None:
        start.wait()
        for _ in range(5):
            wrong.extend(1 for span, right in zip(batch, expected, strict=True) if message(encoder(span)) != right)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _written(write: AttributeWriter, key: str, value: Any) -> bytes:
    parts: list[bytes] = []
    assert write({key: value}, parts) == 0
    return b"".join(parts)


def _writer_that_knows(key: str, *, strings: int = 0, sizes: int = 0, keys: int = 0) -> AttributeWriter:
    """A writer that has seen so many different values of a key, values of so many sizes, and so many other keys."""
    write = attribute_writer(b"\x4a")
    for number in range(strings):
        _written(write, key, f"{number}")
    for number in range(sizes):
        _written(write, f"other {number % 20}", "x" * (number // 20))
    for number in range(keys):
        _written(write, f"key {number}", 1)
    return write


EDGES: list[Any] = [
    *(1 << bits for bits in (0, 7, 14, 21, 28, 35, 62)),
    *((1 << bits) - 1 for bits in (7, 14, 21, 28, 35, 63)),
    *(-1, -(1 << 63), True, False, 1.0, -0.0, None, b"", b"raw", "", "1", "a\ud83d\udc22\ud83d", "é漢🐢"),
    *(text * length for length in (63, 64, 65, 100, 127, 128, 1023, 1024, 20_000) for text in ("x", "é", b"x")),
    *((1, "a", (2.5, None)), ["x" * 1024] * 20, {"k": "v", "": {}}),
]


@pytest.mark.parametrize(
    "write",
    [
        _writer_that_knows("key", strings=attributes.MAX_VALUES),
        _writer_that_knows("key", strings=attributes.MAX_MISSES),
        _writer_that_knows("key", sizes=attributes.MAX_HEADS),
        _writer_that_knows("key", keys=attributes.MAX_KEYS),
    ],
    ids=["full", "given up", "no room", "not kept"],
)
def test_what_is_known_of_a_key_changes_nothing(write: AttributeWriter) -> None:
    """Whatever came before, a key and a value are the same bytes, the first time and the second."""
    for _ in range(2):
        for value in EDGES:
            assert _written(write, "key", value) == _written(attribute_writer(b"\x4a"), "key", value)


@every_encoder
def test_values_at_the_edges_are_what_stock_makes_of_them(encoder: Encoder) -> None:
    """Where a length or a number needs one byte more, a receiver reads what stock would have sent."""
    for value in EDGES:
        if value != "a\ud83d\udc22\ud83d":  # stock does not take half a surrogate pair
            span = made_span(attributes={"key": value}, events=[Event("e", bounded({"key": value}), 1)])
            assert canonical([encoder(span)]) == stock_canonical([span])


def test_the_caches_are_bounded() -> None:
    """However many keys, values and names a program has, the caches hold few of them, and none that is long."""
    write = attribute_writer(b"\x4a")
    for number in range(attributes.MAX_KEYS * 2):
        given = {f"key {number}": f"value {number}", "one": number, "x" * 129: 1, "long": "x" * 65, "few": number % 9}
        assert write(given, []) == 0
    keys = inspect.getclosurevars(write).nonlocals["known_keys"]
    assert (len(keys), "x" * 129 in keys) == (attributes.MAX_KEYS, False)
    assert (keys["one"].chunks, keys["long"].chunks, len(keys["few"].chunks)) == (None, None, 9)
    write = attribute_writer(b"\x4a")
    for number in range(attributes.MAX_VALUES * 2):
        assert write({"one": number, "long": "x" * 65}, []) == 0
    keys = inspect.getclosurevars(write).nonlocals["known_keys"]
    assert (len(keys["one"].chunks), keys["long"].chunks) == (attributes.MAX_VALUES, {})
    for number in range(attributes.MAX_HEADS * 2):
        assert write({f"key {number % 20}": b"x" * (number // 20), "huge": b"x" * 2000}, []) == 0
    assert (sum(map(len, keys.values())), keys["huge"]) == (attributes.MAX_HEADS, {})
    for number in range(span_module.MAX_NAMES * 2):
        encode_slots(made_span(f"name {number}"))
    encode_slots(made_span("x" * 65))
    assert len(span_module._names) <= span_module.MAX_NAMES
    assert "x" * 65 not in span_module._names


@every_encoder
def test_scopes_that_come_and_go_are_not_mixed_up(encoder: Encoder) -> None:
    """A program that makes scopes and resources without end gets the right ones, and keeps few of them."""
    for number in range(groups.MAX_GROUPS * 3):
        scope = InstrumentationScope(f"scope {number}", None, f"https://schema.example/{number}")
        span = made_span(resource=Resource({"number": number}), instrumentation_scope=scope)
        assert canonical([encoder(span)]) == stock_canonical([span])
    assert (
        max(map(len, (groups._by_identity, groups._latest, groups._by_bytes, groups._by_content))) <= groups.MAX_GROUPS
    )


def test_a_scope_may_come_with_several_resources() -> None:
    """The resources that one scope came with, in whatever order, each have a group of their own."""
    resources = [Resource({"number": number}) for number in range(3)]
    batch = [made_span(f"{number}", resource=resources[number]) for number in (0, 0, 1, 0, 1, 2, 2, 0)]
    for encoder in (encode_slots, encode_public):
        found = [encoder(span).group for span in batch]
        assert all((found[0] is group) == (int(span.name) == 0) for span, group in zip(batch, found, strict=True))
        assert canonical([encoder(span) for span in batch]) == stock_canonical(batch)


def test_equal_resources_and_scopes_share_a_group() -> None:
    """The same content in another object, in another order, is the same group; other content is not."""
    first = made_span(resource=Resource({"a": 1, "b": "x"}), instrumentation_scope=InstrumentationScope("s"))
    second = made_span(resource=Resource({"b": "x", "a": 1}), instrumentation_scope=InstrumentationScope("s"))
    other = made_span(resource=Resource({"a": True, "b": "x"}), instrumentation_scope=InstrumentationScope("s"))
    swapped = made_span(resource=Resource({"a": "x", "b": 1}), instrumentation_scope=InstrumentationScope("s"))
    found = [encode_slots(span).group for span in (first, second, other, swapped)]
    assert found[0] is found[1]
    assert len(set(found)) == 3
    batch = [first, second, other]
    assert canonical([encode_slots(span) for span in batch]) == stock_canonical(batch)


def test_a_span_of_another_class_is_read_through_its_properties() -> None:
    """A subclass that says something else than its slots hold is believed."""

    class Renamed(ReadableSpan):
        @property
        def name(self) -> str:
            return "renamed"

    record = encode_slots(Renamed("work", CONTEXT))
    assert (record.name, message(record).name) == ("renamed", "renamed")


def test_what_lacks_the_slots_is_read_through_its_properties() -> None:
    """Where the SDK's insides are others than known, the span is encoded all the same."""
    span = made_span(attributes={"a": 1}, events=[Event("e", bounded({"b": 2}), 1)])
    expected = stock_message(span)
    span._events._dq = [*span._events._dq]
    assert message(encode_slots(span)) == expected
    span.__dict__["_status"] = Mock(status_code=StatusCode.UNSET, description=None)
    assert message(encode_slots(span)) == expected


def test_a_wrapped_span_needs_no_context() -> None:
    """Spans without a context, and things that are hardly spans, are wrapped with ids of 0."""
    record = wrap_span(ReadableSpan("work", context=None))
    assert (record.trace_id, record.span_id, record.parent_span_id, record.name) == (0, 0, 0, "work")
    for thing in (Mock(), MagicMock(), object(), None):
        record = wrap_span(thing)  # type: ignore[arg-type]
        assert (record.trace_id, record.span_id, record.parent_span_id, record.status) == (0, 0, 0, 0)
        assert (record.duration_ns, record.span) == (0, thing)
        assert type(record.name) is str


def test_a_wrapped_span_keeps_its_header_in_range() -> None:
    """Ids out of range are 0: whoever packs a header into bytes can rely on its sizes."""
    record = wrap_span(made_span(context=SpanContext(1 << 128, -1, False, TraceFlags(0x101), TraceState())))
    assert (record.trace_id, record.span_id, record.flags) == (0, 0, 0x101)


def test_a_large_batch_is_one_request() -> None:
    """Spans of several resources and scopes, put together, are what stock sends for the same batch."""
    resources = [Resource({"r": number}) for number in range(3)]
    scopes = [InstrumentationScope(f"s{number}") for number in range(2)]
    batch = [made_span(f"{n}", resource=resources[n % 3], instrumentation_scope=scopes[n // 3 % 2]) for n in range(200)]
    assert canonical([encode_slots(span) for span in batch]) == stock_canonical(batch)
    assert len(build_request([encode_slots(span) for span in batch])) == len(stock_canonical(batch))
