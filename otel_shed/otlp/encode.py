"""The encoder: from a span that ended to a record, read through the span's public properties.

Owns nothing. Called by every thread that ends a span, in the middle of others and of itself. The rule: a part that
cannot be read or encoded is dropped alone and counted in the span; EncodeError is the only Exception, for a span that
cannot be encoded at all, but for those of the application's signal handlers. slots.py is quicker, encode_compiled.py
the quickest; proof.py says which one is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otel_shed.interruption import is_applications
from otel_shed.otlp.attributes import Attributes, snapshot
from otel_shed.otlp.odd_parts import Odd, fault_of
from otel_shed.otlp.span import ERROR, EXCEPTION, build_record, name_on_wire
from otel_shed.otlp.wire import text
from otel_shed.record import HAS_IS_REMOTE, IS_REMOTE, LONGEST_LIMIT, Priority, SpanRecord


# The seam: everything downstream knows an encoder as this.
class Encoder(Protocol):
    """A span that ended into a record; ``limit``: characters of an attribute's value. Raises EncodeError only."""

    def __call__(self, span: ReadableSpan, limit: int | None = None, /) -> SpanRecord: ...


# By identity: members of an enum live for ever, and their hash is a call of Python.
_KIND_VALUES: Final = {id(kind): kind.value for kind in SpanKind}
_STATUS_VALUES: Final[dict[int, int]] = {id(code): code.value for code in StatusCode}
_EXCEPTION: Final = EXCEPTION.encode()
_UINT64: Final = (1 << 64) - 1
_UINT128: Final = (1 << 128) - 1


class EncodeError(Exception):
    """A span that cannot be encoded as a whole: it has no identity, no possible time, or breaks when it is read.

    As text it names the span and the part, which are looked for only then.
    """

    def __init__(self, span: Any = None, cause: Exception | None = None) -> None:
        super().__init__()
        self._span = span
        self._cause = cause

    def __str__(self) -> str:
        return fault_of(self._span, self._cause)


def encode_public(span: ReadableSpan, limit: int | None = None) -> SpanRecord:
    """Encode over the span's public properties; raises EncodeError and nothing else."""
    try:
        context = span.get_span_context()
        if context is None:
            raise EncodeError(span)
        parent = span.parent
        attributes, unread = snapshot(span.attributes)
        status = span.status
        return build_record(
            context.trace_id,
            context.span_id,
            context.trace_flags,
            context.trace_state,
            parent.span_id if parent else None,
            parent.is_remote if parent else None,
            span.name,
            _KIND_VALUES.get(id(span.kind)),
            span.start_time,
            span.end_time,
            attributes,
            span.dropped_attributes + unread,
            span.events,
            span.dropped_events,
            _read_event,
            span.links,
            span.dropped_links,
            _read_link,
            None if status is None else _status_code(status),
            None if status is None else status.description,
            span.resource,
            span.instrumentation_scope or None,
            Odd(span),
            limit,
        )
    except EncodeError:
        raise
    except Exception as error:
        if is_applications(error):
            raise
        raise EncodeError(span, error) from error


def _read_event(event: Any) -> tuple[Any, Any, Attributes, int]:
    attributes, unread = snapshot(event.attributes)
    return event.name, event.timestamp, attributes, _dropped(getattr(event, "dropped_attributes", 0)) + unread


def _read_link(link: Any) -> tuple[Any, Any, Any, Attributes, int]:
    context = link.context
    attributes, unread = snapshot(link.attributes)
    dropped = _dropped(getattr(link, "dropped_attributes", 0)) + unread
    return context.trace_id, context.span_id, context.is_remote, attributes, dropped


def _dropped(count: Any) -> int:
    return count if isinstance(count, int) else 0


def wrap_span(span: ReadableSpan, limit: int | None = None) -> SpanRecord:
    """A record that carries the span itself, for exporters that want objects; never raises an Exception.

    It is cut when it is exported: that costs tens of microseconds, and most spans are shed by then.
    What the span does not say, or says in no usable way, is 0 or empty: upstream's own tests feed such spans.
    """
    try:
        context, parent, status, name = span.get_span_context(), span.parent, span.status, span.name
        trace_id, span_id, flags = (context.trace_id, context.span_id, context.trace_flags) if context else (0, 0, 0)
        parent_id, is_remote = (parent.span_id, parent.is_remote) if parent else (0, False)
        start, end = span.start_time, span.end_time
        code = _STATUS_VALUES.get(id(status.status_code), 0) if status else 0
        record = SpanRecord(
            _number(trace_id, _UINT128),
            _number(span_id, _UINT64),
            _number(parent_id, _UINT64),
            _number(flags, _UINT64) & 0xFF | (HAS_IS_REMOTE | IS_REMOTE if is_remote is True else HAS_IS_REMOTE),
            name_on_wire(name),
            code,
            _number(end - start, _UINT64) if type(start) is int and type(end) is int and end > start > 0 else 0,
            Priority.NORMAL,
            0,
            None,
            None,
            span,
            _KIND_VALUES.get(id(span.kind), 0),
            code == ERROR or _has_exception(span),
            _trace_state(context),
        )
        record.limit = limit if limit is None or limit < LONGEST_LIMIT else None
        return record
    except Exception as error:
        if is_applications(error):
            raise
        return SpanRecord(0, 0, 0, HAS_IS_REMOTE, "", 0, 0, Priority.NORMAL, 0, None, None, span)


def _number(value: Any, bits: int) -> int:
    return value if isinstance(value, int) and not value & ~bits else 0


def _has_exception(span: ReadableSpan) -> bool:
    """Whether one of the span's events is an exception; what cannot be read is none."""
    try:
        events = tuple(span.events)
    except Exception as error:
        if is_applications(error):
            raise
        return False
    for event in events:
        try:
            if text(event.name) == _EXCEPTION:
                return True
        except Exception as error:
            if is_applications(error):
                raise
    return False


def _trace_state(context: Any) -> Mapping[str, str] | None:
    """The context's tracestate itself, if it is a mapping with anything in it."""
    try:
        state = context.trace_state
        return state if isinstance(state, Mapping) and state else None
    except Exception as error:
        if is_applications(error):
            raise
        return None


def _status_code(status: Any) -> int:
    return _STATUS_VALUES.get(id(getattr(status, "status_code", None)), 0)
