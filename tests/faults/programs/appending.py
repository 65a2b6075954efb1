"""What the programs beside this file export to: a file that they and their children append to."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import SheddingSpanProcessor


class AppendingExporter(SpanExporter):
    """A line for each span: the process that exports it, and its name. ``delay``: seconds that each export takes."""

    def __init__(self, path: str | Path, delay: float = 0.0) -> None:
        self._path = path
        self._delay = delay

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._delay:
            time.sleep(self._delay)
        lines = "".join(f"{os.getpid()} {span.name}\n" for span in spans)
        with open(self._path, "ab", buffering=0) as file:
            file.write(lines.encode())
        return SpanExportResult.SUCCESS


def provider_to(exporter: SpanExporter, *, shutdown_on_exit: bool = True) -> TracerProvider:
    """A provider whose batches are due at the end, or when somebody flushes, or when there are many spans."""
    provider = TracerProvider(shutdown_on_exit=shutdown_on_exit)
    provider.add_span_processor(SheddingSpanProcessor(exporter, max_queue_size=200_000, schedule_delay_millis=600_000))
    return provider


def end_spans(provider: TracerProvider, prefix: str, count: int) -> None:
    """End spans that are named by prefix and number."""
    tracer = provider.get_tracer(__name__)
    for number in range(count):
        tracer.start_span(f"{prefix}-{number}").end()
