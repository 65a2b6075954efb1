"""The hot path's face: a span processor that never blocks, never raises, and counts every span that ends.

``on_end`` is called by the application's threads, in Span.end(); the rule: nothing of ours gets from there into the
application, no wait for the exporter, no exception, no log line per span; what its own signal handlers raise in the
middle of it does.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel_shed.arguments import check_exporter, check_instance, check_meter_provider
from otel_shed.assembly import Assembly
from otel_shed.config import SETTING, ShedConfig
from otel_shed.control.gate import Book
from otel_shed.face import DEFAULT_TIMEOUT_MILLIS, Face, seconds
from otel_shed.hot_path import OnEnd, compiled_on_end
from otel_shed.interruption import EXHAUSTED, is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.encode import EncodeError
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.record import SpanRecord
from otel_shed.stats import Stats

if TYPE_CHECKING:
    from otel_shed.shedder import LoadShedder

_log = LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic)


class SheddingSpanProcessor(Face, SpanProcessor):
    """The drop-in for BatchSpanProcessor, with its constructor.

    What is not given comes from ``shedder``, else from the environment. Raises ValueError where the stock processor
    does: for a size or a delay that is not positive, and for a batch larger than the queue; TypeError, which names the
    argument, for a part that is none, such as an exporter that is None. With ``OTEL_SHED_ENABLED=false`` every call
    goes to a stock BatchSpanProcessor.
    """

    def __init__(
        self,
        span_exporter: SpanExporter,
        max_queue_size: int | None = None,
        schedule_delay_millis: float | None = None,
        max_export_batch_size: int | None = None,
        export_timeout_millis: float | None = None,
        *,
        shedder: LoadShedder | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "max_queue_size": max_queue_size,
            "schedule_delay_millis": schedule_delay_millis,
            "max_export_batch_size": max_export_batch_size,
            "export_timeout_millis": export_timeout_millis,
        }
        given = {name: SETTING[name].check(value) for name, value in given.items() if value is not None}
        self.span_exporter = span_exporter
        if shedder is None:
            self.config = ShedConfig.from_env(**given)
        else:
            check_instance("shedder", getattr(shedder, "assembly", shedder), Assembly, "a LoadShedder")
            if max_queue_size is not None and max_export_batch_size is None:
                given["max_export_batch_size"] = min(given["max_queue_size"], shedder.config.max_export_batch_size)
            self.config = dataclasses.replace(shedder.config, **given)
        check_exporter(
            "span_exporter", span_exporter
        )  # after the sizes: the stock processor refuses those, and no more
        check_meter_provider(meter_provider)
        assembly = Assembly(self.config, meter_provider=meter_provider) if shedder is None else shedder.assembly
        if not self.config.enabled:
            self._become_stock(given, meter_provider)
            return
        self._pipeline = assembly.open_pipeline(span_exporter, config=self.config, meter_provider=meter_provider)
        self._stands_before(self._pipeline)
        self._assembly = assembly
        self._judge = assembly.control.gate.judging(decides_traces=True)
        self._offer, self._book = self._pipeline.intake.offer, self._pipeline.intake.book
        self._lost = self._pipeline.ledger.lost
        self._compile_on_end()

    def _compile_on_end(self) -> None:
        """Have the compiled hot path called instead of ``on_end``, where there is one for this; and measured."""
        on_end: OnEnd = self.on_end
        meter = self._assembly.control.meter
        if type(self).on_end is SheddingSpanProcessor.on_end:  # not one that a subclass has
            on_end = compiled_on_end(on_end, self._assembly.control, self._pipeline, self.config) or on_end
        if meter is not None:
            on_end = meter.metered(on_end)
        if on_end != self.on_end:
            self.on_end = on_end  # type: ignore[method-assign, assignment]

    def _become_stock(self, given: dict[str, Any], meter_provider: MeterProvider | None) -> None:
        stock = BatchSpanProcessor(self.span_exporter, **given, meter_provider=meter_provider)
        for name in ("on_start", "on_end", "_on_ending", "force_flush"):
            setattr(self, name, getattr(stock, name))
        self.shutdown = self._stands_for(stock.shutdown)  # type: ignore[method-assign]
        self.stats = Stats  # type: ignore[method-assign]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing: what a span is worth shows when it has ended."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended; does not wait for the exporter, whatever that is doing.

        In plain Python, where not even the frame of this call can be entered, its RecursionError is the caller's.
        """
        is_counted = False
        try:
            fates: list[DropReason | Fate] = []
            try:
                record = self._record(span, fates.append)
            except EXHAUSTED:
                raise
            except BaseException:  # of a signal handler: it is the application's to see, and the span is lost
                self._book(DropReason.ENCODE_FAILED)
                raise
            if record is not None:
                self._offer(record)
                is_counted = True
            for fate in reversed(fates):  # what is beside the account comes first, if it does
                self._book(fate)
                is_counted = True
        except EXHAUSTED:
            # Counted without a call, a comparison or memory, for none of which there may be room: see Ledger.lost. Who
            # queues and who books raise these only where they have not.
            lost, place = self._lost, 0
            while not is_counted:
                if lost[place]:
                    lost[place] -= 1
                    is_counted = True
                else:
                    lost[place] = 255
                    place += 1

    def _record(self, span: ReadableSpan, book: Book) -> SpanRecord | None:
        try:
            context = span.context
            sampled = bool(context and context.trace_flags.sampled)
        except Exception as error:
            if is_applications(error):
                raise
            book(DropReason.ENCODE_FAILED)
            _log.warning("on_end", "a span that cannot be read was dropped: %s", EncodeError(span, error))
            return None
        if not sampled:
            book(Fate.UNSAMPLED)
            return None
        judged = self._judge(span, book)
        return None if judged is None else self._pipeline.admission.record(span, *judged, book)

    def force_flush(self, timeout_millis: int | None = DEFAULT_TIMEOUT_MILLIS) -> bool:
        """Wait until everything that ended before this call is delivered, at most ``timeout_millis``.

        True only if every such span was accepted by the exporter or had been shed by choice; False if one of them, or
        one before them that no earlier flush has told of, was lost in export, and at the time limit, never later.
        """
        return self._pipeline.flush(seconds(timeout_millis))

    def shutdown(self, timeout_millis: int | None = DEFAULT_TIMEOUT_MILLIS) -> None:
        """Deliver what is held and close the exporter, within ``timeout_millis``.

        Gives up earlier after ``shutdown_grace_millis`` without progress. What was left behind is counted ``shutdown``
        and told in one log line, and ``stats().shutdown_was_lossy`` is True unless it arrives after all. Who calls it
        while another call is at it waits for that one: whether it came to its end says ``shutdown_completed``.
        """
        self._pipeline.shutdown(seconds(timeout_millis))

    def stats(self) -> Stats:
        """The account of this processor's spans."""
        return self._assembly.stats(self._pipeline)
