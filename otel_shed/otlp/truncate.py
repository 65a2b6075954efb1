"""Cuts long attribute values, and copies of spans with such; the span that other processors see is never changed.

Owns nothing. Called by whoever encodes a span or hands one to an exporter. The rule: what is cut is never longer than
the limit, the ellipsis included; characters are counted as OpenTelemetry does, as code points, bytes as bytes. What is
short enough is given back as it is, not copied. An attribute, event or link that cannot be read is lost alone, counted.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link

from otel_shed.interruption import is_applications
from otel_shed.otlp.attributes import snapshot
from otel_shed.otlp.values import MAX_ELEMENTS, UnencodableError

ELLIPSIS: Final = "…"
# The specification's default limit for values inside one another (common/README.md); what is deeper is not looked at.
_MAX_DEPTH: Final = 64
_WHOLE: Final = frozenset({bool, int, float, type(None)})

T = TypeVar("T")


def truncate_value(value: Any, limit: int) -> Any:
    """The attribute value with every string in it cut to ``limit`` characters, and every bytes value to as many bytes.

    A string that is cut ends in an ellipsis. Strings inside arrays and maps are cut too; keys are not. ``limit``: at
    least 0. The value itself is returned if nothing in it is too long. Raises what reading the value raises, and
    UnencodableError for one that contains itself or has more than MAX_ELEMENTS elements, which no encoder takes either.
    """
    return value if type(value) in _WHOLE else _cut(value, limit, _MAX_DEPTH, [MAX_ELEMENTS])


def _cut(value: Any, limit: int, depth: int, left: list[int], path: tuple[int, ...] = ()) -> Any:
    if type(value) in _WHOLE:
        return value
    if isinstance(value, str):
        return value if len(value) <= limit else (value[: limit - 1] + ELLIPSIS if limit > 0 else "")
    if isinstance(value, (bytes, bytearray)):
        return value if len(value) <= limit else value[:limit]
    if depth <= 0:
        return value
    if id(value) in path:
        raise UnencodableError
    path = (*path, id(value))
    if isinstance(value, Mapping):
        items = _taken(value.items(), left)
        cut_items = [(key, _cut(each, limit, depth - 1, left, path)) for key, each in items]
        is_cut = any(new is not old for (_, new), (_, old) in zip(cut_items, items, strict=True))
        return dict(cut_items) if is_cut else value
    if isinstance(value, Sequence):
        elements = _taken(value, left)
        cut_array = tuple([_cut(each, limit, depth - 1, left, path) for each in elements])
        return value if _same(cut_array, elements) else cut_array
    return value


def _taken(elements: Iterable[T], left: list[int]) -> list[T]:
    """The elements, read once; ``left``: how many more may be read of the whole value, which may be without end."""
    taken = list(islice(elements, left[0] + 1))
    left[0] -= len(taken)
    if left[0] < 0:
        raise UnencodableError
    return taken


def shortened(attributes: Mapping[Any, Any], limit: int) -> tuple[Mapping[Any, Any], int]:
    """The attributes with every value cut as ``truncate_value`` does; they themselves if nothing is too long.

    And how many of them are not there, because they raised when they were read.
    """
    try:
        for value in attributes.values():
            kind = type(value)
            if kind is str:
                if len(value) > limit:
                    break
            elif kind not in _WHOLE and truncate_value(value, limit) is not value:
                break
        else:
            return attributes, 0
    except Exception as error:
        if is_applications(error):
            raise
        # Which one it was is found out below.
    limit = operator.index(limit)  # a wrong one is not the attributes' fault
    cut, lost = {}, 0
    for key, value in attributes.items():
        try:
            cut[key] = truncate_value(value, limit)
        except Exception as error:
            if is_applications(error):
                raise
            lost += 1
    return cut, lost


def truncated(span: ReadableSpan, limit: int) -> ReadableSpan:
    """A copy of the span whose attributes, and those of its events and links, are cut; the span if nothing is too long.

    ``limit``: characters, at least 0. The counts of what the span had to drop survive, and what cannot be cut is added.
    """
    given, given_events, given_links = span.attributes, span.events, span.links
    attributes, lost = _cut_attributes(given, limit)
    events = _cut_each(given_events, limit, _cut_event)
    links = _cut_each(given_links, limit, _cut_link)
    if attributes is given and _same(events, given_events) and _same(links, given_links):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_bounded_attributes(attributes, span.dropped_attributes + lost),
        events=_bounded_list(events, span.dropped_events + len(given_events) - len(events)),
        links=_bounded_list(links, span.dropped_links + len(given_links) - len(links)),
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _cut_attributes(given: Mapping[str, Any] | None, limit: int) -> tuple[Mapping[str, Any] | None, int]:
    whole, unread = snapshot(given)
    cut, lost = shortened(whole, limit)
    return (given if cut is whole and not unread else cut), unread + lost


def _cut_each(items: Sequence[T], limit: int, cut: Callable[[T, int], T]) -> list[T]:
    """The events or the links, cut, without those that cannot be."""
    found = []
    for item in items:
        try:
            found.append(cut(item, limit))
        except Exception as error:
            if is_applications(error):
                raise
    return found


def _cut_event(event: Event, limit: int) -> Event:
    given = event.attributes
    attributes, lost = _cut_attributes(given, limit)
    if attributes is given:
        return event
    return Event(event.name, _bounded_attributes(attributes, event.dropped_attributes + lost), event.timestamp)


def _cut_link(link: Link, limit: int) -> Link:
    given = link.attributes
    attributes, lost = _cut_attributes(given, limit)
    if attributes is given:
        return link
    return Link(link.context, _bounded_attributes(attributes, link.dropped_attributes + lost))


def _same(cut: Sequence[T], whole: Sequence[T]) -> bool:
    return len(cut) == len(whole) and all(new is old for new, old in zip(cut, whole, strict=True))


def _bounded_attributes(attributes: Mapping[str, Any] | None, dropped: int) -> BoundedAttributes:
    bounded = BoundedAttributes(attributes=attributes)
    bounded.dropped = dropped
    return bounded


def _bounded_list(items: Sequence[T], dropped: int) -> Sequence[T]:
    bounded: Any = BoundedList(None)
    bounded.extend(items)
    bounded.dropped = dropped
    return bounded  # type: ignore[no-any-return]
