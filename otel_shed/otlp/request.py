"""Requests put together from records: ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1).

Owns nothing. The worker calls it. The rule: a span's bytes are copied once, into the request, and never read.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_shed.otlp.wire import TABLE, heads_of, varint, varint_size
from otel_shed.record import ScopeGroup, SpanRecord

# resource_spans, scope_spans and spans have a tag of one byte each, then a length.
_RESOURCE_SPANS = b"\x0a"
_SCOPE_SPANS = b"\x12"
_SPAN = b"\x12"
_SPANS = heads_of(_SPAN)
_NO_BYTES = "a record that carries the span object has no bytes to send"


def build_request(records: Sequence[SpanRecord]) -> bytes:
    """The request for these records: by resource, then by scope, each in the order of its first appearance."""
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


def split_by_size(records: Sequence[SpanRecord], max_request_bytes: int) -> list[list[SpanRecord]]:
    """Consecutive pieces whose requests have at most that many bytes, each as long as it can be.

    A record that is too large alone has a piece alone.
    """
    # Each length takes four bytes at most in a request below 256 MiB: nearly always this is enough to know.
    groups = {record.group for record in records}
    overhead = sum(10 + len(group.resource) + len(group.scope) for group in groups if group is not None)
    if overhead + sum(5 + record.length for record in records) <= min(max_request_bytes, 1 << 28):
        return [list(records)] if records else []
    pieces: list[list[SpanRecord]] = []
    size = _Size()
    for record in records:
        if not pieces or size.with_one_more(record) > max_request_bytes:
            pieces.append([])
            size = _Size()
            size.with_one_more(record)
        pieces[-1].append(record)
    return pieces


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
