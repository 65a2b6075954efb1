"""Protobuf's wire format: the varints, the lengths and the text that OTLP messages are made of.

Owns no state that changes after import; any thread may call anything here. The rule: what these functions return is
valid protobuf whatever they are given, or they raise.
"""

from __future__ import annotations

from typing import Any, Final

# Lengths up to here are looked up, not computed: nearly all attributes and events are shorter.
TABLE: Final = 1024


def varint(number: int) -> bytes:
    """An unsigned number; a negative one raises ValueError."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    if number < 0x10000000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21))
    low = (number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14 & 0x7F | 0x80, number >> 21 & 0x7F | 0x80)
    return bytes(low) + varint(number >> 28)


_LENGTHS: Final = tuple(varint(length) for length in range(TABLE))


def varint_size(number: int) -> int:
    """How many bytes varint(number) has."""
    return (number.bit_length() + 6) // 7 or 1


def sized(tag: bytes, body: bytes) -> bytes:
    """A length-delimited field: a message, a string or bytes."""
    length = len(body)
    return tag + (_LENGTHS[length] if length < TABLE else varint(length)) + body


def sized_if_any(tag: bytes, body: bytes) -> bytes:
    """A string field of proto3, which leaves out an empty one."""
    return sized(tag, body) if body else b""


def heads_of(tag: bytes) -> tuple[bytes, ...]:
    """What goes before a body, by the body's length; beyond the table it is the tag and varint(length)."""
    return tuple(tag + varint(length) for length in range(TABLE))


def string_head(tag: bytes, length: int) -> bytes:
    """What goes before the UTF-8 of a string that is an AnyValue under this tag: the heads of two fields."""
    inner = b"\x0a" + varint(length)
    return tag + varint(len(inner) + length) + inner


def utf8(text: str) -> bytes:
    """UTF-8 of any str. What UTF-8 cannot hold (half a surrogate pair) becomes U+FFFD, two halves become whole."""
    try:
        return str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def text(value: Any) -> bytes:
    """UTF-8 of a name, which ought to be a str; None is empty, and anything else is what str() says of it."""
    if isinstance(value, str):
        return utf8(value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").encode()
    return utf8(str(value))
