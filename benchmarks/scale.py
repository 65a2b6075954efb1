"""Whether a span costs the same after 10^6 as after 10^3, and with 8 threads as with 1: stock and ours in turns.

    python -m benchmarks.scale [--rounds N] [--spans 1000000]

Ended spans, each a trace of its own, are handed to on_end in blocks of a batch, and the worker is waited for. The
exporter takes all at once. A span's cost is CPU time of the whole process, the worker's included. A processor that has
seen so many spans takes turns with new ones that have seen a thousand; many threads take turns with one. Stock's and
ours are not to be compared here: ours encodes, and stock leaves that to its exporter, which is left out.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.side_by_side import OURS, STOCK, options, plain_too, present
from benchmarks.sinks import ShedSink, StockSink
from benchmarks.spans import SpanMint
from otel_shed import SheddingSpanProcessor
from otel_shed.command.comparison import Figure, Goal, compared

BLOCK = 512  # spans: a batch by default
YOUNG = 1_000
PAIRS = 20  # of blocks, in each round
THREADS = (1, 2, 4, 8)
TOGETHER = 16_000  # spans of all threads
AGED = Goal(1.1, at_least=False, of_ratio=False)
CROWDED = Goal(1.5, at_least=False, of_ratio=False)


class Subject:
    """A processor and what is behind it."""

    def __init__(self, who: str, **settings: int) -> None:
        self.sink = StockSink() if who == STOCK else ShedSink()
        make = BatchSpanProcessor if who == STOCK else SheddingSpanProcessor
        self.processor: SpanProcessor = make(self.sink, **settings)

    def block(self, spans: Sequence[ReadableSpan]) -> float:
        """CPU microseconds a span, until the worker has had its turn."""
        on_end = self.processor.on_end
        self.sink.entered.clear()
        cpu = time.process_time()
        for span in spans:
            on_end(span)
        self.sink.entered.wait(0.1)
        return (time.process_time() - cpu) / len(spans) * 1e6


def young(who: str, mint: SpanMint) -> Subject:
    """One that has seen a thousand spans."""
    subject = Subject(who)
    for _ in range(YOUNG // BLOCK + 1):
        subject.block(mint.make(BLOCK))
    return subject


def by_age(who: str, most: int, mint: SpanMint) -> Iterator[tuple[int, float, float]]:
    """At each power of ten: how many spans, what one costs, and how many times what it costs a young processor."""
    old, seen = Subject(who), 0
    aims = [10**power for power in range(4, 10) if 10**power <= most]
    for aim in aims:
        while seen < aim:
            old.block(mint.make(BLOCK))
            seen += BLOCK
        own: list[float] = []
        times: list[float] = []
        for _ in range(PAIRS):
            other = young(who, mint)
            gc.collect()
            pair = other.block(mint.make(BLOCK)), old.block(mint.make(BLOCK))
            seen += BLOCK
            own.append(pair[1])
            times.append(pair[1] / pair[0])
            other.processor.shutdown()
        yield aim, statistics.median(own), statistics.median(times)
    old.processor.shutdown()


def ages(arguments: argparse.Namespace, mint: SpanMint) -> Iterator[Figure]:
    cost: dict[int, dict[str, list[float]]] = {}
    times: dict[int, dict[str, list[float]]] = {}
    for _ in range(max(1, arguments.rounds // 4)):
        for who in (STOCK, OURS):
            for seen, own, ratio in by_age(who, arguments.spans, mint):
                cost.setdefault(seen, {}).setdefault(who, []).append(own)
                times.setdefault(seen, {}).setdefault(who, []).append(ratio)
    for seen, rounds in cost.items():
        yield from compared("scale", f"a span after {seen:,}", "us", rounds, with_ratio=False)
        goals = {OURS: AGED} if seen == max(cost) else {}
        yield from compared(
            "scale", f"a span after {seen:,}, to 1,000", "times", times[seen], goals=goals, with_ratio=False
        )


def crowd(processor: SpanProcessor, spans: Sequence[ReadableSpan], threads: int) -> float:
    """CPU microseconds a span when so many threads end them at once, until all are exported."""
    # Each has spans that were made one after the other, as threads that make their own do: in steps through the memory
    # one thread takes a third longer, too.
    share = -(-len(spans) // threads)
    shares = [spans[first : first + share] for first in range(0, len(spans), share)]
    start = threading.Barrier(len(shares) + 1)

    def run(share: Sequence[ReadableSpan]) -> None:
        on_end = processor.on_end
        start.wait()
        for span in share:
            on_end(span)

    workers = [threading.Thread(target=run, args=(each,)) for each in shares]
    for worker in workers:
        worker.start()
    cpu = time.process_time()
    start.wait()
    for worker in workers:
        worker.join()
    processor.force_flush()
    return (time.process_time() - cpu) / len(spans) * 1e6


def crowds(arguments: argparse.Namespace, mint: SpanMint) -> Iterator[Figure]:
    spans = mint.make(TOGETHER)
    subjects = {who: Subject(who, max_queue_size=10**6) for who in (STOCK, OURS)}
    told: dict[int, dict[str, list[float]]] = {number: {who: [] for who in subjects} for number in THREADS}
    for subject in subjects.values():
        crowd(subject.processor, spans, 2)
    for _ in range(arguments.rounds):
        for who, subject in subjects.items():
            for number in THREADS:
                gc.collect()
                told[number][who].append(crowd(subject.processor, spans, number))
    for subject in subjects.values():
        subject.processor.shutdown()
    for number, rounds in told.items():
        what = f"a span, {number} thread{'s' if number > 1 else ''}"
        yield from compared("scale", what, "us", rounds, with_ratio=False)
        if number > 1:
            times = {who: [many / one for many, one in zip(rounds[who], told[1][who], strict=True)] for who in rounds}
            goals = {OURS: CROWDED} if number == max(THREADS) else {}
            yield from compared(
                "scale", f"a span, {number} threads, to 1", "times", times, goals=goals, with_ratio=False
            )


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds, arguments.spans = min(arguments.rounds, 4), min(arguments.spans, 100_000)
    mint = SpanMint()
    yield from crowds(arguments, mint)
    yield from ages(arguments, mint)
    yield from plain_too("scale", arguments)


def main() -> int:
    parser = options(__doc__, rounds=12)
    parser.add_argument("--spans", type=int, default=1_000_000, help="of the long run (1000000)")
    arguments = parser.parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
