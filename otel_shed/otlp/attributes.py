"""Attributes on the wire: KeyValue (opentelemetry/proto/common/v1/common.proto).

Owns the caches of encoded keys and short values. Called by every thread that ends a span, in the middle of others, and
by whatever a value's own code starts: so there is no lock, no scratch that outlives a call, and a cache is only ever
added to, up to its bound, or given up as a whole. The rule: a value that cannot be encoded costs its own attribute,
which is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, ClassVar, Final

from otel_shed.interruption import is_applications
from otel_shed.otlp.values import MAX_ELEMENTS, SCALARS, UnencodableError, any_value, int_value
from otel_shed.otlp.wire import TABLE, heads_of, sized_if_any, string_head, text, utf8, varint

# How often a mapping that changes under our hands is read again.
ATTEMPTS: Final = 4

# What a writer's caches may hold: keys, characters of a key, values of each key, bytes of a value, heads of all keys.
MAX_KEYS: Final = 512
MAX_KEY_LENGTH: Final = 128
MAX_VALUES: Final = 16
MAX_VALUE_LENGTH: Final = 64
MAX_HEADS: Final = 8192
# When so many values of a key have not been known, they are not looked for any more: looking costs more than it saves.
MAX_MISSES: Final = 1024

_VALUE_HEADS: Final = heads_of(b"\x12")
_STRING_HEADS: Final = tuple(string_head(b"\x12", length) for length in range(TABLE))

Attributes = Mapping[Any, Any]
# Adds the fields of a message for some attributes to a list; returns how many of them it could not encode.
AttributeWriter = Callable[[Attributes, list[bytes]], int]


def key_bytes(key: Any) -> bytes:
    """The field of a key; UnencodableError for one that is no text."""
    if type(key) is str:
        return sized_if_any(b"\x0a", utf8(key))
    if key is not None and not isinstance(key, (str, bytes)):
        raise UnencodableError
    return sized_if_any(b"\x0a", text(key))


class _Key(dict[int, bytes]):
    """What is known of a key: by the size of a value, its head, which is all of an attribute before the value.

    The size of a string is that of its UTF-8; of any other AnyValue it is ``~`` that of its body. ``chunks``: whole
    attributes, as long as it is worth while to look for them.
    """

    __slots__ = ("_field", "_keys", "chunks")

    def __init__(self, keys: _Keys, field: bytes) -> None:
        self._keys = keys
        self._field = field
        self.chunks: _Chunks | None = _Chunks(self)

    def __missing__(self, size: int) -> bytes:
        keys = self._keys
        head = _head(keys.tag, self._field, size)
        if keys.room > 0 and -TABLE <= size < TABLE:
            keys.room -= 1
            self[size] = head
        return head


class _Chunks(dict[str | int, bytes]):
    """Whole attributes of a key, by value: of the first short strings and ints, for True and 1.0 equal 1."""

    __slots__ = ("_key", "_misses")

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._misses = 0

    def __missing__(self, value: str | int) -> bytes:
        if isinstance(value, str):
            data = utf8(value)
            chunk = self._key[len(data)] + data
        else:
            data = int_value(value)
            chunk = self._key[~len(data)] + data
        if len(self) < MAX_VALUES and len(data) <= MAX_VALUE_LENGTH:
            self[value] = chunk
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._key.chunks = None
        return chunk


class _Passing:
    """As _Key, of a key that is not kept."""

    __slots__ = ("_field", "_tag")
    chunks: ClassVar[None] = None

    def __init__(self, tag: bytes, field: bytes) -> None:
        self._tag = tag
        self._field = field

    def __getitem__(self, size: int) -> bytes:
        return _head(self._tag, self._field, size)


class _Keys:
    """What is known of the first short keys; ``room``: how many more heads are kept."""

    __slots__ = ("known", "room", "tag")

    def __init__(self, tag: bytes) -> None:
        self.tag = tag
        self.room = MAX_HEADS
        # A plain dict, which Python is quicker to look into than into one of a class of ours.
        self.known: dict[str, _Key] = {}

    def learn(self, key: Any) -> _Key | _Passing:
        field = key_bytes(key)
        if type(key) is str and len(key) <= MAX_KEY_LENGTH and len(self.known) < MAX_KEYS:
            return self.known.setdefault(key, _Key(self, field))
        return _Passing(self.tag, field)


def _head(tag: bytes, field: bytes, size: int) -> bytes:
    """All of an attribute before a value of that size; see _Key."""
    if size >= 0:
        value_head = _STRING_HEADS[size] if size < TABLE else string_head(b"\x12", size)
    else:
        size = ~size
        value_head = _VALUE_HEADS[size] if size < TABLE else b"\x12" + varint(size)
    return tag + varint(len(field) + len(value_head) + size) + field + value_head


def attribute_writer(tag: bytes) -> AttributeWriter:
    """A writer of ``repeated KeyValue`` under this tag, with caches of its own."""
    keys = _Keys(tag)
    known_keys, learn = keys.known, keys.learn

    def write(attributes: Attributes, parts: list[bytes]) -> int:
        dropped = 0
        for key, value in attributes.items():
            # An attribute is added in one step, so that nothing that a signal handler raises comes in the middle of it.
            try:
                try:
                    known: _Key | _Passing = known_keys[key]
                except KeyError:
                    known = learn(key)
                kind = type(value)
                if kind is str:
                    chunks = known.chunks
                    if chunks is not None:
                        parts.append(chunks[value])
                    else:
                        try:
                            data = value.encode()
                        except UnicodeEncodeError:
                            data = utf8(value)
                        parts.append(known[len(data)] + data)
                else:
                    if kind is int:
                        chunks = known.chunks
                        if chunks is not None:
                            parts.append(chunks[value])
                            continue
                        data = int_value(value)
                    else:
                        data = SCALARS.get(kind, any_value)(value)
                    parts.append(known[~len(data)] + data)
            except Exception as error:
                if is_applications(error):
                    raise
                dropped += 1
        return dropped

    return write


def snapshot(attributes: Any) -> tuple[Attributes, int]:
    """Attributes as a dict of our own, and how many of them could not be read.

    A copy, where the mapping offers one, is the quickest public way to the dict inside the SDK's own mappings.
    """
    if attributes is None:
        return {}, 0
    attempts = ATTEMPTS
    while attempts:
        try:
            copied = attributes.copy()
        except Exception as error:
            if is_applications(error):
                raise
            copied = attributes
        if type(copied) is dict:
            return copied, 0
        try:
            return dict(islice(copied.items(), MAX_ELEMENTS)), 0
        except Exception as error:
            if is_applications(error):
                raise
            attempts -= 1
    try:
        return {}, max(1, len(attributes))
    except Exception as error:
        if is_applications(error):
            raise
        return {}, 1
