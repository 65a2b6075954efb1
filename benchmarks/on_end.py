"""What Span.end() costs the program: on_end, stock and ours in turns, in one process (parity H1 to H3, R1).

With 1, 2, 4 and 8 threads and an exporter that takes everything at once, and with 1 and 8 and one that hangs while the
queue is full: what one call takes, and how many spans a second all threads together end. The exporters are OTLP ones
whose transport is replaced by nothing, so that each side pays for what it does before the network; for ours that
includes encoding, which the stock processor leaves to its worker.
Run: python benchmarks/on_end.py [--calls 100000]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from otel_shed.outcome import Outcome
from otel_shed.record import SpanRecord


class StockSink(SpanExporter):
    """Takes spans at once, or hangs."""

    def __init__(self, hang: bool) -> None:
        self.hang = hang
        self.over = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.hang:
            self.over.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.over.set()


class ShedSink(OTLPSpanExporter):
    """Our exporter with its last step, the network, left out."""

    def __init__(self, hang: bool) -> None:
        super().__init__()
        self.hang = hang
        self.over = threading.Event()

    def send_records(self, records: Sequence[SpanRecord], *, budget: float) -> Outcome:
        if self.hang:
            self.over.wait()
        return Outcome(accepted=len(records))

    def abort(self) -> None:
        self.over.set()


def ended_spans(count: int) -> list[ReadableSpan]:
    """Spans of five attributes, as the SDK hands them to a processor."""
    kept: list[ReadableSpan] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            kept.append(span)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Keep())
    tracer = provider.get_tracer("benchmark")
    for number in range(count):
        with tracer.start_as_current_span("GET /cart/{id}") as span:
            span.set_attribute("http.request.method", "GET")
            span.set_attribute("http.route", "/cart/{id}")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("cart.items", number)
            span.set_attribute("user.id", f"user-{number % 1000}")
    return kept


# Microseconds of one call, and spans a second.
COLUMNS = ("mean", "p50", "p99", "max", "spans/s")


def measure(processor: SpanProcessor, spans: list[ReadableSpan], threads: int) -> tuple[list[int], float]:
    """Nanoseconds of each call, and seconds of all."""
    times: list[list[int]] = [[] for _ in range(threads)]
    start = threading.Barrier(threads + 1)

    def run(mine: list[int], share: list[ReadableSpan]) -> None:
        on_end, now = processor.on_end, time.perf_counter_ns
        start.wait()
        for span in share:
            began = now()
            on_end(span)
            mine.append(now() - began)

    workers = [threading.Thread(target=run, args=(times[n], spans[n::threads])) for n in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - began
    return sorted(value for mine in times for value in mine), elapsed


def situation(
    make: Callable[[bool], SpanProcessor], spans: list[ReadableSpan], *, threads: int, hung: bool
) -> tuple[float, ...]:
    """The figures of one run, in the order of the columns."""
    processor = make(hung)
    for span in spans[:3000]:  # warm, and where it hangs: fill the queue
        processor.on_end(span)
    if not hung:
        processor.force_flush()
    times, seconds = measure(processor, spans, threads)
    exporter = processor.span_exporter
    exporter.over.set()
    processor.shutdown()
    inside = (statistics.fmean(times), times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
    return (*(nanoseconds / 1000 for nanoseconds in inside), len(times) / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # log lines are made, as in a program, and not written
    spans = ended_spans(5_000) * max(1, arguments.calls // 5_000)
    makers: dict[str, Callable[[bool], SpanProcessor]] = {
        "stock": lambda hang: BatchSpanProcessor(StockSink(hang)),
        "otel-shed": lambda hang: SheddingSpanProcessor(ShedSink(hang)),
    }
    print(f"{'situation':<28}{'':<12}" + "".join(f"{column:>11}" for column in COLUMNS) + "   calls in microseconds")
    costs: dict[tuple[str, int], float] = {}
    for threads, hung in ((1, False), (2, False), (4, False), (8, False), (1, True), (8, True)):
        rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in makers}
        for _ in range(arguments.rounds):
            for name, make in makers.items():
                rows[name].append(situation(make, spans, threads=threads, hung=hung))
        figures = {name: [statistics.median(column) for column in zip(*row, strict=True)] for name, row in rows.items()}
        label = f"{threads} thread{'s' if threads > 1 else ''}, {'hung and full' if hung else 'healthy'}"
        for name, values in figures.items():
            print(f"{label:<28}{name:<12}" + "".join(f"{value:>11.1f}" for value in values))
            if not hung:
                costs[name, threads] = 1.0 / values[-1]
        ratio = [ours / stock for ours, stock in zip(figures["otel-shed"], figures["stock"], strict=True)]
        print(f"{'':<28}{'ratio':<12}" + "".join(f"{value:>11.2f}" for value in ratio))
    for name in makers:
        print(f"{name}: a span costs {costs[name, 8] / costs[name, 1]:.2f} times as much with 8 threads as with 1")


if __name__ == "__main__":
    main()
