"""Requests put together from records: ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1).

Owns the choice between the compiled way and the plain one, made once at import. The worker calls it. The rules: a
span's bytes are copied once, into the request, and never read; what is compiled is used only if it makes, of samples,
the bytes that the plain Python makes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from otel_shed.compiled import extension
from otel_shed.otlp.wire import TABLE, heads_of, varint, varint_size
from otel_shed.record import Priority, ScopeGroup, SpanRecord

Build = Callable[[Sequence[SpanRecord]], bytes]
Size = Callable[[Sequence[SpanRecord]], int]

# resource_spans, scope_spans and spans have a tag of one byte each, then a length.
_RESOURCE_SPANS = b"\x0a"
_SCOPE_SPANS = b"\x12"
_SPAN = b"\x12"
_SPANS = heads_of(_SPAN)
_NO_BYTES = "a record that carries the span object has no bytes to send"


def build_plain(records: Sequence[SpanRecord]) -> bytes:
    """build_request, in Python."""
    resources: dict[bytes, dict[bytes, list[bytes]]] = {}
    current: ScopeGroup | None = None
    spans: list[bytes] = []
    for record in records:
        group, body = record.group, record.body
        if group is None or body is None:
            raise TypeError(_NO_BYTES)
        if group is not current:
            current = group
            spans = resources.setdefault(group.resource, {}).setdefault(group.scope, [])
        length = len(body)
        spans += (_SPANS[length] if length < TABLE else _SPAN + varint(length), body)
    parts: list[bytes] = []
    for resource, scopes in resources.items():
        inner: list[bytes] = [resource]
        for scope, spans in scopes.items():
            inner.append(_SCOPE_SPANS + varint(len(scope) + sum(map(len, spans))) + scope)
            inner.extend(spans)
        parts.append(_RESOURCE_SPANS + varint(sum(map(len, inner))))
        parts.extend(inner)
    return b"".join(parts)


def request_size(record: SpanRecord) -> int:
    """The size of a request made of that record alone."""
    group, body = _encoded(record)
    return _field(len(group.resource) + _field(len(group.scope) + _field(len(body))))


def split_by_size(
    records: list[SpanRecord], max_request_bytes: int, max_spans: int | None = None
) -> list[list[SpanRecord]]:
    """Consecutive pieces whose requests have at most so many bytes and spans, each as long as it can be.

    A record that is too large alone has a piece alone. Where all of them fit, the list itself is the piece.
    """
    most = max_spans or len(records)
    if len(records) <= most:  # nearly always
        if size_at_most(records) <= max_request_bytes:
            return [records] if records else []
    else:
        parts = [records[start : start + most] for start in range(0, len(records), most)]
        if all(size_at_most(part) <= max_request_bytes for part in parts):
            return parts
    pieces: list[list[SpanRecord]] = []
    size = _Size()
    for record in records:
        if not pieces or size.with_one_more(record) > max_request_bytes or len(pieces[-1]) >= most:
            pieces.append([])
            size = _Size()
            size.with_one_more(record)
        pieces[-1].append(record)
    return pieces


def most_plain(records: Sequence[SpanRecord]) -> int:
    """At least the size of the request for these records, and little more."""
    # A tag, and a length of at most ten bytes; three such to a group, and one to a span.
    groups = {record.group for record in records}
    overhead = sum(22 + len(group.resource) + len(group.scope) for group in groups if group is not None)
    return overhead + sum([11 + record.length for record in records])


class _Size:
    """The exact size of a request that grows by one record at a time."""

    def __init__(self) -> None:
        self._total = 0
        self._resources: dict[bytes, int] = {}
        self._scopes: dict[tuple[bytes, bytes], int] = {}

    def with_one_more(self, record: SpanRecord) -> int:
        """Add the record, whether it fits or not: who finds that it does not starts a new count."""
        group, body = _encoded(record)
        resource, scope = group.resource, group.scope
        before = self._scopes.get((resource, scope), 0)
        after = (before or len(scope)) + _field(len(body))
        self._scopes[resource, scope] = after
        added = _field(after) - (_field(before) if before else 0)
        before = self._resources.get(resource, 0)
        after = (before or len(resource)) + added
        self._resources[resource] = after
        self._total += _field(after) - (_field(before) if before else 0)
        return self._total


def _field(length: int) -> int:
    """The size of a length-delimited field: one byte of tag, the length's own, and the body."""
    return 1 + varint_size(length) + length


def _encoded(record: SpanRecord) -> tuple[ScopeGroup, bytes]:
    if record.group is None or record.body is None:
        raise TypeError(_NO_BYTES)
    return record.group, record.body


def _samples() -> list[SpanRecord]:
    """Records of every kind of length, in groups that come again, also as equal ones that are not the same."""
    heads = [(b"\x0a\x00", b"\x0a\x00"), (b"\x0a\x7f" + bytes(127), b"\x0a\x00"), (b"\x0a\x00", b"\x0a\x02xy")]
    groups = [ScopeGroup(*each) for each in (*heads, heads[0])]
    return [
        SpanRecord(
            1, 1, 0, 0, "", 0, 0, Priority.NORMAL, size, groups[number % 4 if number % 3 else 0], bytes(size), None
        )
        for number, size in enumerate((0, 1, 110, 124, 127, 128, TABLE - 1, TABLE, 16383, 16384, 2, 3))
    ]


def proved(build: Build, size: Size) -> bool:
    """Whether they do what the plain ones do with samples of every kind; a way that raises does not."""
    try:
        samples = _samples()
        pieces = [samples[start:] for start in range(len(samples) + 1)] + [[sample] for sample in samples]
        return all((build(piece), size(piece)) == (plain := build_plain(piece), len(plain)) for piece in pieces)
    except Exception:
        return False


def choose(compiled: Any) -> tuple[Build, Size]:
    """How requests are built, and their size told beforehand: the compiled way if there is one and it proves itself."""
    # Where the plain record is used, because the compiled one is of another version, so is the plain way.
    if compiled is None or compiled.SpanRecord is not SpanRecord or not hasattr(compiled, "build_request"):
        return build_plain, most_plain
    if proved(compiled.build_request, compiled.total_size):
        return compiled.build_request, compiled.total_size
    logging.getLogger("otel_shed").warning("Requests are built in plain Python: the compiled way is not proved equal")
    return build_plain, most_plain


# The request for these records: by resource, then by scope, each in the order of its first appearance.
build_request: Build
size_at_most: Size
build_request, size_at_most = choose(extension)
