"""Spans with 10 kB attributes at 10,000 a second. Arguments: the protocol, the endpoint. Prints how memory grew."""

import sys
import time

import psutil
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

PROTOCOL, ENDPOINT = sys.argv[1:]
RATE, SPANS, BURST = 10_000, 40_000, 100

processor = SheddingSpanProcessor(OTLPSpanExporter(protocol=PROTOCOL, endpoint=ENDPOINT), max_queue_size=1_000_000)
provider = TracerProvider()
provider.add_span_processor(processor)
tracer = provider.get_tracer(__name__)
process = psutil.Process()


def end_spans(count: int) -> None:
    for number in range(count):
        tracer.start_span("work", attributes={"body": f"{number:010}" * 1_000}).end()


end_spans(BURST)
before = highest = process.memory_info().rss
most_held = 0
began = time.monotonic()
for burst in range(SPANS // BURST):
    end_spans(BURST)
    highest = max(highest, process.memory_info().rss)
    most_held = max(most_held, processor.stats().queued_bytes)
    time.sleep(max(0.0, began + (burst + 1) * BURST / RATE - time.monotonic()))
stats = processor.stats()
print("rate", round(SPANS / (time.monotonic() - began)))
print("growth", highest - before)
print("most held", most_held)
print("dropped", sum(stats.dropped.values()))
print("unaccounted", stats.unaccounted)
processor.shutdown(0)
