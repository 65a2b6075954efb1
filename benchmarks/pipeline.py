"""What tracing costs the whole process, and what arrives: stock, ours and no processor, in turns, in one process.

    python -m benchmarks.pipeline [--rounds N] [--spans 16384] [--burst 40000]

Spans of five attributes are made as fast as possible and exported to a receiver in another process, over gRPC and HTTP,
with and without compression. First with a queue that holds them all, so that nothing is lost, in turns of 32 batches:
CPU is that of the whole process until all is delivered; extra CPU a delivered span is what is more than in the same
round without a processor, divided by the spans that the receiver counted. Short turns (--spans 4096) show what it is
where each begins with cold caches, and ends with a flush. Then bursts with the queue as it is by default, of one thread
and of several: how many of them are delivered, and how many a second the program makes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import operator
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.receiving import PROTOCOLS, ReceiverProcess, provider_of
from benchmarks.side_by_side import COMPILED, NONE, OURS, STOCK, options, plain_too, present, take_turns
from benchmarks.spans import make_span
from otel_shed.command.comparison import SHARE, Figure, Goal, compared

COMPRESSIONS = ("none", "gzip")
KINDS = (NONE, STOCK, OURS)
# Issue 5: at most a fifteenth over gRPC and a twentieth over HTTP, compiled and without compression.
TIMES_CHEAPER = {"grpc": 15.0, "http/protobuf": 20.0}
WHOLE = Goal(1.0, of_ratio=False)  # issue 5, of a burst
BURST_THREADS = (1, 8)
ALL = 10**6  # a queue that nothing is lost from
# Spans; short, so that a machine that changes its pace changes it for all candidates, and 32 batches, so that what a
# program does not do (the flush at its end, and giving its processor's caches up to the next candidate) does not count
# for much.
SLICE = 16_384
FLUSH_MILLIS = 120_000


@dataclass(frozen=True)
class Turn:
    """What one turn came to: CPU seconds of the process, seconds in which the spans were made, spans that arrived."""

    cpu: float
    seconds: float
    made: int
    delivered: int

    def __add__(self, other: Turn) -> Turn:
        return Turn(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


def turn(provider: TracerProvider, receiver: ReceiverProcess, count: int, *, threads: int = 1) -> Turn:
    tracer = provider.get_tracer("benchmark")

    def make(count: int) -> None:
        for number in range(count):
            make_span(tracer, number)

    others = [threading.Thread(target=make, args=(count // threads,)) for _ in range(threads - 1)]
    before = receiver.spans()
    began, cpu = time.perf_counter(), time.process_time()
    for thread in others:
        thread.start()
    make(count - count // threads * len(others))
    for thread in others:
        thread.join()
    seconds = time.perf_counter() - began
    provider.force_flush(FLUSH_MILLIS)
    cpu = time.process_time() - cpu
    return Turn(cpu, seconds, count, receiver.spans() - before)


def turns_of(
    providers: dict[str, TracerProvider],
    receiver: ReceiverProcess,
    count: int,
    rounds: int,
    *,
    slices: int = 1,
    threads: int = 1,
) -> dict[str, list[Turn]]:
    """Of each candidate in each round, which has so many slices, ``count`` spans each."""
    told: dict[str, list[Turn]] = {who: [] for who in providers}

    def take(who: str) -> float:
        told[who].append(turn(providers[who], receiver, count, threads=threads))
        return told[who][-1].cpu

    for provider in providers.values():
        turn(provider, receiver, 500)  # connected, and warm
    take_turns({who: functools.partial(take, who) for who in providers}, rounds * slices)
    for provider in providers.values():
        provider.shutdown()
    return {
        who: [functools.reduce(operator.add, own[first : first + slices]) for first in range(0, len(own), slices)]
        for who, own in told.items()
    }


def extra(turns: dict[str, list[Turn]]) -> dict[str, list[float]]:
    """Microseconds of CPU a delivered span, in each round."""
    free = [each.cpu for each in turns[NONE]]
    return {
        who: [(own.cpu - base) / max(1, own.delivered) * 1e6 for own, base in zip(turns[who], free, strict=True)]
        for who in turns
        if who != NONE
    }


def delivered(turns: dict[str, list[Turn]]) -> dict[str, list[float]]:
    """The share of the spans that arrived, in each round."""
    return {who: [each.delivered / each.made for each in own] for who, own in turns.items() if who != NONE}


def cost(arguments: argparse.Namespace, receiver: ReceiverProcess, protocol: str, compression: str) -> Iterator[Figure]:
    """With a queue that holds all."""
    providers = {who: provider_of(who, receiver, protocol, compression, max_queue_size=ALL) for who in KINDS}
    slices = max(1, arguments.spans // SLICE)
    turns = turns_of(providers, receiver, min(SLICE, arguments.spans), arguments.rounds, slices=slices)
    name = f"{protocol}, {compression}"
    yield from compared("pipeline", f"{name}: delivered", SHARE, delivered(turns))
    created = {who: [each.cpu / each.made * 1e6 for each in own] for who, own in turns.items()}
    yield from compared("pipeline", f"{name}: CPU a created span", "us", created)
    goals = {COMPILED: Goal(TIMES_CHEAPER[protocol])} if compression == "none" else {}
    yield from compared("pipeline", f"{name}: extra CPU, delivered", "us", extra(turns), goals=goals)


def burst(arguments: argparse.Namespace, receiver: ReceiverProcess, protocol: str, threads: int) -> Iterator[Figure]:
    """With everything as it is by default."""
    providers = {who: provider_of(who, receiver, protocol) for who in KINDS}
    turns = turns_of(providers, receiver, arguments.burst, max(1, arguments.rounds // 4), threads=threads)
    name = f"{protocol}, burst of {arguments.burst:,}" + (f", {threads} threads" if threads > 1 else "")
    goals = {OURS: WHOLE} if threads == 1 else {}
    yield from compared("pipeline", f"{name}: delivered", SHARE, delivered(turns), goals=goals, more_is_better=True)
    rates = {who: [each.made / each.seconds for each in own] for who, own in turns.items()}
    yield from compared("pipeline", f"{name}: made", "spans/s", rates, more_is_better=True)
    yield from compared("pipeline", f"{name}: extra CPU", "us", extra(turns))


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds, arguments.burst = min(arguments.rounds, 3), min(arguments.burst, 10_000)
        arguments.spans = min(arguments.spans, 8_192)
    with ReceiverProcess() as receiver:
        for protocol, compression in itertools.product(PROTOCOLS, COMPRESSIONS):
            yield from cost(arguments, receiver, protocol, compression)
        for protocol, threads in itertools.product(PROTOCOLS, BURST_THREADS):
            yield from burst(arguments, receiver, protocol, threads)
    yield from plain_too("pipeline", arguments)


def main() -> int:
    parser = options(__doc__, rounds=12)
    parser.add_argument("--spans", type=int, default=16_384, help="of a round (16384)")
    parser.add_argument("--burst", type=int, default=40_000, help="spans of a burst (40000)")
    arguments = parser.parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
