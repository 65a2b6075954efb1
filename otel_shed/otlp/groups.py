"""The resource and the scope of a span, encoded once: what spans that share them share in a request.

Owns bounded caches, filled by every thread that ends a span, without a lock: a lost race encodes once more. The
rule: an entry holds the objects whose ids are its key, so that no id can be used again while the entry lives.
"""

from __future__ import annotations

from typing import Any, Final

from otel_shed.otlp.attributes import AttributeWriter, attribute_writer, snapshot
from otel_shed.otlp.wire import sized, sized_if_any, text, varint
from otel_shed.record import ScopeGroup

# Pairs of resource and scope; a program that makes one for each request starts over each time it has made so many.
MAX_GROUPS: Final = 256
# An empty message: its tag and its length.
_NOTHING: Final = b"\x0a\x00"

_write_resource_attributes = attribute_writer(b"\x0a")
_write_scope_attributes = attribute_writer(b"\x1a")

_by_identity: dict[tuple[int, int], tuple[object, object, ScopeGroup]] = {}
# Of what is there, by the scope alone: a scope nearly always comes with the same resource.
_latest: dict[int, tuple[object, object, ScopeGroup]] = {}
# The same content in another order is the same resource or scope; the first one seen says the order.
_by_content: dict[tuple[frozenset[bytes], bytes], bytes] = {}
_by_bytes: dict[tuple[bytes, bytes], ScopeGroup] = {}


def group_of(resource: Any, scope: Any) -> ScopeGroup:
    """The group of spans of this resource and this scope; either may be None."""
    entry = _latest.get(id(scope))
    if entry is not None and entry[0] is resource:
        return entry[2]
    entry = _by_identity.get((id(resource), id(scope)))
    if entry is None:
        entry = resource, scope, interned(_resource_bytes(resource), _scope_bytes(scope))
        if len(_by_identity) >= MAX_GROUPS:
            _by_identity.clear()
            _latest.clear()
        _by_identity[id(resource), id(scope)] = entry
    _latest[id(scope)] = entry
    return entry[2]


def interned(resource: bytes, scope: bytes) -> ScopeGroup:
    """The one group of these bytes, as long as it is remembered."""
    if len(_by_bytes) >= MAX_GROUPS:
        _by_bytes.clear()
    return _by_bytes.setdefault((resource, scope), ScopeGroup(resource, scope))


def _resource_bytes(resource: Any) -> bytes:
    if resource is None:
        return _NOTHING
    return _message(resource, b"", _write_resource_attributes, b"\x10")


def _scope_bytes(scope: Any) -> bytes:
    if scope is None:
        return _NOTHING
    names = sized_if_any(b"\x0a", text(scope.name)) + sized_if_any(b"\x12", text(scope.version))
    return _message(scope, names, _write_scope_attributes, b"\x20")


def _message(owner: Any, names: bytes, write: AttributeWriter, dropped_tag: bytes) -> bytes:
    """The first field of ResourceSpans or ScopeSpans and, of the same number in both, its schema_url."""
    fields: list[bytes] = []
    attributes, dropped = snapshot(owner.attributes)
    for key, value in attributes.items():
        parts: list[bytes] = []
        dropped += write({key: value}, parts)
        fields.append(b"".join(parts))
    rest = dropped_tag + varint(dropped) if dropped else b""
    schema_url = sized_if_any(b"\x1a", text(owner.schema_url))
    if len(_by_content) >= MAX_GROUPS:
        _by_content.clear()
    content = (frozenset(fields), names + rest + schema_url)
    return _by_content.setdefault(content, sized(b"\x0a", names + b"".join(fields) + rest) + schema_url)
