"""What Span.end() costs the program: on_end, stock and ours in turns, in one process (parity H1 to H3, R1).

    python -m benchmarks.on_end [--rounds N] [--calls 10000]

First of a program that makes spans: CPU of its thread a span, beyond that of one whose processor does nothing. Then of
nothing but on_end, with 1, 2, 4 and 8 threads and an exporter that takes everything at once, and with 1 and 8 and one
that hangs while the queue is full; for ours with our exporter and with another one. The exporters' last step, the
network, is left out, so that each side pays for what it does before that; with our exporter this includes encoding,
which the stock processor leaves to its worker. What a call costs is CPU time of the threads that make it, with time for
the worker after every batch while it is healthy. Its quantiles, and how many spans a second all threads end, are by the
clock, as fast as possible.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.side_by_side import COMPILED, NONE, OURS, STOCK, options, plain_too, present, take_turns
from benchmarks.sinks import ShedSink, StockSink
from benchmarks.spans import ended_spans, make_span
from otel_shed import SheddingSpanProcessor
from otel_shed.command.comparison import Figure, Goal, compared

# Ours before an exporter that is not: it gets the spans themselves, and encodes them when it will.
OTHER = f"{OURS}, another exporter"
SITUATIONS = ((1, False), (2, False), (4, False), (8, False), (1, True), (8, True))
# Issue 5, of the compiled parts.
HEALTHY, FULL = Goal(1.3), Goal(8.0)
BATCH = 512
PAUSE_SECONDS = 0.002
# Few: in a program the span that ends has just been written, and is in the processor's cache, which 512 may exceed.
SPANS = 32
MADE = 4_096
QUEUE = 2_048


class Nothing(SpanProcessor):
    """Does nothing with spans."""

    def on_end(self, span: ReadableSpan) -> None:
        pass


@dataclass(frozen=True)
class Turn:
    """Microseconds of CPU a call; of the clock p50, p99 and the most of a call; calls a second of all threads."""

    cpu: float
    p50: float
    p99: float
    most: float
    rate: float


Call = Callable[[ReadableSpan], None]


def together(threads: int, run: Callable[[int], None]) -> float:
    """Seconds until all have run."""
    start = threading.Barrier(threads + 1)

    def begin(number: int) -> None:
        start.wait()
        run(number)

    workers = [threading.Thread(target=begin, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def cpu_of_calls(on_end: Call, spans: Sequence[ReadableSpan], calls: int, threads: int, pause: float) -> float:
    """Microseconds of the calling threads; ``pause``: seconds after each batch of all of them."""
    chunk = spans[: BATCH // threads]
    chunks = max(1, calls // (threads * len(chunk)))
    taken = [0.0] * threads

    def run(number: int) -> None:
        for _ in range(chunks):
            began = time.thread_time()
            for span in chunk:
                on_end(span)
            taken[number] += time.thread_time() - began
            if pause:
                time.sleep(pause)

    together(threads, run)
    return sum(taken) / (threads * chunks * len(chunk)) * 1e6


def times_of_calls(on_end: Call, spans: Sequence[ReadableSpan], calls: int, threads: int) -> tuple[list[int], float]:
    """Nanoseconds of each call, in order of size, and seconds of all."""
    times: list[list[int]] = [[] for _ in range(threads)]

    def run(number: int) -> None:
        mine, now = times[number], time.perf_counter_ns
        for span in itertools.islice(itertools.cycle(spans), calls // threads):
            began = now()
            on_end(span)
            mine.append(now() - began)

    seconds = together(threads, run)
    return sorted(itertools.chain.from_iterable(times)), seconds


def turn(who: str, spans: Sequence[ReadableSpan], calls: int, threads: int, hung: bool) -> Turn:
    sink = (ShedSink if who == OURS else StockSink)(hung)
    processor: SpanProcessor = (BatchSpanProcessor if who == STOCK else SheddingSpanProcessor)(sink)
    on_end = processor.on_end
    for span in itertools.islice(itertools.cycle(spans), QUEUE + 2 * BATCH if hung else BATCH):
        on_end(span)
    if hung:
        sink.entered.wait(10)
        for span in itertools.islice(itertools.cycle(spans), QUEUE + BATCH):
            on_end(span)
    else:
        processor.force_flush()
    cpu = cpu_of_calls(on_end, spans, calls, threads, 0.0 if hung else PAUSE_SECONDS)
    times, seconds = times_of_calls(on_end, spans, calls, threads)
    sink.over.set()
    processor.shutdown()
    quantiles = (times[len(times) // 2] / 1e3, times[len(times) * 99 // 100] / 1e3, times[-1] / 1e3)
    return Turn(cpu, *quantiles, len(times) / seconds)


def in_situation(
    spans: Sequence[ReadableSpan], calls: int, rounds: int, *, threads: int, hung: bool
) -> dict[str, list[Turn]]:
    """Of each candidate in each round."""
    told: dict[str, list[Turn]] = {who: [] for who in (STOCK, OURS, OTHER)}

    def take(who: str) -> float:
        told[who].append(turn(who, spans, calls, threads, hung))
        return told[who][-1].cpu

    take_turns({who: functools.partial(take, who) for who in told}, rounds)
    return told


def in_program(rounds: int) -> dict[str, list[float]]:
    """Microseconds of the thread that makes spans, a span, beyond those of one whose processor does nothing."""
    processors: dict[str, SpanProcessor] = {
        NONE: Nothing(),
        STOCK: BatchSpanProcessor(StockSink(), max_queue_size=2 * MADE),
        OURS: SheddingSpanProcessor(ShedSink(), max_queue_size=2 * MADE),
    }
    providers = {who: TracerProvider(shutdown_on_exit=False) for who in processors}

    def take(who: str) -> float:
        tracer = providers[who].get_tracer("benchmark")
        began = time.thread_time()
        for number in range(MADE):
            make_span(tracer, number)
        taken = time.thread_time() - began
        providers[who].force_flush()
        return taken / MADE * 1e6

    for who, processor in processors.items():
        providers[who].add_span_processor(processor)
        take(who)
    taken = take_turns({who: functools.partial(take, who) for who in providers}, rounds)
    for provider in providers.values():
        provider.shutdown()
    return {who: [own - none for own, none in zip(taken[who], taken[NONE], strict=True)] for who in (STOCK, OURS)}


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds, arguments.calls = min(arguments.rounds, 3), min(arguments.calls, 5_000)
    healthy = {COMPILED: HEALTHY}
    yield from compared("on_end", "in a program: CPU a span", "us", in_program(5 * arguments.rounds), goals=healthy)
    spans = ended_spans(SPANS) * (BATCH // SPANS)
    rates: dict[int, dict[str, list[float]]] = {}
    for threads, hung in SITUATIONS:
        turns = in_situation(spans, arguments.calls, arguments.rounds, threads=threads, hung=hung)

        def of(name: str, turns: dict[str, list[Turn]] = turns) -> dict[str, list[float]]:
            return {who: [getattr(each, name) for each in own] for who, own in turns.items()}

        name = f"{threads} thread{'s' if threads > 1 else ''}, {'hung and full' if hung else 'healthy'}"
        goal = FULL if hung else HEALTHY
        goals = {COMPILED: goal, f"{COMPILED}, another exporter": goal} if threads in (1, 8) else {}
        yield from compared("on_end", f"{name}: CPU a call", "us", of("cpu"), goals=goals)
        for field in ("p50", "p99", "most"):
            yield from compared("on_end", f"{name}: {field}", "us", of(field))
        yield from compared("on_end", f"{name}: all threads", "spans/s", of("rate"), more_is_better=True)
        if not hung:
            rates[threads] = of("rate")
    times = {who: [one / many for one, many in zip(rates[1][who], rates[8][who], strict=True)] for who in rates[1]}
    yield from compared("on_end", "by the clock, 8 threads to 1", "times", times, with_ratio=False)
    yield from plain_too("on_end", arguments)


def main() -> int:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--calls", type=int, default=10_000, help="of a turn (10000)")
    arguments = parser.parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
