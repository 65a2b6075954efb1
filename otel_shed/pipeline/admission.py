"""From a span that has ended to a record in the intake, or to the count of what it came to instead.

Called by application threads, in the middle of Span.end(). The rule: no Exception of ours, or of a span that breaks
when it is read, gets out of here; and a span that is not handed over is booked.
"""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.log_limit import LogLimit
from otel_shed.otlp.encode import EncodeError
from otel_shed.outcome import DropReason
from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.sender import Sender
from otel_shed.record import Priority, SpanRecord


class Admission:
    """Of one pipeline. resource: of its first span, None before."""

    def __init__(self, *, sender: Sender, intake: Intake, max_held_bytes: int, log: LogLimit) -> None:
        self._sender = sender
        self._intake = intake
        self._takes_batches = isinstance(intake.store, Batches)
        self._max_held_bytes = max_held_bytes
        self._log = log
        self.resource: Resource | None = None

    def admit(
        self, span: ReadableSpan, priority: Priority = Priority.NORMAL, attribute_length: int | None = None
    ) -> None:
        """Take a span that has ended and is to be exported, its attributes' values cut to so many characters."""
        if (record := self._encode(span, priority, attribute_length)) is not None:
            self._intake.offer(record)

    def admit_batch(self, spans: Iterable[tuple[ReadableSpan, Priority, int | None]]) -> None:
        """Take a batch of such spans; it stays together where the intake queues batches."""
        records = [
            record for span, priority, length in spans if (record := self._encode(span, priority, length)) is not None
        ]
        if not self._takes_batches:
            for record in records:
                self._intake.offer(record)
        elif records:
            self._intake.offer_batch(records)

    def _encode(self, span: ReadableSpan, priority: Priority, attribute_length: int | None) -> SpanRecord | None:
        try:
            record = self._sender.record(span, attribute_length)
            if self.resource is None:
                self.resource = span.resource
            record.priority = priority
        except Exception as error:  # EncodeError, or a fault of ours: neither is the application's to see
            self._intake.book(DropReason.ENCODE_FAILED)
            words = error if isinstance(error, EncodeError) else repr(error)
            self._log.warning("encode", "a span could not be encoded and was dropped: %s", words)
            return None
        if record.length > self._max_held_bytes or not self._sender.fits(record):
            self._intake.book(DropReason.TOO_LARGE)
            self._log.warning("too_large", "span %r of %d bytes is too large: dropped", record.name, record.length)
            return None
        return record
