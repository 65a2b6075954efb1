"""The seam between the worker and whatever sends: OTLP bytes of ours, or the ReadableSpans of any other exporter.

Everything here but ``hurry`` and ``abort`` is called by the worker thread alone, one call at a time. Where several
requests are made at once, that is inside of one such call.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from opentelemetry.context import (
    _SUPPRESS_INSTRUMENTATION_KEY,  # no public name; what is sent must not itself be traced
    attach,
    detach,
    set_value,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed.otlp.amend import amended, raised_trace_state, trace_state_of
from otel_shed.otlp.encode import Encoder
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.otlp.proof import encode_span, wrap
from otel_shed.otlp.request import request_size, size_at_most, split_by_size
from otel_shed.otlp.truncate import truncated
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.amended_span import AmendedSpan
from otel_shed.pipeline.store import Change
from otel_shed.record import SpanRecord

# Bytes of tags and lengths around a span in a request: three messages' tags, each with a length of at most 10 bytes.
_MOST_FRAMING = 40
# Of a resource and a scope, as most have; what a request really has around its spans is learned.
_GROUP_BYTES = 1024


class Sender(Protocol):
    """Sends batches, and knows what a record for it has to carry.

    at_once: how many requests it makes at a time; a batch may have so many times the spans of a request.
    where: what it sends to, for log lines.
    """

    at_once: int
    where: str

    def record(self, span: ReadableSpan, limit: int | None = None, /) -> SpanRecord:
        """What travels for this span, its attributes' values cut to ``limit`` characters. Raises EncodeError.

        Called by application threads.
        """

    def fits(self, record: SpanRecord) -> bool:
        """Whether a request of this record alone is within the limit; called by application threads."""

    def most_bytes(self) -> int:
        """How many bytes of records a batch may have that goes out as one request."""

    def split(self, records: list[SpanRecord]) -> list[list[SpanRecord]]:
        """Cut a batch into requests; where it is one, that is the batch itself."""

    def amend(self, record: SpanRecord, change: Change) -> int:
        """Write the change into what the record carries; by how many bytes it has grown."""

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        """Send one request; returns when its fate is known, never raises."""

    def send_all(self, pieces: Sequence[Sequence[SpanRecord]]) -> Iterator[Outcome]:
        """Send a request of each piece; what becomes of each, in their order, as soon as it is known."""

    def flush(self, timeout: float) -> bool:
        """Have the exporter send what it holds itself, within ``timeout`` seconds."""

    def hurry(self, patience: float) -> None:
        """Shutdown has begun: interrupt waits, try a collector that is known to be down once more, not again.

        ``patience``: seconds after which shutdown gives a request up; no attempt needs to be made for longer.
        """

    def abort(self) -> None:
        """Shutdown has given up: interrupt the call in flight, refuse further ones."""

    def shutdown(self, timeout: float) -> None:
        """Close the exporter, once."""

    def after_fork_in_child(self) -> None: ...


class OTLPSender:
    """Our own exporter: it takes encoded records and says what became of them.

    A request has at most ``max_request_bytes`` bytes and, unless that is None, ``max_request_spans`` spans.
    """

    def __init__(
        self,
        exporter: OTLPSpanExporter,
        *,
        export_timeout: float,
        max_request_bytes: int,
        max_request_spans: int | None = None,
        at_once: int = 1,
    ) -> None:
        self.at_once = at_once
        self.where = f"the collector at {exporter.settings.shown_endpoint}"
        self._max_request_spans = max_request_spans
        self._exporter = exporter
        self._export_timeout = export_timeout
        self._max_request_bytes = max_request_bytes
        # What is around the records of a request: learned from those that were larger than expected.
        self._framing = min(max_request_bytes // 8, _GROUP_BYTES + _MOST_FRAMING * (max_request_spans or 1) // 4)
        self.record: Encoder = encode_span

    def fits(self, record: SpanRecord) -> bool:
        group = record.group
        around = len(group.resource) + len(group.scope) if group is not None else 0
        # Tags and lengths take less than that; so the exact size is worked out only near the limit.
        return (
            record.length + around + _MOST_FRAMING <= self._max_request_bytes
            or request_size(record) <= self._max_request_bytes
        )

    def most_bytes(self) -> int:
        return max(1, self._exporter.request_bytes(self._max_request_bytes) - self._framing)

    def split(self, records: list[SpanRecord]) -> list[list[SpanRecord]]:
        most_bytes = self._exporter.request_bytes(self._max_request_bytes)
        pieces = split_by_size(records, most_bytes, self._max_request_spans)
        if len(pieces) > self.at_once:
            around = max([size_at_most(piece) - sum([record.length for record in piece]) for piece in pieces])
            self._framing = max(self._framing, min(around, most_bytes // 2))
        return pieces

    def amend(self, record: SpanRecord, change: Change) -> int:
        body = record.body or b""
        record.body = amended(
            body,
            parent_span_id=change.parent_span_id,
            trace_state=None
            if change.threshold is None
            else raised_trace_state(trace_state_of(body), change.threshold),
        )
        growth = len(record.body) - len(body)
        record.length += growth
        return growth

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        return self._exporter.send_records(records, budget=self._export_timeout)

    def send_all(self, pieces: Sequence[Sequence[SpanRecord]]) -> Iterator[Outcome]:
        return self._exporter.send_requests(pieces, budget=lambda: self._export_timeout, at_once=self.at_once)

    def flush(self, timeout: float) -> bool:
        return self._exporter.force_flush(int(timeout * 1000))

    def hurry(self, patience: float) -> None:
        self._export_timeout = min(self._export_timeout, patience)
        self._exporter.hurry(patience)

    def abort(self) -> None:
        self._exporter.abort()

    def shutdown(self, timeout: float) -> None:
        self._exporter.shutdown(timeout_millis=timeout * 1000)

    def after_fork_in_child(self) -> None:
        self._exporter.after_fork_in_child()


class SpanExporterSender:
    """Any other exporter: it gets the spans as the stock processor would give them, and its word is taken."""

    at_once = 1  # SpanExporter.export() is not to be called concurrently

    def __init__(self, exporter: SpanExporter, *, export_timeout: float, clock: Callable[[], float]) -> None:
        self.where = f"the exporter {type(exporter).__name__}"
        self._exporter = exporter
        self._export_timeout = export_timeout
        self._clock = clock
        self.record: Encoder = wrap

    def fits(self, record: SpanRecord) -> bool:
        return True

    def most_bytes(self) -> int:
        return sys.maxsize

    def split(self, records: list[SpanRecord]) -> list[list[SpanRecord]]:
        return [records]

    def amend(self, record: SpanRecord, change: Change) -> int:
        record.span = AmendedSpan(record.span, change)  # type: ignore[arg-type]
        return 0

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        started = self._clock()
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        message = ""
        try:
            result = self._exporter.export([_cut(record) for record in records])
            failed = result is SpanExportResult.FAILURE
        except BaseException as error:  # an exporter that calls sys.exit() must not end the worker
            failed, message = True, f"{type(error).__name__}: {error}"
        finally:
            detach(token)
        duration = self._clock() - started
        if not failed:
            return Outcome(accepted=len(records), duration=duration)
        reason = DropReason.EXPORT_TIMEOUT if duration >= self._export_timeout else DropReason.EXPORTER_ERROR
        return Outcome(accepted=0, reason=reason, message=message, duration=duration)

    def send_all(self, pieces: Sequence[Sequence[SpanRecord]]) -> Iterator[Outcome]:
        return map(self.send, pieces)

    def flush(self, timeout: float) -> bool:
        # One that is a SpanExporter only by what it does may have none, and has nothing to flush.
        flush = getattr(self._exporter, "force_flush", None)
        # SpanExporter's own returns None: only a False is a failure.
        return flush is None or flush(int(timeout * 1000)) is not False

    def hurry(self, patience: float) -> None:
        """Nothing can hurry it: the stock exporters interrupt their waits when they are shut down."""

    def abort(self) -> None:
        """Nothing but ``shutdown`` interrupts it, and that follows."""

    def shutdown(self, timeout: float) -> None:
        try:
            takes_timeout = "timeout_millis" in inspect.signature(self._exporter.shutdown).parameters
        except (TypeError, ValueError):  # a callable that cannot be inspected
            takes_timeout = False
        # The stock OTLP exporters take a time limit, the interface knows none.
        self._exporter.shutdown(**({"timeout_millis": timeout * 1000} if takes_timeout else {}))

    def after_fork_in_child(self) -> None:
        """It looks after its own sockets."""


def _cut(record: SpanRecord) -> ReadableSpan:
    """The span that the record carries, with attributes as long as they may be."""
    span, limit = record.span, record.limit
    try:
        return span if limit is None else truncated(span, limit)  # type: ignore[arg-type, return-value]
    except Exception:  # a span object that breaks when it is read: that is for the exporter to see, as it is
        return span  # type: ignore[return-value]
