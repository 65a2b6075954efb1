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

from otel_shed.otlp.attributes import Attributes, attribute_writer
from otel_shed.otlp.groups import group_of
from otel_shed.otlp.truncate import shortened
from otel_shed.otlp.wire import TABLE, heads_of, sized, sized_if_any, text, utf8, varint
from otel_shed.record import HAS_IS_REMOTE, IS_REMOTE, Priority, SpanRecord

# name, timestamp, attributes, dropped attributes
EventReader = Callable[[Any], tuple[Any, Any, Attributes, int]]
# trace id, span id, whether it is remote, attributes, dropped attributes
LinkReader = Callable[[Any], tuple[Any, Any, Any, Attributes, int]]

MAX_NAMES: Final = 1024
MAX_CACHED_NAME: Final = 64

_REMOTE: Final = HAS_IS_REMOTE | IS_REMOTE
_UINT64: Final = (1 << 64) - 1
# An enum member is not cheap to look up in its class.
_NORMAL: Final = Priority.NORMAL
# The value of StatusCode.ERROR, and what OpenTelemetry calls the event of an exception.
ERROR: Final = 2
EXCEPTION: Final = "exception"

_ids: Final = struct.Struct(">HQQHQ").pack
_ids_and_parent: Final = struct.Struct(">HQQHQHQ").pack
_times_and_flags: Final = struct.Struct("<BQBQHI").pack
_time: Final = struct.Struct("<BQ").pack
# By the values of SpanKind and of StatusCode. A status that is unset is written all the same, empty; none is not.
_KINDS: Final = {kind: bytes((0x30, kind + 1)) for kind in range(5)}
_STATUSES: Final = {0: b"\x7a\x00", 1: b"\x7a\x02\x18\x01", 2: b"\x7a\x02\x18\x02"}
_LINK_FLAGS: Final = {remote: b"\x35" + struct.pack("<I", flags) for remote, flags in ((False, 0x100), (True, 0x300))}
_EVENT_HEADS: Final = heads_of(b"\x5a")
_LINK_HEADS: Final = heads_of(b"\x6a")

_write_attributes: Final = attribute_writer(b"\x4a")
_write_event_attributes: Final = attribute_writer(b"\x1a")
_write_link_attributes: Final = attribute_writer(b"\x22")

_names: Final[dict[str, tuple[bytes, str]]] = {}
_event_names: Final[dict[str, tuple[bytes, str]]] = {}


def build_record(
    trace_id: int,
    span_id: int,
    trace_flags: int,
    trace_state: Mapping[str, str] | None,
    parent_id: int | None,
    is_remote: bool,
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
    careful: bool,
    limit: int | None,
) -> SpanRecord:
    """Write the span's fields, first those of fixed size. ``kind`` and ``status`` are their enums' values.

    Where ``careful`` is false a bad event or link raises, so that who reads quickly can leave the span to who reads
    carefully; where it is true it is dropped and counted. ``limit``: characters of an attribute's value; None is none.
    The record carries ``trace_state`` itself, if it is a mapping with anything in it.
    """
    if type(start) is not int or type(end) is not int:
        start, end = _nanoseconds(start), _nanoseconds(end)
    flags = _REMOTE if is_remote else HAS_IS_REMOTE
    name_field, name = _names.get(name) or _learn_name(name, b"\x2a", _names)
    parts = [
        _ids(0x0A10, trace_id >> 64, trace_id & _UINT64, 0x1208, span_id)
        if parent_id is None
        else _ids_and_parent(0x0A10, trace_id >> 64, trace_id & _UINT64, 0x1208, span_id, 0x2208, parent_id),
        name_field,
        _KINDS.get(kind, b""),
        _times_and_flags(0x39, start, 0x41, end, 0x0185, flags),
    ]
    append = parts.append
    if trace_state:
        append(sized_if_any(b"\x1a", utf8(",".join([f"{key}={value}" for key, value in trace_state.items()]))))

    if limit is not None:
        attributes, lost = shortened(attributes, limit)
        dropped_attributes += lost
    dropped_attributes += _write_attributes(attributes, parts)
    if dropped_attributes:
        append(_count(b"\x50", dropped_attributes))

    failed = status == ERROR
    for event in events:
        try:
            event_name, timestamp, held, dropped = read_event(event)
            event_field, event_name = _event_names.get(event_name) or _learn_name(event_name, b"\x12", _event_names)
            if event_name == EXCEPTION:
                failed = True  # also where the rest of it cannot be encoded
            body = _event_body(event_field, timestamp, held, dropped, limit)
        except Exception:
            if not careful:
                raise
            dropped_events += 1
        else:
            length = len(body)
            append(_EVENT_HEADS[length] if length < TABLE else b"\x5a" + varint(length))
            append(body)
    if dropped_events:
        append(_count(b"\x60", dropped_events))

    for link in links:
        try:
            body = _link_body(*read_link(link), limit)
        except Exception:
            if not careful:
                raise
            dropped_links += 1
        else:
            length = len(body)
            append(_LINK_HEADS[length] if length < TABLE else b"\x6a" + varint(length))
            append(body)
    if dropped_links:
        append(_count(b"\x70", dropped_links))

    if description:
        append(_status_with_description(status, description))
    elif status is not None:
        append(_STATUSES.get(status, b"\x7a\x00"))

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
    return (_names.get(name) or _learn_name(name, b"\x2a", _names))[1]


def _event_body(name_field: bytes, timestamp: Any, attributes: Attributes, dropped: int, limit: int | None) -> bytes:
    if limit is not None:
        attributes, lost = shortened(attributes, limit)
        dropped += lost
    parts = [_time(0x09, timestamp if type(timestamp) is int else _nanoseconds(timestamp)) + name_field]
    dropped += _write_event_attributes(attributes, parts)
    if dropped:
        parts.append(_count(b"\x20", dropped))
    return b"".join(parts)


def _link_body(
    trace_id: int, span_id: int, is_remote: Any, attributes: Attributes, dropped: int, limit: int | None
) -> bytes:
    if limit is not None:
        attributes, lost = shortened(attributes, limit)
        dropped += lost
    parts = [b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")]
    dropped += _write_link_attributes(attributes, parts)
    if dropped:
        parts.append(_count(b"\x28", dropped))
    parts.append(_LINK_FLAGS[bool(is_remote)])
    return b"".join(parts)


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


def _learn_name(name: Any, tag: bytes, cache: dict[str, tuple[bytes, str]]) -> tuple[bytes, str]:
    """The field of a name, and the name as it is on the wire: a str that can be encoded, whatever it was."""
    data = text(name)
    entry = (sized_if_any(tag, data), data.decode())
    if type(name) is str and len(name) <= MAX_CACHED_NAME and len(cache) < MAX_NAMES:
        cache[name] = entry
    return entry
