"""What tracing does to a program that makes spans as fast as it can: beside stock, and a processor that does nothing.

    python benchmarks/producer.py [--threads 4] [--collector refusing] [--rounds 3] [--seconds 4.5]

1, 4 and 8 threads that do nothing but make spans of five attributes, and an event loop that ends 20,000 a second in
bursts (benchmarks/producing.py), while the collector (benchmarks/collector.py) is healthy, slow (500 spans/s), refuses
everything, or never answers. The three sides take turns within a round, each in a fresh process, to a fresh collector,
and with everything as it is by default. What is told: the share of the threads' time that goes into calls of
``Span.end()`` of more than 2 ms, the longest call and the 99.9th percentile, spans a second, and p99.9 of the event
loop's lag. All of it is by the clock: it is for a machine that is idle but for this.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.collector import COLLECTORS, HEALTHY, REFUSING, CollectorProcess
from benchmarks.producing import ASYNCIO, NOTHING, CameTo
from benchmarks.receiving import PROTOCOLS
from benchmarks.side_by_side import OURS, ROOT, STOCK, options, present, take_turns
from otel_shed.command.comparison import SHARE, Figure, Goal, compared

SIDES = (NOTHING, STOCK, OURS)
PROGRAMS = ("1", "4", "8", ASYNCIO)
QUICK_PROGRAMS, QUICK_COLLECTORS, QUICK_SECONDS = ("4", ASYNCIO), (HEALTHY, REFUSING), 1.0
# A turn that takes longer than its time by this much has failed.
_PATIENCE_SECONDS = 60.0

# Issue 15, "What it must show"; times the processor that does nothing, by medians of the same run.
SHARE_TIMES, LONGEST_TIMES, RATE_TIMES, P999_TIMES, LAG_TIMES = 1.3, 1.5, 0.9, 2.0, 1.3
LONGEST_MILLIS = 10.0
# One call that falls into a time slice of the system's scheduler: in less than this a share is not measured.
LEAST_SHARE = 0.001

Turns = Mapping[str, Sequence[CameTo]]


def turn(side: str, program: str, collector: str, seconds: float, protocol: str) -> CameTo:
    """One side, in a process of its own, to a collector of its own."""
    with CollectorProcess(collector) as there:
        command = [sys.executable, "-m", "benchmarks.producing", side, program, str(seconds)]
        told = subprocess.run(
            [*command, protocol, there.endpoints[protocol]],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=seconds + _PATIENCE_SECONDS,
        ).stdout
    return CameTo(**json.loads(told))


def goals_of(turns: Turns, program: str) -> dict[str, Goal]:
    """What ours has to be, by the medians of the others: by the field that is judged."""

    def median(side: str, value: Callable[[CameTo], float]) -> float:
        return statistics.median(value(each) for each in turns[side])

    def at_most(limit: float) -> Goal:
        return Goal(limit, at_least=False, of_ratio=False)

    if program == ASYNCIO:
        lag = median(NOTHING, lambda each: each.lag or 0.0)
        return {
            "p999": at_most(P999_TIMES * median(NOTHING, lambda each: each.p999) * 1e6),
            "lag": at_most(LAG_TIMES * lag * 1e3),
        }
    share = min(median(STOCK, lambda each: each.share), SHARE_TIMES * median(NOTHING, lambda each: each.share))
    longest = LONGEST_TIMES * median(NOTHING, lambda each: each.longest) * 1e3
    return {
        "share": at_most(max(LEAST_SHARE, share)),
        "longest": at_most(max(LONGEST_MILLIS, longest)),
        "rate": Goal(RATE_TIMES * median(NOTHING, lambda each: each.rate), of_ratio=False),
    }


# Field, words, unit, and how many of the unit make one of the field's.
QUANTITIES = (
    ("share", "time in end() over 2 ms", SHARE, 1.0),
    ("longest", "longest end()", "ms", 1e3),
    ("p999", "p99.9 of end()", "us", 1e6),
    ("rate", "made", "spans/s", 1.0),
    ("lag", "lag of the loop, p99.9", "ms", 1e3),
)


def figures_of(turns: Turns, program: str, collector: str) -> Iterator[Figure]:
    """Of one program and one kind of collector."""
    what = ASYNCIO if program == ASYNCIO else f"{program} thread{'' if program == '1' else 's'}"
    goals = goals_of(turns, program)
    for field, words, unit, factor in QUANTITIES:
        if field == "lag" and program != ASYNCIO:
            continue
        rounds = {side: [(getattr(each, field) or 0.0) * factor for each in own] for side, own in turns.items()}
        goal = {OURS: goals[field]} if field in goals else {}
        yield from compared("producer", f"{what}, {collector}: {words}", unit, rounds, goals=goal, with_ratio=False)


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    """Of all that is asked for."""
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, min(arguments.seconds, QUICK_SECONDS)
    programs = arguments.threads or (QUICK_PROGRAMS if arguments.quick else PROGRAMS)
    collectors = arguments.collector or (QUICK_COLLECTORS if arguments.quick else COLLECTORS)
    for program, collector in itertools.product(programs, collectors):
        turns: dict[str, list[CameTo]] = {side: [] for side in SIDES}

        def take(side: str, turns: dict[str, list[CameTo]], program: str, collector: str) -> float:
            turns[side].append(turn(side, program, collector, arguments.seconds, arguments.protocol))
            return turns[side][-1].rate

        works = {
            side: functools.partial(take, side, turns=turns, program=program, collector=collector) for side in SIDES
        }
        take_turns(works, arguments.rounds, collect=False)
        yield from figures_of(turns, program, collector)


def _program(text: str) -> str:
    if text != ASYNCIO and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of threads nor {ASYNCIO}")
    return text


def main() -> int:
    parser = options(__doc__, rounds=3)
    parser.add_argument(
        "--threads", nargs="+", type=_program, metavar="N", help=f"how many, or {ASYNCIO} ({' '.join(PROGRAMS)})"
    )
    parser.add_argument("--collector", nargs="+", choices=COLLECTORS, help=f"which ({' '.join(COLLECTORS)})")
    parser.add_argument("--seconds", type=float, default=4.5, help="of a turn (4.5)")
    parser.add_argument("--protocol", choices=PROTOCOLS, default=PROTOCOLS[0])
    arguments = parser.parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
