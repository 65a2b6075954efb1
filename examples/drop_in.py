"""The drop-in for BatchSpanProcessor, with an exporter that is not ours: one line of an existing set-up changes.

    python examples/drop_in.py

The exporter here fails now and then, as they do; the stock processor would not say so.
"""

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import SheddingSpanProcessor


class FailingExporter(SpanExporter):
    """Stands for the exporter of your vendor; every third batch fails."""

    def __init__(self) -> None:
        self.batches = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        return SpanExportResult.FAILURE if self.batches % 3 == 0 else SpanExportResult.SUCCESS


# Before: processor = BatchSpanProcessor(FailingExporter(), max_export_batch_size=10)
processor = SheddingSpanProcessor(FailingExporter(), max_export_batch_size=10)

provider = TracerProvider()
provider.add_span_processor(processor)
trace.set_tracer_provider(provider)

tracer = trace.get_tracer("shop")
for number in range(60):
    with tracer.start_as_current_span("order", attributes={"order.number": number}):
        pass

print(f"everything delivered: {provider.force_flush()}")
stats = processor.stats()
print(f"ended {stats.ended}, exported {stats.exported}, dropped {dict(stats.dropped)}, unknown {stats.unaccounted}")
provider.shutdown()
