"""A span on the wire: opentelemetry/proto/trace/v1/trace.proto, and the record of it.

Owns the caches of encoded names. Called by every thread that ends a span, without a lock, in the middle of others and
of itself: each call builds its own list of parts. The rule: what is written equals, parsed, what the stock encoder
makes of the same span (proof.py sees to it).
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from otel_shed.interruption import is_applications
from otel_shed.otlp.attributes import Attributes, attribute_writer
from otel_shed.otlp.groups import group_of
from otel_shed.otlp.odd_parts import Odd
from otel_shed.otlp.truncate import shortened
from otel_shed.otlp.values import UnencodableError
from otel_shed.otlp.wire import TABLE, heads_of, sized, sized_if_any, text, utf8, varint
from otel_shed.record import HAS_IS_REMOTE, IS_REMOTE, Priority, SpanRecord

# name, timestamp, attributes, dropped attributes
EventReader = Callable[[Any], tuple[Any, Any, Attributes, int]]
# trace id, span id, whether it is remote, attributes, dropped attributes
LinkReader = Callable[[Any], tuple[Any, Any, Any, Attributes, int]]

MAX_NAMES: Final = 1024
MAX_CACHED_NAME: Final = 64

_REMOTE: Final = HAS_IS_REMOTE | IS_REMOTE
# An enum member is not cheap to look up in its class.
_NORMAL: Final = Priority.NORMAL
# The value of StatusCode.ERROR, and what OpenTelemetry calls the event of an exception.
ERROR: Final = 2
EXCEPTION: Final = "exception"

_ids: Final = struct.Struct(">H16sHQ").pack
_ids_and_parent: Final = struct.Struct(">H16sHQHQ").pack
_kind_times_and_flags: Final = struct.Struct("<BBBQBQHI").pack
_times_and_flags: Final = struct.Struct("<BQBQHI").pack
_time: Final = struct.Struct("<BQ").pack
# By the values of SpanKind and of StatusCode. On the wire a kind is one more. A status that is unset is written all the
# same, empty; none is not.
_KINDS: Final = {kind: kind + 1 for kind in range(5)}
_STATUSES: Final = {0: b"\x7a\x00", 1: b"\x7a\x02\x18\x01", 2: b"\x7a\x02\x18\x02"}
_LOCAL_LINK: Final = struct.pack("<BI", 0x35, HAS_IS_REMOTE)
_REMOTE_LINK: Final = struct.pack("<BI", 0x35, _REMOTE)
_EVENT_HEADS: Final = heads_of(b"\x5a")
_LINK_HEADS: Final = heads_of(b"\x6a")

_write_attributes: Final = attribute_writer(b"\x4a")
_write_event_attributes: Final = attribute_writer(b"\x1a")
_write_link_attributes: Final = attribute_writer(b"\x22")


class _Names(dict[Any, tuple[bytes, str]]):
    """By name: its field, and the name as it is on the wire, a str that can be encoded, whatever it was."""

    __slots__ = ("_tag",)

    def __init__(self, tag: bytes) -> None:
        self._tag = tag

    def __missing__(self, name: Any) -> tuple[bytes, str]:
        data = text(name)
        entry = (sized_if_any(self._tag, data), data.decode())
        if type(name) is str and len(name) <= MAX_CACHED_NAME and len(self) < MAX_NAMES:
            self[name] = entry
        return entry


_names: Final = _Names(b"\x2a")
_event_names: Final = _Names(b"\x12")


def build_record(
    trace_id: int,
    span_id: int,
    trace_flags: int,
    trace_state: Mapping[str, str] | None,
    parent_id: int | None,
    is_remote: bool | None,
    name: Any,
    kind: Any,
    start: Any,
    end: Any,
    attributes: Attributes,
    dropped_attributes: int,
    events: Iterable[Any],
    dropped_events: int,
    read_event: EventReader,
    links: Iterable[Any],
    dropped_links: int,
    read_link: LinkReader,
    status: int | None,
    description: str | None,
    resource: Any,
    scope: Any,
    odd: Odd | None,
    limit: int | None,
) -> SpanRecord:
    """Write the span's fields, first those of fixed size. ``kind`` and ``status`` are their enums' values.

    Where there is no ``odd`` a bad attribute, event or link raises, so that who reads quickly can leave the span to who
    reads carefully; where there is, it is dropped and counted, and ``odd`` hears of it. ``limit``: characters of an
    attribute's value; None is none. The record carries ``trace_state`` itself, if it is a mapping with anything in it.
    """
    if type(start) is not int or type(end) is not int:
        start, end = _nanoseconds(start), _nanoseconds(end)
    flags = _REMOTE if is_remote else HAS_IS_REMOTE
    name_field, name = _names[name]
    parts = [
        _ids(0x0A10, trace_id.to_bytes(16, "big"), 0x1208, span_id)
        if parent_id is None
        else _ids_and_parent(0x0A10, trace_id.to_bytes(16, "big"), 0x1208, span_id, 0x2208, parent_id),
        name_field,
        _times_and_flags(0x39, start, 0x41, end, 0x0185, flags)
        if kind is None
        else _kind_times_and_flags(0x30, _KINDS[kind], 0x39, start, 0x41, end, 0x0185, flags),
    ]
    if trace_state:
        parts.append(sized_if_any(b"\x1a", utf8(",".join([f"{key}={value}" for key, value in trace_state.items()]))))

    if limit is not None:
        attributes, lost = shortened(attributes, limit)
        dropped_attributes += _left_out(lost, attributes, odd)
    dropped_attributes += _left_out(_write_attributes(attributes, parts), attributes, odd)
    if dropped_attributes:
        parts.append(_count(b"\x50", dropped_attributes))

    failed = status == ERROR
    if events:
        lost, raised = _write_events(events, read_event, odd, limit, parts)
        dropped_events += lost
        failed = failed or raised
    if dropped_events:
        parts.append(_count(b"\x60", dropped_events))
    if links:
        dropped_links += _write_links(links, read_link, odd, limit, parts)
    if dropped_links:
        parts.append(_count(b"\x70", dropped_links))
    if description:
        parts.append(_status_with_description(status, description))
    elif status is not None:
        parts.append(_STATUSES[status])

    body = b"".join(parts)
    return SpanRecord(
        trace_id,
        span_id,
        parent_id or 0,
        trace_flags & 0xFF | flags,
        name,
        status or 0,
        end - start if end > start > 0 else 0,
        _NORMAL,
        len(body),
        group_of(resource, scope),
        body,
        None,
        kind or 0,
        failed,
        trace_state if trace_state and isinstance(trace_state, Mapping) else None,
    )


def name_on_wire(name: Any) -> str:
    """A span's name as a str that can be encoded, whatever it was."""
    return _names[name][1]


def _write_events(
    events: Iterable[Any], read: EventReader, odd: Odd | None, limit: int | None, parts: list[bytes]
) -> tuple[int, bool]:
    """Add the events' fields; how many of them could not be encoded, and whether one of them is an exception."""
    lost, raised = 0, False
    for event in events:
        try:
            name, timestamp, attributes, dropped = read(event)
            name_field, name = _event_names[name]
            if name == EXCEPTION:
                raised = True  # also where the rest of it cannot be encoded
            if type(timestamp) is not int:
                timestamp = _nanoseconds(timestamp)
            fields = [_time(0x09, timestamp), name_field]
            if limit is not None:
                attributes, uncut = shortened(attributes, limit)
                dropped += _left_out(uncut, attributes, odd)
            dropped += _left_out(_write_event_attributes(attributes, fields), attributes, odd)
            if dropped:
                fields.append(_count(b"\x20", dropped))
            body = b"".join(fields)
            length = len(body)
            parts.append((_EVENT_HEADS[length] if length < TABLE else b"\x5a" + varint(length)) + body)
        except Exception as error:
            if odd is None or is_applications(error):
                raise
            odd.event(event)
            lost += 1
    return lost, raised


def _write_links(links: Iterable[Any], read: LinkReader, odd: Odd | None, limit: int | None, parts: list[bytes]) -> int:
    """Add the links' fields; how many of them could not be encoded."""
    lost = 0
    for link in links:
        try:
            trace_id, span_id, is_remote, attributes, dropped = read(link)
            fields = [_ids(0x0A10, trace_id.to_bytes(16, "big"), 0x1208, span_id)]
            if limit is not None:
                attributes, uncut = shortened(attributes, limit)
                dropped += _left_out(uncut, attributes, odd)
            dropped += _left_out(_write_link_attributes(attributes, fields), attributes, odd)
            if dropped:
                fields.append(_count(b"\x28", dropped))
            fields.append(_REMOTE_LINK if is_remote else _LOCAL_LINK)
            body = b"".join(fields)
            length = len(body)
            parts.append((_LINK_HEADS[length] if length < TABLE else b"\x6a" + varint(length)) + body)
        except Exception as error:
            if odd is None or is_applications(error):
                raise
            odd.link(link)
            lost += 1
    return lost


def _left_out(count: int, attributes: Attributes, odd: Odd | None) -> int:
    """How many of the attributes are left out, once that has been told."""
    if count:
        if odd is None:
            raise UnencodableError
        odd.attribute(attributes)
    return count


def _status_with_description(status: int | None, description: str) -> bytes:
    code = _STATUSES.get(status or 0, b"")[2:]
    return sized(b"\x7a", sized_if_any(b"\x12", text(description)) + code)


def _count(tag: bytes, dropped: int) -> bytes:
    return tag + varint(max(0, min(dropped, 0xFFFFFFFF)))


def _nanoseconds(instant: Any) -> int:
    """A time that is not an int: none at all, a float (time.time() * 1e9), or a number of another make."""
    if instant is None:
        return 0
    return int(instant) if isinstance(instant, float) else operator.index(instant)
