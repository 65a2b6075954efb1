"""What is wrong with a span that cannot be encoded, or not whole, in words: which span, which part, of what type.

Owns when the last line about a part that was left out was written. Called by threads that end such a span, whose own
code it may run again, and only where a line is written. The rule: no value of an attribute is told, which may be a
secret, and nothing here raises an Exception.
"""

from __future__ import annotations

import logging
import operator
import struct
from collections.abc import Callable
from typing import Any, Final

from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.attributes import key_bytes, snapshot
from otel_shed.otlp.groups import group_of
from otel_shed.otlp.values import any_value
from otel_shed.otlp.wire import text

_log = LogLimit(logging.getLogger("otel_shed"))

_LONGEST: Final = 60
_time: Final = struct.Struct("<Q").pack

# A part: its name, how it is read, and what raises unless it can be encoded.
_Part = tuple[str, Callable[[], Any], Callable[[Any], object]]


def fault_of(span: Any, error: BaseException | None = None) -> str:
    """Why this span cannot be encoded; where that is not found again, what the error says of itself."""
    return f"{_span(span)}: {_fault(_span_parts(span)) or _kind(error)}"


class Odd:
    """Hears what of one span is left out, and writes a line about it, at most one a minute."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def attribute(self, attributes: Any) -> None:
        """One of these attributes at least."""
        _log.warning("attribute", "%s goes out without an attribute%s", *self._told(lambda: _attribute(attributes)))

    def event(self, event: Any) -> None:
        _log.warning("event", "%s goes out without an event%s", *self._told(lambda: _fault(_event_parts(event))))

    def link(self, link: Any) -> None:
        _log.warning("link", "%s goes out without a link%s", *self._told(lambda: _fault(_link_parts(link))))

    def _told(self, why: Callable[[], str]) -> tuple[_Lazily, _Lazily]:
        return _Lazily(lambda: _span(self._span)), _Lazily(lambda: f": {found}" if (found := why()) else "")


class _Lazily:
    """Text that is made if the line is written."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


def _span(span: Any) -> str:
    """The span's name and ids, as far as they can be read."""
    try:
        named = f"the span {_shown(text(span.name).decode())}"
    except Exception as error:
        if is_applications(error):
            raise
        named = "a span whose name cannot be read"
    try:
        context = span.get_span_context()
        return f"{named} (trace {context.trace_id:032x}, span {context.span_id:016x})"
    except Exception as error:
        if is_applications(error):
            raise
        return named


def _fault(parts: list[_Part]) -> str:
    """What is wrong with the first part that cannot be read or encoded; "" if there is none."""
    for name, read, encode in parts:
        try:
            value = read()
        except Exception as error:
            if is_applications(error):
                raise
            return f"its {name} cannot be read ({_kind(error)})"
        try:
            encode(value)
        except Exception as error:
            if is_applications(error):
                raise
            return f"its {name} is {_of_type(value)}"
    return ""


def _attribute(attributes: Any) -> str:
    for key, value in snapshot(attributes)[0].items():
        try:
            key_bytes(key)
        except Exception as error:
            if is_applications(error):
                raise
            return f"its key is {_of_type(key)}"
        try:
            any_value(value)
        except Exception as error:
            if is_applications(error):
                raise
            return f"{_shown(key)}, a value of type {type(value).__name__}"
    return ""


def _span_parts(span: Any) -> list[_Part]:
    def status(value: Any) -> None:
        if value is not None:
            text(value.description)

    return [
        *_context_parts(lambda: span.get_span_context()),  # noqa: PLW0108 (where there is no such method)
        ("parent's span_id", lambda: span.parent.span_id if span.parent else 0, _span_id),
        ("name", lambda: span.name, text),
        ("start_time", lambda: span.start_time, _instant),
        ("end_time", lambda: span.end_time, _instant),
        ("attributes", lambda: span.attributes, snapshot),
        ("dropped attributes", lambda: span.dropped_attributes, operator.index),
        ("events", lambda: span.events, iter),
        ("dropped events", lambda: span.dropped_events, operator.index),
        ("links", lambda: span.links, iter),
        ("dropped links", lambda: span.dropped_links, operator.index),
        ("status", lambda: span.status, status),
        ("resource", lambda: span.resource, lambda resource: group_of(resource, None)),
        ("scope", lambda: span.instrumentation_scope, lambda scope: group_of(None, scope or None)),
    ]


def _event_parts(event: Any) -> list[_Part]:
    return [
        ("name", lambda: event.name, text),
        ("timestamp", lambda: event.timestamp, _instant),
        ("attributes", lambda: event.attributes, snapshot),
    ]


def _link_parts(link: Any) -> list[_Part]:
    return [
        *_context_parts(lambda: link.context),
        ("attributes", lambda: link.attributes, snapshot),
    ]


def _context_parts(read: Callable[[], Any]) -> list[_Part]:
    return [
        ("context", read, _present),
        ("trace_id", lambda: read().trace_id, lambda number: operator.index(number).to_bytes(16, "big")),
        ("span_id", lambda: read().span_id, _span_id),
    ]


def _present(value: Any) -> None:
    if value is None:
        raise ValueError


def _span_id(number: Any) -> bytes:
    return operator.index(number).to_bytes(8, "big")


def _instant(value: Any) -> bytes:
    """As the encoder has it: none, a float or a number of nanoseconds."""
    return _time(0 if value is None else int(value) if isinstance(value, float) else operator.index(value))


def _of_type(value: Any) -> str:
    """The type, and the value where it is a short one."""
    kind = type(value).__name__
    if value is None:
        return "missing"
    return f"{_shown(value)} ({kind})" if type(value) in (int, float, str, bool) else f"of type {kind}"


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
    except Exception as error:
        if is_applications(error):
            raise
        return "?"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _kind(error: BaseException | None) -> str:
    return "unknown" if error is None else type(error).__name__
