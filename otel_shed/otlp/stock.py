"""The last resort: the installed public encoder, a span at a time, for an SDK in which ours did not prove itself.

Owns nothing. Called as the encoder is. It is slow, and it logs an attribute that it cannot encode, as it always does.
"""

from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.interruption import is_applications
from otel_shed.otlp.encode import EncodeError, wrap_span
from otel_shed.otlp.groups import interned
from otel_shed.otlp.truncate import truncated
from otel_shed.otlp.wire import sized, sized_if_any
from otel_shed.record import SpanRecord


def encode_stock(span: ReadableSpan, limit: int | None = None) -> SpanRecord:
    """Take the messages of a request for this span alone apart; raises EncodeError and nothing else."""
    try:
        span = span if limit is None else truncated(span, limit)
        resource_spans = encode_spans([span]).resource_spans[0]
        scope_spans = resource_spans.scope_spans[0]
        message = scope_spans.spans[0]
        message.dropped_attributes_count += len(span.attributes or ()) - len(message.attributes)
        body = message.SerializeToString()
        group = interned(
            sized(b"\x0a", resource_spans.resource.SerializeToString())
            + sized_if_any(b"\x1a", resource_spans.schema_url.encode()),
            sized(b"\x0a", scope_spans.scope.SerializeToString())
            + sized_if_any(b"\x1a", scope_spans.schema_url.encode()),
        )
        header = wrap_span(span)
        return SpanRecord(
            header.trace_id,
            header.span_id,
            header.parent_span_id,
            header.flags,
            header.name,
            header.status,
            header.duration_ns,
            header.priority,
            len(body),
            group,
            body,
            None,
            header.kind,
            header.failed,
            header.trace_state,
        )
    except Exception as error:
        if is_applications(error):
            raise
        raise EncodeError(span, error) from error
