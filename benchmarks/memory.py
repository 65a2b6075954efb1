"""Resident memory while the collector stalls: spans of 10 kB at a fixed rate, one line a second, and a curve.

The collector accepts connections and never answers. What may be held is max_held_bytes; the bound to hold is that and
64 MiB for the interpreter's own needs. Run: python benchmarks/memory.py [--rate 10000] [--seconds 60]
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
import time

import psutil
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig

MIB = 2**20
ALLOWANCE = 64 * MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=10_000, help="spans a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--attribute", type=int, default=10_000, help="bytes of each span's one attribute")
    parser.add_argument("--protocol", default="grpc", choices=["grpc", "http/protobuf"])
    parser.add_argument("--max-queue-size", type=int, default=100_000, help="high, so that bytes are what bounds it")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    stalled = socket.create_server(("127.0.0.1", 0))  # a backlog, and nobody who accepts
    port = stalled.getsockname()[1]
    config = ShedConfig(max_queue_size=arguments.max_queue_size)
    exporter = OTLPSpanExporter(protocol=arguments.protocol, endpoint=f"http://127.0.0.1:{port}", insecure=True)
    shedder = LoadShedder(config, exporter=exporter)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(shedder.span_processor())
    tracer = provider.get_tracer("benchmark")

    process = psutil.Process()
    for number in range(200):  # what is imported and cached at first use is not what is held
        tracer.start_span("warm", attributes={"number": number}).end()
    before = process.memory_info().rss
    allowed = config.max_held_bytes + ALLOWANCE
    worst, made, began = 0, 0, time.monotonic()
    print(f"bound {allowed / MIB:.0f} MiB: max_held_bytes {config.max_held_bytes / MIB:.0f} and {ALLOWANCE / MIB:.0f}")
    print(f"{'s':>4}{'spans/s':>10}{'held MiB':>10}{'grown MiB':>11}{'dropped':>10}")
    for second in range(1, int(arguments.seconds) + 1):
        made_before = made
        while (now := time.monotonic() - began) < second:
            if made < now * arguments.rate:
                payload = f"{made:08d}" * (arguments.attribute // 8)
                tracer.start_span("work", attributes={"payload": payload}).end()
                made += 1
            else:
                time.sleep(0.001)
        grown = process.memory_info().rss - before
        worst = max(worst, grown)
        stats = shedder.stats()
        bar = "#" * round(40 * grown / allowed)
        print(
            f"{second:>4}{made - made_before:>10}{stats.queued_bytes / MIB:>10.1f}{grown / MIB:>11.1f}"
            f"{sum(stats.dropped.values()):>10}  {bar}"
        )
    provider.shutdown()
    stalled.close()
    stats = shedder.stats()
    print(
        f"worst growth {worst / MIB:.1f} MiB of {allowed / MIB:.0f} allowed; ended {stats.ended}, "
        f"dropped {dict(stats.dropped)}, unaccounted {stats.unaccounted}"
    )
    return 0 if worst <= allowed and stats.unaccounted == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
