"""CPU per delivered span, stock and ours in turns, each run a process of its own, to a receiver in another process.

The processes make the same spans of five attributes as fast as they can, with a queue that holds them all, and end with
a shutdown that delivers them. Extra CPU is the run's own (all threads) less that of a run without a processor, divided
by the spans that the receiver counted. Run: python benchmarks/pipeline.py [--spans 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time


def child(kind: str, protocol: str, endpoint: str, count: int) -> None:
    """One run: make ``count`` spans, deliver them, print the CPU seconds that it took."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as StockGrpc
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockHttp
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

    logging.disable(logging.CRITICAL)
    provider = TracerProvider(shutdown_on_exit=False)
    grpc = protocol == "grpc"
    if kind == "stock":
        stock = StockGrpc(endpoint, insecure=True) if grpc else StockHttp(f"{endpoint}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(stock, max_queue_size=10**6))
    elif kind == "otel-shed":
        url = endpoint if grpc else f"{endpoint}/v1/traces"
        provider.add_span_processor(SheddingSpanProcessor(OTLPSpanExporter(protocol, url), max_queue_size=10**6))
    tracer = provider.get_tracer("benchmark")

    def make(number: int) -> None:
        with tracer.start_as_current_span("GET /cart/{id}") as span:
            span.set_attribute("http.request.method", "GET")
            span.set_attribute("http.route", "/cart/{id}")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("cart.items", number)
            span.set_attribute("user.id", f"user-{number % 1000}")

    for number in range(1000):
        make(number)
    provider.force_flush()
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(count):
        make(number)
    made = time.perf_counter() - began
    provider.force_flush(120_000)
    cpu = time.process_time() - cpu
    provider.shutdown()
    print(json.dumps({"cpu": cpu, "made": made}))


class Receiver:
    """The package's own receiver in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "otel_shed.testing.receiver", "--grpc-port", "0", "--http-port", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ports = json.loads(self.process.stdout.readline())
        self.endpoints = {
            "grpc": f"http://127.0.0.1:{ports['grpc_port']}",
            "http/protobuf": f"http://127.0.0.1:{ports['http_port']}",
        }

    def stop(self) -> int:
        """Stop it; the spans that it has counted."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=30)
        return int(json.loads(out.splitlines()[-1])["spans"])


def run(kind: str, protocol: str, count: int) -> tuple[float, float, int]:
    """CPU seconds, seconds to make the spans, spans delivered."""
    receiver = Receiver()
    try:
        out = subprocess.run(
            [sys.executable, __file__, "--child", kind, protocol, receiver.endpoints[protocol], str(count)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    finally:
        delivered = receiver.stop()
    figures = json.loads(out)
    return figures["cpu"], figures["made"], max(0, delivered - 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, protocol, endpoint, count = arguments.child
        child(kind, protocol, endpoint, int(count))
        return
    print(f"{'protocol':<16}{'':<12}{'spans/s made':>14}{'delivered':>11}{'CPU us/span':>13}   medians")
    for protocol in ("grpc", "http/protobuf"):
        rows: dict[str, list[tuple[float, float, float]]] = {"none": [], "stock": [], "otel-shed": []}
        for _ in range(arguments.rounds):
            for kind, row in rows.items():
                cpu, made, delivered = run(kind, protocol, arguments.spans)
                row.append((cpu, arguments.spans / made, delivered / arguments.spans))
        base = statistics.median(cpu for cpu, _, _ in rows["none"])
        extra = {}
        for kind, row in rows.items():
            cpu, rate, share = (statistics.median(column) for column in zip(*row, strict=True))
            extra[kind] = (cpu - base) / (arguments.spans * share) * 1e6 if share else 0.0
            print(f"{protocol:<16}{kind:<12}{rate:>14.0f}{share:>10.0%} {extra[kind]:>12.1f}")
        print(f"{'':<16}extra CPU, otel-shed to stock: {extra['otel-shed'] / extra['stock']:.2f}")


if __name__ == "__main__":
    main()
