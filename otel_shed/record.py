"""What travels through the pipeline: a small header and, beside it, the span's own OTLP bytes.

Owns nothing that changes: a record is written once, by the thread that ended the span, and only read afterwards.
Whatever decides (intake, shedding, whole traces) reads the header; whatever sends copies the bytes. Nothing
downstream of the encoder holds a span object, except for an exporter that wants the objects themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.compiled import extension

# opentelemetry.proto.trace.v1.SpanFlags: the low eight bits are the W3C trace flags.
HAS_IS_REMOTE = 0x100
IS_REMOTE = 0x200
# Characters; no text of so many is cut.
LONGEST_LIMIT = 1 << 31


class Priority(IntEnum):
    """What a span is worth; a local trace has the highest of its spans."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


class ScopeGroup:
    """The resource and the instrumentation scope that a span belongs to, already encoded; compared by identity.

    ``resource`` is the body of a ResourceSpans message but for its scope_spans, ``scope`` that of a ScopeSpans message
    but for its spans (opentelemetry/proto/trace/v1/trace.proto).
    """

    __slots__ = ("resource", "scope")

    def __init__(self, resource: bytes, scope: bytes) -> None:
        self.resource = resource
        self.scope = scope


class SpanRecord:
    """One ended span: the header that decisions read, and ``body`` (OTLP bytes) or ``span`` (the object).

    ``length`` is the number of bytes held for it: len(body), or 0 where the record carries the span object, whose size
    cannot be known cheaply. ``status`` is the OTLP status code (0 unset, 1 ok, 2 error). ``parent_span_id`` is 0 for a
    root; ``flags`` are OTLP span flags, so ``flags & IS_REMOTE`` tells a parent in another process. ``order`` is the
    record's number in its intake, which gives it; ``kind`` the value of its SpanKind. ``failed``: it has the status
    ERROR, or an exception event. ``limit``: of a record that carries the span object, how many characters the values of
    its attributes are cut to when it is exported; None for any number. ``trace_state``: its tracestate, None where
    there is none; the spans of a trace share it, so it is never changed. ``admission``: the threshold that the queue
    held its trace against, 0 for none.
    """

    __slots__ = (
        "admission",
        "body",
        "duration_ns",
        "failed",
        "flags",
        "group",
        "kind",
        "length",
        "limit",
        "name",
        "order",
        "parent_span_id",
        "priority",
        "span",
        "span_id",
        "status",
        "trace_id",
        "trace_state",
    )

    def __init__(
        self,
        trace_id: int,
        span_id: int,
        parent_span_id: int,
        flags: int,
        name: str,
        status: int,
        duration_ns: int,
        priority: Priority,
        length: int,
        group: ScopeGroup | None,
        body: bytes | None,
        span: ReadableSpan | None,
        kind: int = 0,
        failed: bool = False,
        trace_state: Mapping[str, str] | None = None,
    ) -> None:
        self.order = self.admission = 0
        self.limit: int | None = None
        self.kind = kind
        self.failed = failed
        self.trace_state = trace_state
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_span_id = parent_span_id
        self.flags = flags
        self.name = name
        self.status = status
        self.duration_ns = duration_ns
        self.priority = priority
        self.length = length
        self.group = group
        self.body = body
        self.span = span

    @property
    def is_local_root(self) -> bool:
        """Whether the local trace is complete with this span: it has no parent, or a parent in another process."""
        return not self.parent_span_id or bool(self.flags & IS_REMOTE)


def record_class(plain: type, packed: type | None) -> type:
    """The compiled class, if there is one and it has all that the plain one has.

    It holds a record in half the memory, and the collector of garbage has nothing to walk over.
    """
    public = {name for name in dir(plain) if not name.startswith("_")}
    return plain if packed is None or not public <= set(dir(packed)) else packed


PlainSpanRecord = SpanRecord

if not TYPE_CHECKING:
    SpanRecord = record_class(PlainSpanRecord, getattr(extension, "SpanRecord", None))
