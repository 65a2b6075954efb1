"""Spans for the encoder's tests: by hand, and every span that Hypothesis can think of."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_shed.otlp.request import build_request
from otel_shed.record import SpanRecord

RESOURCE = Resource({"service.name": "shop"})
SCOPE = InstrumentationScope("shop.web", "1.0")
CONTEXT = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def made_span(name: Any = "work", *, like_sdk: bool = True, **fields: Any) -> ReadableSpan:
    """A span whose attributes, events and links are in the SDK's own containers, or as they are given."""
    given: dict[str, Any] = {
        "context": CONTEXT,
        "resource": RESOURCE,
        "instrumentation_scope": SCOPE,
        "start_time": 1_000,
        "end_time": 3_000,
        "attributes": {},
        "events": (),
        "links": (),
    } | fields
    if like_sdk:
        given["attributes"] = bounded(given["attributes"])
        given["events"] = BoundedList.from_seq(None, given["events"])
        given["links"] = BoundedList.from_seq(None, given["links"])
    return ReadableSpan(name, **given)


def bounded(values: Any) -> BoundedAttributes:
    """The SDK's container with these values put in as they are, past all that it would clean."""
    attributes = BoundedAttributes(immutable=True)
    attributes._dict = values
    return attributes


def message(record: SpanRecord) -> trace_pb2.Span:
    """What a receiver reads in a record's bytes."""
    assert record.body is not None
    assert record.length == len(record.body)
    return trace_pb2.Span.FromString(record.body)


def stock_message(span: ReadableSpan) -> trace_pb2.Span:
    """What the installed encoder makes of a span."""
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]


def canonical(records: Sequence[SpanRecord]) -> bytes:
    """The request of these records as protobuf itself writes it: comparable, NaN included."""
    return ExportTraceServiceRequest.FromString(build_request(records)).SerializeToString()


def stock_canonical(spans: Sequence[ReadableSpan]) -> bytes:
    return encode_spans(spans).SerializeToString()


texts = st.text(max_size=12) | st.text(alphabet="aé漢🐢", min_size=60, max_size=150) | st.sampled_from(["", "GET", "1"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-1, 20_000)
    | st.floats()
    | texts
    | st.binary(max_size=150)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)
mappings = st.dictionaries(texts.filter(bool), values, max_size=6)
limits = st.none() | st.integers(0, 5)
times = st.integers(0, (1 << 64) - 1) | st.integers(1_700_000_000 * 10**9, 1_800_000_000 * 10**9)
states = st.sampled_from([TraceState(), TraceState([("ot", "th:8")]), TraceState([("a", "1"), ("b@c", "x y/z")])])
contexts = st.builds(
    SpanContext,
    st.integers(0, (1 << 128) - 1),
    st.integers(0, (1 << 64) - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    states,
)
statuses = st.builds(Status, st.sampled_from(StatusCode)) | texts.map(lambda text: Status(StatusCode.ERROR, text))


@st.composite
def attributes(draw: st.DrawFn, *, like_sdk: bool) -> Any:
    """Attributes as the SDK keeps them, after its limits; or as one who makes spans by hand might pass them."""
    found = draw(mappings)
    if like_sdk:
        return BoundedAttributes(draw(limits), found, max_value_len=draw(st.none() | st.integers(0, 8)))
    return draw(st.sampled_from([found, MappingProxyType(found), found or None]))


@st.composite
def spans(draw: st.DrawFn) -> ReadableSpan:
    """Any span that the stock encoder takes."""
    like_sdk = draw(st.booleans())
    events = draw(st.lists(st.builds(Event, texts, attributes(like_sdk=like_sdk), times), max_size=3))
    links = draw(st.lists(st.builds(Link, contexts, attributes(like_sdk=like_sdk)), max_size=3))
    return ReadableSpan(
        draw(texts),
        draw(contexts),
        draw(st.none() | contexts),
        draw(st.sampled_from([RESOURCE, Resource({}), Resource({"a": [1, "x"]}, "https://schema.example")])),
        draw(attributes(like_sdk=like_sdk)),
        BoundedList.from_seq(draw(st.sampled_from([None, 2])), events) if like_sdk else tuple(events),
        BoundedList.from_seq(draw(st.sampled_from([None, 2])), links) if like_sdk else links,
        draw(st.sampled_from(SpanKind)),
        status=draw(statuses),
        start_time=draw(st.none() | times),
        end_time=draw(st.none() | times),
        instrumentation_scope=draw(
            st.sampled_from([None, SCOPE, InstrumentationScope("s", None, "https://schema.example", {"k": (True, 1)})])
        ),
    )
