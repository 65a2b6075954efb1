"""How much tracing slows down the program that it observes: stock, ours and no processor, in turns, in one process.

    python -m benchmarks.observer [--rounds N] [--seconds 2] [--protocol grpc]

A single-threaded program does units of pure-Python work of 200 us and in between makes spans at a fixed rate, 1,000
and 5,000 a second, which are exported to a receiver in another process. Work lost is how much less of it is done than
in the turn of the same round without a processor. Time is the CPU time of the whole process until everything is
delivered, a unit counted as 200 us: so neither other programs nor a processor that changes its pace spoil it, and what
runs on a second core is lost too. The quantiles of a unit are in the same time: while it waits for the interpreter
lock, the thread that holds it runs, and is counted; while another program runs, nothing is.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.receiving import PROTOCOLS, ReceiverProcess, provider_of
from benchmarks.side_by_side import COMPILED, NONE, OURS, PLAIN, STOCK, options, plain_too, present, take_turns
from benchmarks.spans import make_span
from otel_shed.command.comparison import SHARE, Figure, Goal, compared

RATES = (1_000, 5_000)
UNIT_SECONDS = 200e-6
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
# Issue 5, "What it must show"; stock lost 60-65 %, with 6.6-10.8 ms at p99.9.
MOST_LOST = {COMPILED: 0.05, PLAIN: 0.12}
MOST_MILLIS = 1.2


@dataclass(frozen=True)
class Turn:
    """work: the units' share of the process's CPU time. millis: quantiles of a unit. delivered: share of the spans."""

    work: float
    millis: tuple[float, ...]
    delivered: float


def unit_of_work() -> Callable[[], int]:
    """About 200 us of pure Python on this machine, when nothing else runs."""

    def work(steps: int) -> int:
        total = 0
        for step in range(steps):
            total += step * step % 7
        return total

    def seconds(steps: int) -> float:
        began = time.thread_time()
        work(steps)
        return time.thread_time() - began

    least = min(seconds(10_000) for _ in range(50))
    return functools.partial(work, round(10_000 * UNIT_SECONDS / least))


def turn(
    provider: TracerProvider, receiver: ReceiverProcess, rate: int, seconds: float, unit: Callable[[], int]
) -> Turn:
    tracer = provider.get_tracer("benchmark")
    own_cpu, all_cpu = time.thread_time, time.process_time
    times: list[float] = []
    before = receiver.spans()
    made, at_work, scale = 0, 0.0, 1.0
    began = all_cpu()
    while (passed := (all_cpu() - began) * scale) < seconds:
        while made < passed * rate:
            make_span(tracer, made)
            made += 1
        start, own_start = all_cpu(), own_cpu()
        unit()
        at_work += own_cpu() - own_start
        times.append(all_cpu() - start)
        scale = len(times) * UNIT_SECONDS / at_work
    provider.force_flush(30_000)
    cpu = all_cpu() - began
    ordered = sorted(times)
    millis = tuple(ordered[int(len(ordered) * share)] * scale * 1e3 for share in QUANTILES.values())
    return Turn(at_work / cpu, millis, (receiver.spans() - before) / made)


def at_rate(rate: int, arguments: argparse.Namespace, receiver: ReceiverProcess) -> Iterator[Figure]:
    unit = unit_of_work()
    kinds = (NONE, STOCK, OURS) if OURS == COMPILED else (NONE, OURS)  # plain Python has stock's figures from before
    providers = {who: provider_of(who, receiver, arguments.protocol) for who in kinds}
    seconds = 1.0 if arguments.quick else arguments.seconds
    turns: dict[str, list[Turn]] = {who: [] for who in kinds}

    def take(who: str) -> float:
        turns[who].append(turn(providers[who], receiver, rate, seconds, unit))
        return turns[who][-1].work

    for who in kinds:
        turn(providers[who], receiver, rate, 0.3, unit)  # connected, and warm
    take_turns({who: functools.partial(take, who) for who in kinds}, 2 if arguments.quick else arguments.rounds)
    for provider in providers.values():
        provider.shutdown()

    name = f"{rate:,} spans/s"
    free = [each.work for each in turns[NONE]]
    lost = {
        who: [1 - own.work / without for own, without in zip(turns[who], free, strict=True)]
        for who in kinds
        if who != NONE
    }
    goals = {who: Goal(most, False, False) for who, most in MOST_LOST.items() if rate == max(RATES)}
    yield from compared("observer", f"{name}: work lost", SHARE, lost, goals=goals)
    for index, quantile in enumerate(QUANTILES):
        judged = quantile == "p99.9" and rate == max(RATES)
        goals = {COMPILED: Goal(MOST_MILLIS, False, False)} if judged else {}
        millis = {who: [each.millis[index] for each in taken] for who, taken in turns.items()}
        yield from compared("observer", f"{name}: unit of 200 us, {quantile}", "ms", millis, goals=goals)
    delivered = {who: [each.delivered for each in turns[who]] for who in kinds if who != NONE}
    yield from compared("observer", f"{name}: delivered", SHARE, delivered, more_is_better=True)


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    with ReceiverProcess() as receiver:
        for rate in RATES:
            yield from at_rate(rate, arguments, receiver)
    yield from plain_too("observer", arguments)


def main() -> int:
    parser = options(__doc__, rounds=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn (2)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    arguments = parser.parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
