"""Attributes on the wire: KeyValue (opentelemetry/proto/common/v1/common.proto).

Owns the caches of encoded keys and short values. Called by every thread that ends a span, in the middle of others, and
by whatever a value's own code starts: so there is no lock, no scratch that outlives a call, and a cache is only ever
added to, up to its bound. The rule: a value that cannot be encoded costs its own attribute, which is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from otel_shed.otlp.values import MAX_ELEMENTS, SCALARS, UnencodableError, any_value, int_value
from otel_shed.otlp.wire import TABLE, heads_of, sized_if_any, string_head, text, utf8, varint

# How often a mapping that changes under our hands is read again.
ATTEMPTS: Final = 4

# What a writer's cache may hold: keys, values of each key, characters of a key and bytes of a value.
MAX_KEYS: Final = 512
MAX_VALUES: Final = 16
MAX_CACHED_LENGTH: Final = 64

_HEADS: Final = heads_of(b"\x12")
_STRING_HEADS: Final = tuple(string_head(b"\x12", length) for length in range(TABLE))

Attributes = Mapping[Any, Any]
# Adds the fields of a message for some attributes to a list; returns how many of them it could not encode.
AttributeWriter = Callable[[Attributes, list[bytes]], int]


def key_bytes(key: Any) -> bytes:
    """The field of a key; UnencodableError for one that is no text."""
    if key is not None and not isinstance(key, (str, bytes)):
        raise UnencodableError
    return sized_if_any(b"\x0a", text(key))


def attribute_writer(tag: bytes) -> AttributeWriter:
    """A writer of ``repeated KeyValue`` under this tag, with caches of its own."""
    heads = heads_of(tag)
    # By key: its field, the field's length, and the whole fields of the first short values that came with it.
    keys: dict[str, tuple[bytes, int, dict[str | int, bytes]]] = {}

    def learn(key: Any) -> tuple[bytes, int, dict[str | int, bytes]]:
        field = key_bytes(key)
        entry: tuple[bytes, int, dict[str | int, bytes]] = (field, len(field), {})
        if type(key) is str and len(key) <= MAX_CACHED_LENGTH and len(keys) < MAX_KEYS:
            return keys.setdefault(key, entry)
        return entry

    def write(attributes: Attributes, parts: list[bytes]) -> int:
        dropped = 0
        for key, value in attributes.items():
            try:
                field, length, known = keys.get(key) or learn(key)
                kind = type(value)
                if kind is str:
                    # Where nothing is known, as of stack traces, a long string is not hashed for nothing.
                    if known and value in known:
                        parts.append(known[value])
                        continue
                    try:
                        data = value.encode()
                    except UnicodeEncodeError:
                        data = utf8(value)
                    size = len(data)
                    head = _STRING_HEADS[size] if size < TABLE else string_head(b"\x12", size)
                elif kind is int:
                    if value in known:
                        parts.append(known[value])
                        continue
                    data = int_value(value)
                    size = len(data)
                    head = _HEADS[size]
                elif kind is bool:
                    data = b"\x10\x01" if value else b"\x10\x00"
                    size = 2
                    head = b"\x12\x02"
                else:
                    data = SCALARS.get(kind, any_value)(value)
                    size = len(data)
                    head = _HEADS[size] if size < TABLE else b"\x12" + varint(size)
                length += len(head) + size
                first = heads[length] if length < TABLE else tag + varint(length)
                # Only values of exactly these two types are known: True and 1.0 equal 1.
                if len(known) < MAX_VALUES and size <= MAX_CACHED_LENGTH and (kind is str or kind is int):
                    known[value] = chunk = first + field + head + data
                    parts.append(chunk)
                else:
                    parts += (first, field, head, data)
            except Exception:
                dropped += 1
        return dropped

    return write


def snapshot(attributes: Any) -> tuple[Attributes, int]:
    """Attributes as a dict of our own, and how many of them could not be read.

    A copy, where the mapping offers one, is the quickest public way to the dict inside the SDK's own mappings.
    """
    if attributes is None:
        return {}, 0
    for _ in range(ATTEMPTS):
        try:
            copied = attributes.copy()
        except Exception:
            copied = attributes
        if type(copied) is dict:
            return copied, 0
        try:
            return dict(islice(copied.items(), MAX_ELEMENTS)), 0
        except Exception:
            continue
    try:
        return {}, max(1, len(attributes))
    except Exception:
        return {}, 1
