"""Cuts long attribute values, and copies of spans with such; the span that other processors see is never changed.

Owns nothing. Called by whoever encodes a span or hands one to an exporter. The rule: what is cut is never longer than
the limit, the ellipsis included; characters are counted as OpenTelemetry does, as code points, bytes as bytes. What is
short enough is given back as it is, not copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link

ELLIPSIS: Final = "…"
# The specification's default limit for values inside one another (common/README.md); what is deeper is not looked at.
_MAX_DEPTH: Final = 64
_WHOLE: Final = frozenset({bool, int, float, type(None)})

T = TypeVar("T")


def truncate_value(value: Any, limit: int) -> Any:
    """The attribute value with every string in it cut to ``limit`` characters, and every bytes value to as many bytes.

    A string that is cut ends in an ellipsis. Strings inside arrays and maps are cut too; keys are not. ``limit``: at
    least 0. The value itself is returned if nothing in it is too long.
    """
    return _cut(value, limit, _MAX_DEPTH)


def _cut(value: Any, limit: int, depth: int) -> Any:
    if type(value) in _WHOLE:
        return value
    if isinstance(value, str):
        return value if len(value) <= limit else (value[: limit - 1] + ELLIPSIS if limit > 0 else "")
    if isinstance(value, (bytes, bytearray)):
        return value if len(value) <= limit else value[:limit]
    if depth <= 0:
        return value
    if isinstance(value, Mapping):
        cut_map = {key: _cut(each, limit, depth - 1) for key, each in value.items()}
        return cut_map if any(cut_map[key] is not each for key, each in value.items()) else value
    if isinstance(value, Sequence):
        cut_array = tuple(_cut(each, limit, depth - 1) for each in value)
        return cut_array if any(new is not old for new, old in zip(cut_array, value, strict=True)) else value
    return value


def shortened(attributes: Mapping[Any, Any], limit: int) -> Mapping[Any, Any]:
    """The attributes with every value cut as ``truncate_value`` does; they themselves if nothing is too long."""
    for value in attributes.values():
        kind = type(value)
        if kind is str:
            if len(value) > limit:
                break
        elif kind not in _WHOLE and truncate_value(value, limit) is not value:
            break
    else:
        return attributes
    return {key: truncate_value(value, limit) for key, value in attributes.items()}


def truncated(span: ReadableSpan, limit: int) -> ReadableSpan:
    """A copy of the span whose attributes, and those of its events and links, are cut; the span if nothing is too long.

    ``limit``: characters, at least 0. The counts of what the span had to drop survive.
    """
    given, given_events, given_links = span.attributes, span.events, span.links
    attributes = truncate_value(given, limit)
    events = [_cut_event(event, limit) for event in given_events]
    links = [_cut_link(link, limit) for link in given_links]
    if attributes is given and _same(events, given_events) and _same(links, given_links):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_bounded_attributes(attributes, span.dropped_attributes),
        events=_bounded_list(events, span.dropped_events),
        links=_bounded_list(links, span.dropped_links),
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _cut_event(event: Event, limit: int) -> Event:
    attributes = truncate_value(event.attributes, limit)
    if attributes is event.attributes:
        return event
    return Event(event.name, _bounded_attributes(attributes, event.dropped_attributes), event.timestamp)


def _cut_link(link: Link, limit: int) -> Link:
    attributes = truncate_value(link.attributes, limit)
    if attributes is link.attributes:
        return link
    return Link(link.context, _bounded_attributes(attributes, link.dropped_attributes))


def _same(cut: Sequence[T], whole: Sequence[T]) -> bool:
    return all(new is old for new, old in zip(cut, whole, strict=True))


def _bounded_attributes(attributes: Mapping[str, Any] | None, dropped: int) -> BoundedAttributes:
    bounded = BoundedAttributes(attributes=attributes)
    bounded.dropped = dropped
    return bounded


def _bounded_list(items: Sequence[T], dropped: int) -> Sequence[T]:
    bounded: Any = BoundedList(None)
    bounded.extend(items)
    bounded.dropped = dropped
    return bounded  # type: ignore[no-any-return]
