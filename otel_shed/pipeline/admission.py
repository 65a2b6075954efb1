"""From a span that has ended to a record in the intake, or to the count of what it came to instead.

Called by application threads, in the middle of Span.end(). The rules: no Exception gets out of here but one of the
application's signal handlers; and nothing is counted before all that such an exception may interrupt is done, so a span
is counted once, whatever comes in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.interruption import EXHAUSTED, is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.encode import EncodeError
from otel_shed.outcome import DropReason
from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.sender import Sender
from otel_shed.record import Priority, SpanRecord


class Admission:
    """Of one pipeline. resource: of its first span, None before."""

    def __init__(self, *, sender: Sender, intake: Intake, max_held_bytes: int, log: LogLimit, lost: bytearray) -> None:
        """``lost``: the ledger's."""
        self._sender = sender
        self._intake = intake
        self._takes_batches = isinstance(intake.store, Batches)
        self._max_held_bytes = max_held_bytes
        self._log = log
        self._lost = lost
        self.resource: Resource | None = None

    def admit(
        self, span: ReadableSpan, priority: Priority = Priority.NORMAL, attribute_length: int | None = None
    ) -> None:
        """Take a span that has ended and is to be exported, its attributes' values cut to so many characters."""
        fates: list[DropReason | Fate] = []
        if (record := self.record(span, priority, attribute_length, fates.append)) is not None:
            self._intake.offer(record)
        for fate in fates:
            self._intake.book(fate)

    def admit_batch(self, spans: Sequence[tuple[ReadableSpan, Priority, int | None]]) -> None:
        """Take a batch of such spans; it stays together where the intake queues batches.

        An exception of the application's that comes in the middle of it goes on, and they are counted as lost.
        """
        left = len(spans)
        try:
            fates: list[DropReason | Fate] = []
            try:
                made = [self.record(span, priority, length, fates.append) for span, priority, length in spans]
            except EXHAUSTED:
                raise
            except BaseException:
                self._intake.book(DropReason.ENCODE_FAILED, left)
                raise
            records = [record for record in made if record is not None]
            if not self._takes_batches:
                for record in records:
                    self._intake.offer(record)
                    left -= 1
            elif records:
                self._intake.offer_batch(records)
                left = len(fates)
            for fate in fates:
                self._intake.book(fate)
                left -= 1
        except EXHAUSTED:
            lost, place = self._lost, 0
            while left:  # as in SheddingSpanProcessor.on_end
                if lost[place]:
                    lost[place] -= 1
                    left, place = left - 1, 0
                else:
                    lost[place] = 255
                    place += 1

    def record(
        self,
        span: ReadableSpan,
        priority: Priority,
        attribute_length: int | None,
        book: Callable[[DropReason | Fate], None],
    ) -> SpanRecord | None:
        """What travels for this span; None if it cannot, which is booked with ``book`` and told."""
        try:
            record = self._sender.record(span, attribute_length)
            if self.resource is None:
                self.resource = span.resource
            record.priority = priority
        except Exception as error:  # EncodeError, or a fault of ours: neither is the application's to see
            if is_applications(error):
                raise
            book(DropReason.ENCODE_FAILED)
            words = error if isinstance(error, EncodeError) else repr(error)
            self._log.warning("encode", "a span could not be encoded and was dropped: %s", words)
            return None
        if record.length > self._max_held_bytes or not self._sender.fits(record):
            book(DropReason.TOO_LARGE)
            self._log.warning("too_large", "span %r of %d bytes is too large: dropped", record.name, record.length)
            return None
        return record
