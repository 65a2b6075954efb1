"""Truncation: never longer than the limit, inside arrays and maps too, counts survive, the original is untouched."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_shed.otlp.encode import Encoder, encode_public, wrap_span
from otel_shed.otlp.stock import encode_stock
from otel_shed.otlp.truncate import ELLIPSIS, shortened, truncate_value, truncated
from otel_shed.otlp.values import UnencodableError
from tests.otlp.encoders import ENCODERS
from tests.otlp.made_spans import CONTEXT, bounded, canonical, made_span, message

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.binary(max_size=12)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


def check(cut: Any, whole: Any, limit: int) -> None:
    """What is cut is what was, but for strings and bytes that were too long."""
    if isinstance(whole, str):
        assert len(cut) <= limit
        if len(whole) <= limit:
            assert cut == whole
        elif limit:
            assert cut == whole[: limit - 1] + ELLIPSIS
            assert len(cut) == limit
    elif isinstance(whole, bytes):
        assert cut == whole[:limit]
    elif isinstance(whole, Mapping):
        assert list(cut) == list(whole)
        for key, value in whole.items():
            check(cut[key], value, limit)
    elif isinstance(whole, tuple):
        assert len(cut) == len(whole)
        for new, old in zip(cut, whole, strict=True):
            check(new, old, limit)
    else:
        assert cut is whole


@given(VALUES, st.integers(0, 10))
@settings(deadline=None)
def test_no_string_is_longer_than_the_limit(value: Any, limit: int) -> None:
    """Every string is cut to limit-1 characters and an ellipsis, bytes without one; nothing else changes."""
    check(truncate_value(value, limit), value, limit)


@given(VALUES)
@settings(deadline=None)
def test_what_is_short_enough_is_not_copied(value: Any) -> None:
    """The very object comes back if nothing in it is too long."""
    assert truncate_value(value, 1000) is value


@pytest.mark.parametrize(
    ("value", "limit", "cut"),
    [
        ("0123456789", 10, "0123456789"),
        ("0123456789", 9, "01234567…"),
        ("0123456789", 1, "…"),
        ("0123456789", 0, ""),
        ("🙂🙂🙂🙂🙂", 3, "🙂🙂…"),
        ("a" * 254 + "éé", 255, "a" * 254 + "…"),
        (b"0123456789", 4, b"0123"),
        (("long enough", 7, None, "ok"), 4, ("lon…", 7, None, "ok")),
        (
            {"a long key": "a long value", "n": {"in": ["deeper", 1.5]}},
            4,
            {"a long key": "a l…", "n": {"in": ("dee…", 1.5)}},
        ),
        (True, 0, True),
        (123456, 2, 123456),
    ],
)
def test_cut(value: Any, limit: int, cut: Any) -> None:
    """Parity L12: characters as OpenTelemetry counts them, the ellipsis within the limit; numbers and keys stay."""
    assert truncate_value(value, limit) == cut


def test_values_that_nest_without_end() -> None:
    """A value deeper than anyone sends ends all the same; one that contains itself, or has too many parts, raises."""
    deep: Any = "long enough to cut"
    deeper: Any = deep
    for _ in range(5000):
        deep, deeper = (deep,), {"in": deeper}
    truncate_value((deep, deeper), 4)
    endless: list[Any] = ["long enough to cut"]
    endless.append(endless)
    shared: list[Any] = ["x"]
    for _ in range(30):
        shared = [shared, shared]
    for value in (endless, {"in": (endless,)}, shared):
        with pytest.raises(UnencodableError):
            truncate_value(value, 4)


def whole_span() -> ReadableSpan:
    """A span of the SDK's with something of everything, that had to drop of everything."""
    limits = SpanLimits(max_span_attributes=3, max_events=2, max_links=2, max_event_attributes=1, max_link_attributes=1)
    provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
    other = SpanContext(7, 8, True, TraceFlags(1), TraceState([("ot", "th:8")]))
    many = {f"attribute-{number}": f"value {number} is long" for number in range(5)}
    span = provider.get_tracer("scope", "1.0", attributes={"scope": "attribute"}).start_span(
        "a name that is not cut, however long",
        kind=SpanKind.SERVER,
        attributes=many,
        links=[Link(other, many) for _ in range(3)],
    )
    for number in range(4):
        span.add_event(f"event-{number}", many)
    span.set_status(Status(StatusCode.ERROR, "a description that is no attribute"))
    span.end()
    return span._readable_span()  # type: ignore[attr-defined,no-any-return]


def test_a_copy_is_cut_and_nothing_else() -> None:
    """Attributes of the span, its events and its links are cut; all else, the dropped counts too, is the same."""
    span = whole_span()
    before = encode_spans([span]).SerializeToString()
    copy = truncated(span, 8)
    assert copy is not span
    assert encode_spans([span]).SerializeToString() == before
    expected = encode_spans([span])
    (encoded,) = expected.resource_spans[0].scope_spans[0].spans
    owners: list[Any] = [encoded, *encoded.events, *encoded.links]
    for owner in owners:
        for attribute in owner.attributes:
            attribute.value.string_value = attribute.value.string_value[:7] + ELLIPSIS
    assert encode_spans([copy]) == expected
    assert (copy.dropped_attributes, copy.dropped_events, copy.dropped_links) == (2, 2, 1)
    assert [event.dropped_attributes for event in copy.events] == [4, 4]
    assert [link.dropped_attributes for link in copy.links] == [4, 4]


def test_a_span_that_is_short_enough_is_itself() -> None:
    """No copy is made where nothing is too long."""
    span = whole_span()
    assert truncated(span, 100) is span


def test_one_long_event_is_enough() -> None:
    """A span with one long value in one event is copied; the other events are the same objects."""
    short, long = Event("short", {"a": "b"}, 5), Event("long", BoundedAttributes(attributes={"stack": "x" * 50}), 6)
    span = ReadableSpan("work", SpanContext(1, 2, False), events=[short, long], attributes={"kept": "as it is"})
    copy = truncated(span, 10)
    assert copy.events[0] is short
    assert (copy.events[1].name, copy.events[1].timestamp) == ("long", 6)
    assert dict(copy.events[1].attributes or {}) == {"stack": "x" * 9 + ELLIPSIS}
    assert dict(span.events[1].attributes or {}) == {"stack": "x" * 50}
    assert dict(copy.attributes or {}) == {"kept": "as it is"}


def test_spans_without_anything() -> None:
    """A span without attributes, events, links or context is itself."""
    span = ReadableSpan("bare")
    assert truncated(span, 0) is span
    bare_event = ReadableSpan("bare", events=[Event("e", None, 1)], attributes={"long": "value"})
    assert dict(truncated(bare_event, 2).attributes or {}) == {"long": "v…"}


class _Unreadable(Sequence[int]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        raise ValueError("broken")


class _Endless(_Unreadable):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


@pytest.mark.parametrize("limit", [3, 100])
@pytest.mark.parametrize("make", [_Unreadable, _Endless, lambda: {"in": [_Unreadable()]}])
def test_what_cannot_be_cut_is_left_out_of_the_copy_and_counted(make: Callable[[], Any], limit: int) -> None:
    """An attribute that raises or never ends costs itself, in the span, its events and its links; the rest is kept."""
    values = {"good": "value", "bad": make()}
    events, links = [Event("event", bounded(values), 5)], [Link(CONTEXT, bounded(values))]
    span = made_span(attributes=values, events=events, links=links)
    span._attributes.dropped = 2
    copy = truncated(span, limit)
    assert (copy.dropped_attributes, copy.events[0].dropped_attributes, copy.links[0].dropped_attributes) == (3, 1, 1)
    for owner in (copy, copy.events[0], copy.links[0]):
        assert dict(owner.attributes or {}) == {"good": "va…" if limit == 3 else "value"}
    assert list(span.attributes or {}) == ["good", "bad"]
    record = wrap_span(span, limit)
    assert (record.span_id, record.span, record.limit) == (CONTEXT.span_id, span, limit)
    assert message(encode_stock(span, limit)) == message(encode_public(span, limit))


def test_an_event_or_link_that_cannot_be_cut_is_left_out_of_the_copy_and_counted() -> None:
    """What has no attributes to be read costs itself; the others, and the counts, are there."""
    broken: Any = object()
    good = Event("good", bounded({"a": "long enough"}), 1)
    span = made_span(events=[broken, good], links=[Link(CONTEXT, bounded({})), broken])
    span._events.dropped = 5
    copy = truncated(span, 4)
    assert ([event.name for event in copy.events], len(copy.links)) == (["good"], 1)
    assert (copy.dropped_events, copy.dropped_links) == (6, 1)


def test_a_limit_that_is_no_number_is_no_fault_of_the_attributes() -> None:
    """It raises, and costs no attribute unseen."""
    wrong: Any = "3"
    with pytest.raises(TypeError):
        shortened({"a": "long"}, wrong)


@pytest.mark.parametrize("encoder", [*ENCODERS.values(), encode_stock], ids=[*ENCODERS, "stock"])
def test_the_encoders_cut_as_the_copy_does(encoder: Encoder) -> None:
    """A span that is encoded with a limit is, on the wire, the truncated copy; without one it is whole."""
    values = {"long": "x" * 20, "short": "y", "number": 7, "list": ["z" * 20, "ok"], "bytes": b"b" * 20, "none": ""}
    span = made_span(
        attributes=values,
        events=[Event("event", BoundedAttributes(attributes=values), 5)],
        links=[Link(CONTEXT, BoundedAttributes(attributes=values))],
    )
    assert canonical([encoder(span, 10)]) == canonical([encode_public(truncated(span, 10))])
    assert canonical([encoder(span, 10)]) != canonical([encoder(span)])
    assert canonical([encoder(span, 20)]) == canonical([encoder(span)])
    assert span.attributes is not None
    assert span.attributes["long"] == "x" * 20
