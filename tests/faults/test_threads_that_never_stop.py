"""Eight threads that end spans as fast as they can, before a slow exporter: every call keeps its time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otel_shed import SheddingSpanProcessor
from otel_shed.testing.exporters import RecordingExporter

THREADS = 8
# Beside eight threads that compute, one that waits has the interpreter every 40 ms; and the machine may be busy.
NOISE_SECONDS = 1.0


def seconds(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_every_call_keeps_its_time_limit() -> None:
    """stats() is at once, force_flush and shutdown return at their limits, and every span is accounted for."""
    processor = SheddingSpanProcessor(RecordingExporter(delay=1.0))
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer, over = provider.get_tracer(__name__), threading.Event()

    def end_spans() -> None:
        while not over.is_set():
            tracer.start_span("work").end()

    threads = [threading.Thread(target=end_spans) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        readings = [seconds(processor.stats) for _ in range(10)]
        flushes = [seconds(lambda: processor.force_flush(300)) for _ in range(3)]
        shutdown = seconds(lambda: processor.shutdown(500))
        last = seconds(processor.stats)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    print(f"\nstats {max(readings):.3f} s, force_flush(300) {max(flushes):.3f} s, shutdown(500) {shutdown:.3f} s")
    assert max(*readings, last) <= NOISE_SECONDS
    assert max(flushes) <= 0.3 + NOISE_SECONDS
    assert shutdown <= 0.5 + NOISE_SECONDS
    stats = processor.stats()
    assert (stats.unaccounted, stats.queued, stats.in_flight) == (0, 0, 0)
