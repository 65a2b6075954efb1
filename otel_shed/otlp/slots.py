"""The quick way to read a span of the SDK: the private slots behind its public properties, which cost a call each.

Owns nothing. Called as the encoder is. The rule: what is read here is of exactly the SDK's own types; everything else,
and every exception, is left to the public path. proof.py decides at import whether this module is used at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, TraceState
from opentelemetry.trace.status import Status

from otel_shed.interruption import is_applications
from otel_shed.otlp.attributes import Attributes
from otel_shed.otlp.encode import encode_public
from otel_shed.otlp.span import build_record
from otel_shed.record import SpanRecord


def encode_slots(span: Any, limit: int | None = None) -> SpanRecord:
    """Encode over the SDK's private slots, or else over public properties; raises EncodeError and nothing else."""
    try:
        context, parent, status = span._context, span._parent, span._status
        attributes, events, links = span._attributes, span._events, span._links
        if (
            type(span) is ReadableSpan
            and type(context) is SpanContext
            and (parent is None or type(parent) is SpanContext)
            and type(status) is Status
            and type(attributes) is BoundedAttributes
            and type(events) is BoundedList
            and type(links) is BoundedList
        ):
            trace_id, span_id, _, trace_flags, trace_state, _ = context
            return build_record(
                trace_id,
                span_id,
                trace_flags,
                trace_state._dict if type(trace_state) is TraceState else trace_state,
                None if parent is None else parent[1],
                None if parent is None else parent[2],
                span._name,
                span._kind._value_,
                span._start_time,
                span._end_time,
                attributes._dict,
                attributes.dropped,
                events._dq,  # type: ignore[attr-defined]
                events.dropped,
                _read_event,
                links._dq,  # type: ignore[attr-defined]
                links.dropped,
                _read_link,
                status._status_code._value_,
                status._description,
                span._resource,
                span._instrumentation_scope,
                None,
                limit,
            )
    except Exception as error:
        if is_applications(error):
            raise
    return encode_public(span, limit)


def _read_event(event: Any) -> tuple[Any, Any, Attributes, int]:
    attributes = event._attributes
    if type(event) is not Event or type(attributes) is not BoundedAttributes:
        raise TypeError
    return event._name, event._timestamp, attributes._dict, attributes.dropped


def _read_link(link: Any) -> tuple[Any, Any, Any, Attributes, int]:
    context, attributes = link._context, link._attributes
    if type(link) is not Link or type(context) is not SpanContext or type(attributes) is not BoundedAttributes:
        raise TypeError
    return context[0], context[1], context[2], attributes._dict, attributes.dropped


def attributes_in_slots(span: Any) -> Mapping[str, Any]:
    """The span's attributes, to look at and not to keep: the dict inside where there is one, else the public view."""
    if type(span) is ReadableSpan and type(attributes := span._attributes) is BoundedAttributes:
        return attributes._dict
    return span.attributes or {}
