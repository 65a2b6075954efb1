"""The compiled encoder, put together from its C and from what of this package takes the spans that are not as usual.

Owns the one encoder and, inside it, a bounded memory of groups. Called as the encoder is. The rule: what it is handed
that is not exactly of the SDK's own types, and every Exception, is left to the public path; proof.py decides at import
whether it is used at all. Keys and values are not remembered: to write them again is cheaper than to look them up.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.status import Status

from otel_shed.compiled import extension
from otel_shed.otlp.attributes import key_bytes
from otel_shed.otlp.encode import encode_public, wrap_span
from otel_shed.otlp.groups import group_of
from otel_shed.otlp.slots import attributes_in_slots
from otel_shed.otlp.span import name_on_wire
from otel_shed.otlp.truncate import shortened
from otel_shed.otlp.values import any_value
from otel_shed.record import Priority, SpanRecord


def compiled_encoder(careful: Any = encode_public, careful_wrap: Any = wrap_span) -> Any:
    """An encoder, its methods ``encode``, ``wrap`` and ``attributes``, or None without the compiled parts.

    ``careful``: the encoder for what this one does not take; ``careful_wrap``: the same for ``wrap``.
    """
    # Where the plain record is used, because the compiled one is of another version, so is the plain encoder.
    if extension is None or extension.SpanRecord is not SpanRecord:
        return None
    return extension.Encoder(
        readable_span=ReadableSpan,
        span_context=SpanContext,
        trace_flags=TraceFlags,
        trace_state=TraceState,
        status=Status,
        bounded_attributes=BoundedAttributes,
        bounded_list=BoundedList,
        event=Event,
        link=Link,
        kinds=tuple(SpanKind(value) for value in range(len(SpanKind))),
        status_codes=tuple(StatusCode(value) for value in range(len(StatusCode))),
        priority=Priority.NORMAL,
        careful=careful,
        wrap=careful_wrap,
        group=group_of,
        name=name_on_wire,
        key=key_bytes,
        any_value=any_value,
        shortened=shortened,
        attributes=attributes_in_slots,
        # It learns of these where their types keep their attributes.
        samples=(ReadableSpan("sample"), BoundedAttributes(), BoundedList(1), Status(), TraceState()),
    )


encoder = compiled_encoder()
# None without the compiled parts: built-in methods, so that a call costs nothing more.
encode_compiled: Any = encoder and encoder.encode
wrap_compiled: Any = encoder and encoder.wrap
attributes_compiled: Any = encoder and encoder.attributes
