"""A span object with another parent or threshold: all exporters see the change, and all the rest as it was."""

from __future__ import annotations

import copy
import io
import json

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_shed.pipeline.amended_span import AmendedSpan
from otel_shed.pipeline.store import Change

HALF = 1 << 55


def made_span(*states: tuple[str, str], has_parent: bool = True, is_remote: bool = True) -> ReadableSpan:
    """A span with something in each of its parts."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_span_attributes=2, max_events=1, max_links=1)
    provider = TracerProvider(span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = SpanContext(7, 8, is_remote, TraceFlags(1), TraceState(states))
    tracer = provider.get_tracer("scope", "1.0")
    with tracer.start_as_current_span(
        "work",
        context=set_span_in_context(NonRecordingSpan(parent)) if has_parent else None,
        attributes={"a": 1, "b": "two", "c": (3.0,)},
    ) as span:
        span.add_event("first")
        span.add_event("second", {"d": True})
        span.add_link(parent)
        span.add_link(parent, {"e": 5})
        span.set_status(Status(StatusCode.ERROR, "broke"))
    (made,) = exporter.get_finished_spans()
    return made


def test_all_but_the_change_is_as_it_was() -> None:
    """The encoder of the SDK's exporters finds the new parent and tracestate, and nothing else that is new."""
    span = made_span(("ot", "th:4;rv:ffffffffffffff"), ("vendor", "x"))
    before = encode_spans([span])
    after = encode_spans([AmendedSpan(span, Change(9, HALF))])
    assert encode_spans([span]) == before
    (wanted,) = before.resource_spans[0].scope_spans[0].spans
    assert (wanted.dropped_attributes_count, wanted.dropped_events_count, wanted.dropped_links_count) == (1, 1, 1)
    wanted.parent_span_id = (9).to_bytes(8, "big")
    wanted.trace_state = "ot=th:8;rv:ffffffffffffff,vendor=x"
    wanted.flags &= ~0x200  # the new parent is of this process
    assert after == before


def test_a_threshold_is_never_lowered() -> None:
    """One that is higher stays."""
    amended = AmendedSpan(made_span(("ot", "th:c")), Change(None, HALF))
    assert amended.context.trace_state.to_header() == "ot=th:c"


def test_without_a_parent_it_is_a_root() -> None:
    """The change to 0 takes the parent; a span that had none is given one of its own trace."""
    assert AmendedSpan(made_span(), Change(0, None)).parent is None
    adopted = AmendedSpan(made_span(has_parent=False), Change(9, None))
    assert adopted.parent is not None
    assert (adopted.parent.trace_id, adopted.parent.span_id) == (adopted.context.trace_id, 9)


def test_what_is_printed_has_the_change() -> None:
    """So with the console exporter, which asks the span for its JSON."""
    out = io.StringIO()
    span = made_span(("vendor", "x"))
    ConsoleSpanExporter(out=out).export([AmendedSpan(span, Change(9, HALF))])
    printed, original = json.loads(out.getvalue()), json.loads(span.to_json())
    assert printed["context"].pop("trace_state") == "['{key=ot, value=th:8}', '{key=vendor, value=x}']"
    assert original["context"].pop("trace_state") == "['{key=vendor, value=x}']"
    assert printed.pop("parent_id") == "0x0000000000000009"
    assert original.pop("parent_id") == "0x0000000000000008"
    assert printed == original


def test_what_a_wrapper_hides_stays_hidden() -> None:
    """A span whose public properties say something else than the SDK's fields is believed."""

    class Redacted(ReadableSpan):
        @property
        def attributes(self) -> dict[str, str]:
            return {"a": "redacted"}

    redacted = Redacted("work", made_span().context, attributes={"a": "secret"})
    amended = AmendedSpan(redacted, Change(None, HALF))
    assert dict(amended.attributes or {}) == {"a": "redacted"}
    assert "secret" not in amended.to_json()


def test_it_can_be_copied() -> None:
    """As exporters do that hand spans to others."""
    amended = AmendedSpan(made_span(), Change(9, HALF))
    assert copy.copy(amended).to_json() == amended.to_json()
