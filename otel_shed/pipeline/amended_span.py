"""A span object with another parent or threshold, for exporters that want objects; the one that ended stays as it is.

Made by the worker thread. The rule: all but the context and the parent is what the span that ended says.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_shed.control.threshold import read_ot, with_threshold
from otel_shed.pipeline.store import Change


class AmendedSpan(ReadableSpan):
    """``span`` with a change."""

    def __init__(self, span: ReadableSpan, change: Change) -> None:
        context, parent = span.context, span.parent
        super().__init__(
            name=span.name,
            context=context if change.threshold is None or context is None else _raised(context, change.threshold),
            parent=parent if change.parent_span_id is None else _adopted(span, change.parent_span_id),
            resource=span.resource,
            attributes=span.attributes,
            events=span.events,
            links=span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._dropped = span.dropped_attributes, span.dropped_events, span.dropped_links

    @property
    def dropped_attributes(self) -> int:
        return self._dropped[0]

    @property
    def dropped_events(self) -> int:
        return self._dropped[1]

    @property
    def dropped_links(self) -> int:
        return self._dropped[2]


def _raised(context: SpanContext, threshold: int) -> SpanContext:
    entry = read_ot(context.trace_state)
    state = with_threshold(context.trace_state, entry, max(threshold, entry.threshold or 0))
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, state)


def _adopted(span: ReadableSpan, span_id: int) -> SpanContext | None:
    own = span.parent or span.context
    if not span_id or own is None:
        return None
    return SpanContext(own.trace_id, span_id, False, own.trace_flags, own.trace_state)
