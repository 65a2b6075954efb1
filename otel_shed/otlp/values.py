"""The values of attributes on the wire: AnyValue (opentelemetry/proto/common/v1/common.proto).

Owns nothing that changes. Called by every thread that ends a span, and again by whatever a value's own code starts.
The rule: whatever the value is, the call ends soon with bytes that every parser accepts, or with an exception.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from otel_shed.otlp.wire import TABLE, heads_of, sized, sized_if_any, string_head, utf8, varint

# Protobuf parsers commonly refuse a whole request beyond 100 messages inside one another, and an event's AnyValue is
# the seventh already. So this is stricter than the 64 levels of the specification, and what is deeper is empty, as it
# says: 46 lists or 31 maps inside one another are whole.
ROOM: Final = 100 - 7
# Lists that share their parts can grow without end; a value of more elements than that hardly fits a request anyway.
MAX_ELEMENTS: Final = 1 << 18

_LOWEST: Final = -(1 << 63)
_HIGHEST: Final = (1 << 63) - 1
_UINT64: Final = (1 << 64) - 1
# A program with a number of more digits than Python turns into text by default (4,300) has no telemetry in mind.
_MOST_BITS: Final = 14_284
# An int's field, if it has one byte; else its tag and lowest seven bits, the seven bits next to them, and the last.
_ONE_BYTE: Final = tuple(bytes((0x18, bits)) for bits in range(0x80))
_FIRST: Final = tuple(bytes((0x18, bits | 0x80)) for bits in range(0x80))
_NEXT: Final = tuple(bytes((bits | 0x80,)) for bits in range(0x80))
_LAST: Final = tuple(bytes((bits,)) for bits in range(0x80))
_HEADS: Final = heads_of(b"\x0a")
_STRING_HEADS: Final = tuple(string_head(b"\x0a", length) for length in range(TABLE))
_ARRAY_HEADS: Final = heads_of(b"\x2a")
_double: Final = struct.Struct("<Bd").pack


class UnencodableError(Exception):
    """A value that OTLP has no place for: its attribute is dropped and counted."""


def int_value(value: int) -> bytes:
    """The body of an AnyValue for a number: one of more than 64 bits, signed, becomes decimal text.

    The specification, "Mapping to AnyValue", says that it SHOULD.
    """
    if 0 <= value < 0x4000:
        return _ONE_BYTE[value] if value < 0x80 else _FIRST[value & 0x7F] + _LAST[value >> 7]
    if 0 < value < 0x200000:
        return _FIRST[value & 0x7F] + _NEXT[value >> 7 & 0x7F] + _LAST[value >> 14]
    if not _LOWEST <= value <= _HIGHEST:
        if value.bit_length() > _MOST_BITS:
            raise UnencodableError
        return sized(b"\x0a", int.__repr__(value).encode())
    return b"\x18" + varint(value & _UINT64)


# By exact type: what is of a subclass is found out below, in the order of preference of the stock encoder.
SCALARS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: lambda value: sized(b"\x0a", utf8(value)),
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    int: int_value,
    float: lambda value: _double(0x21, value),
    bytes: lambda value: sized(b"\x3a", value),
    type(None): lambda value: b"",
}


def any_value(value: Any, room: int = ROOM, left: list[int] | None = None, path: tuple[int, ...] = ()) -> bytes:
    """The body of an AnyValue; takes all that the stock encoder takes.

    ``room`` is how many more messages fit inside one another, ``left`` how many more elements in all, ``path`` the ids
    of what this value is inside of.
    """
    kind = type(value)
    if kind is tuple or kind is list:
        return _array(value, room - 2, left or [MAX_ELEMENTS], path)
    if kind in SCALARS:
        return SCALARS[kind](value)
    if kind is dict:
        return _map(value, room - 3, left or [MAX_ELEMENTS], path)
    if isinstance(value, str):
        return sized(b"\x0a", utf8(value))
    if isinstance(value, int):
        return int_value(int.__index__(value))
    if isinstance(value, float):
        return _double(0x21, value)
    if isinstance(value, bytes):
        # A copy of exactly that type: a subclass might say what adding to it means.
        return sized(b"\x3a", bytes(memoryview(value)))
    if isinstance(value, Sequence):
        return _array(value, room - 2, left or [MAX_ELEMENTS], path)
    if isinstance(value, Mapping):
        return _map(value, room - 3, left or [MAX_ELEMENTS], path)
    raise UnencodableError


def _array(value: Sequence[Any], room: int, left: list[int], path: tuple[int, ...]) -> bytes:
    if room < 0:
        return b""
    if id(value) in path:
        raise UnencodableError
    fields: list[bytes] = []
    for element in _taken(value, left):
        kind = type(element)
        if kind is str:
            try:
                data = element.encode()
            except UnicodeEncodeError:
                data = utf8(element)
            length = len(data)
            fields.append(_STRING_HEADS[length] if length < TABLE else string_head(b"\x0a", length))
        else:
            if kind is int:
                data = int_value(element)
            elif kind in SCALARS:
                data = SCALARS[kind](element)
            else:
                data = any_value(element, room, left, (*path, id(value)))
            length = len(data)
            fields.append(_HEADS[length] if length < TABLE else b"\x0a" + varint(length))
        fields.append(data)
    body = b"".join(fields)
    length = len(body)
    return (_ARRAY_HEADS[length] if length < TABLE else b"\x2a" + varint(length)) + body


def _map(value: Mapping[Any, Any], room: int, left: list[int], path: tuple[int, ...]) -> bytes:
    if room < 0:
        return b""
    if id(value) in path:
        raise UnencodableError
    path = (*path, id(value))
    fields: list[bytes] = []
    for key, element in _taken(value.items(), left):
        field = sized_if_any(b"\x0a", utf8(str(key))) + sized(b"\x12", any_value(element, room, left, path))
        fields.append(sized(b"\x0a", field))
    return sized(b"\x32", b"".join(fields))


def _taken(elements: Iterable[Any], left: list[int]) -> Iterable[Any]:
    """The elements, copied before anyone can change them, if there are not too many."""
    taken = elements if type(elements) is tuple else list(islice(elements, left[0] + 1))
    left[0] -= len(taken)
    if left[0] < 0:
        raise UnencodableError
    return taken
