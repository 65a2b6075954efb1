"""Exporters whose last step, the network, is left out: they take spans at once, or hang."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import OTLPSpanExporter
from otel_shed.outcome import Outcome
from otel_shed.record import SpanRecord


class StockSink(SpanExporter):
    """For the stock processor, which leaves encoding to its exporter: it is left out too."""

    def __init__(self, hang: bool = False) -> None:
        self.hang = hang
        self.entered = threading.Event()
        self.over = threading.Event()
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        if self.hang:
            self.over.wait()
        self.taken += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.over.set()


class ShedSink(OTLPSpanExporter):
    """For ours, which encodes before."""

    def __init__(self, hang: bool = False) -> None:
        super().__init__()
        self.hang = hang
        self.entered = threading.Event()
        self.over = threading.Event()
        self.taken = 0

    def send_records(self, records: Sequence[SpanRecord], *, budget: float) -> Outcome:
        self.entered.set()
        if self.hang:
            self.over.wait()
        self.taken += len(records)
        return Outcome(accepted=len(records))

    def abort(self) -> None:
        self.over.set()
