"""The same pipeline behind the SpanExporter interface, for set-ups in which only the exporter can be named.

``export`` is called by whatever processor stands before it, one thread at a time. The rule: it returns at once with
success, because what becomes of the spans is decided, and counted, behind it; in a flush or a shutdown of the processor
it may wait for room.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed.arguments import check_exporter, check_instance, check_integer, check_meter_provider
from otel_shed.assembly import Assembly, stock_exporter
from otel_shed.config import ShedConfig
from otel_shed.control.gate import Book
from otel_shed.face import DEFAULT_TIMEOUT_MILLIS, Face, seconds
from otel_shed.interruption import EXHAUSTED, is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.encode import EncodeError
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.record import Priority
from otel_shed.setting import INT_MAX
from otel_shed.stats import Stats
from otel_shed.stock_flush import ProcessorInFront, see_flushes

if TYPE_CHECKING:
    from otel_shed.shedder import LoadShedder

_log = LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic)


class SheddingSpanExporter(Face, SpanExporter):
    """A bounded queue and a worker in front of ``span_exporter``; OTLP as the environment says if None.

    max_batches: queue so many batches as they come, the oldest dropped whole when it is full; if None, the spans are
    queued one by one. In either case at most ``max_queue_size`` spans are queued. ValueError if it is not a positive
    integer, TypeError for any other part that is none; both name the argument.
    """

    def __init__(
        self,
        span_exporter: SpanExporter | None = None,
        *,
        max_batches: int | None = None,
        shedder: LoadShedder | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        if max_batches is not None:
            check_integer("max_batches", max_batches, 1, INT_MAX)
        if span_exporter is not None:
            check_exporter("span_exporter", span_exporter)
        check_meter_provider(meter_provider)
        if shedder is not None:
            check_instance("shedder", getattr(shedder, "assembly", shedder), Assembly, "a LoadShedder")
        assembly = shedder.assembly if shedder else Assembly(ShedConfig.from_env(), meter_provider=meter_provider)
        if not assembly.config.enabled:
            self._become_stock(stock_exporter() if span_exporter is None else span_exporter)
            return
        self.span_exporter = OTLPSpanExporter(meter_provider=meter_provider) if span_exporter is None else span_exporter
        # The processor in front has gathered the batch already: nothing is gained by waiting for more.
        self._pipeline = assembly.open_pipeline(
            self.span_exporter, linger=0.0, max_batches=max_batches, meter_provider=meter_provider
        )
        self._stands_before(self._pipeline)
        self.in_front = ProcessorInFront(self._pipeline, grace=assembly.config.shutdown_grace)
        see_flushes()
        self._assembly = assembly
        self._judge = assembly.control.gate.judging(decides_traces=max_batches is None)
        self._book = self._pipeline.intake.book
        if (meter := assembly.control.meter) is not None:
            self.export = meter.metered(self.export)  # type: ignore[method-assign]

    def _become_stock(self, exporter: SpanExporter) -> None:
        self.span_exporter = exporter
        for name in ("export", "force_flush"):
            setattr(self, name, getattr(exporter, name))
        self.shutdown = self._stands_for(exporter.shutdown)  # type: ignore[method-assign]
        self.stats = Stats  # type: ignore[method-assign]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue the sampled ones of ``spans``; a span whose flags are not known counts as sampled.

        SUCCESS, whatever becomes of them; FAILURE only after shutdown.
        """
        left = len(spans)
        try:
            fates: list[DropReason | Fate] = []
            try:
                judged = [(span, self._judged(span, fates.append)) for span in spans]
            except EXHAUSTED:
                raise
            except BaseException:  # of a signal handler: it is the application's to see, and the spans are lost
                self._book(DropReason.ENCODE_FAILED, left)
                raise
            sampled = [(span, *worth) for span, worth in judged if worth is not None]
            for fate, count in Counter(fates).items():
                self._book(fate, count)
                left -= 0 if fate is Fate.WOULD_HAVE_SHED else count
            if sampled:
                self.in_front.make_room(len(sampled))
                self._pipeline.admit_batch(sampled)
        except EXHAUSTED:
            lost, place = self._pipeline.ledger.lost, 0
            while left:  # as in SheddingSpanProcessor.on_end
                if lost[place]:
                    lost[place] -= 1
                    left, place = left - 1, 0
                else:
                    lost[place] = 255
                    place += 1
        return SpanExportResult.FAILURE if self._pipeline.is_shut_down else SpanExportResult.SUCCESS

    def _judged(self, span: ReadableSpan, book: Book) -> tuple[Priority, int | None] | None:
        try:
            if span.context is not None and not span.context.trace_flags.sampled:
                book(Fate.UNSAMPLED)
                return None
            return self._judge(span, book)
        except Exception as error:
            if is_applications(error):
                raise
            book(DropReason.ENCODE_FAILED)
            _log.warning("export", "a span that cannot be read was dropped: %s", EncodeError(span, error))
            return None

    def force_flush(self, timeout_millis: int | None = DEFAULT_TIMEOUT_MILLIS) -> bool:
        """As SheddingSpanProcessor.force_flush."""
        return self._pipeline.flush(seconds(timeout_millis))

    def shutdown(self, timeout_millis: float | None = DEFAULT_TIMEOUT_MILLIS) -> None:
        """As SheddingSpanProcessor.shutdown."""
        self._pipeline.shutdown(seconds(timeout_millis))

    def stats(self) -> Stats:
        """The account of the spans given to this exporter."""
        return self._assembly.stats(self._pipeline)
