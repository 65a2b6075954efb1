"""A storm, through the stock SDK and through otel-shed: what survives when ten times too much is to be told.

Each side is a process of its own that makes the same ten-span traces of two seconds, about a thousand at a time, 1 %
of them failing, and has a collector of its own that takes 500 spans a second: (slow) it answers when it has worked off
what it got, (reject) it refuses what is more, with RESOURCE_EXHAUSTED and RetryInfo, or 429 and Retry-After. The sides
run one after the other, so that they do not compete for the processor. Counted are the traces that start from the fifth
second of the storm on. With ``--processes 2`` each trace goes through two processes, and one in fifty comes from a
parent that decided not to sample. OTEL_BSP_* and OTEL_SHED_* are heeded.

Run: python benchmarks/overload.py [--seconds 60] [--mode slow] [--protocol grpc] [--processes 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from otel_shed.command.storm.run import OURS, STOCK, Outcome, Plan, Side, SideName
from otel_shed.command.storm.table import table


def play(name: SideName, plan: Plan) -> Outcome:
    """One side, from beginning to end."""
    with Side(name, plan) as side:
        while side.running:
            time.sleep(0.2)
        return side.finish()


def tell(name: SideName, outcome: Outcome, *, with_log: bool) -> None:
    """What the two sides' table has no place for."""
    for process, closing in zip(("", " (second process)"), outcome.closings, strict=False):
        last = closing.last
        if last.ended is not None:
            dropped = ", ".join(f"{reason} {count:,}" for reason, count in last.dropped.items()) or "none"
            print(f"  {name}{process}: ended {last.ended:,}, exported {last.exported:,}, dropped: {dropped}")
        print(f"  {name}{process}: shut down in {closing.seconds_to_shut_down:.1f} s; lost calls: {closing.lost_calls}")
    refused = sum(spans for _, spans in outcome.refused)
    print(f"  {name}: refused requests {len(outcome.refused):,} of {refused:,} spans; rotel counted {outcome.counted}")
    if not outcome.closings:
        print(f"  {name}: did not come to its end")
    phases: list[str] = []
    for reading in outcome.readings:
        if reading.phase and (not phases or not phases[-1].endswith(reading.phase)):
            phases.append(f"{reading.at - outcome.readings[0].at:.1f} s {reading.phase}")
    if phases:
        print(f"  {name}: {', '.join(phases)}")
    if with_log:
        for line in outcome.log:
            print(f"  {name}: {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Plan()
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of the storm (default: 60)")
    parser.add_argument("--calm", type=float, default=defaults.calm, help="seconds after it (default: 15)")
    parser.add_argument("--rate", type=float, default=defaults.rate, help="spans a second (default: 5000)")
    parser.add_argument("--capacity", type=float, default=defaults.capacity, help="of the collector (default: 500)")
    parser.add_argument("--mode", choices=("slow", "reject"), action="append", help="both if not given")
    parser.add_argument("--protocol", choices=("grpc", "http/protobuf"), default=defaults.protocol)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1)
    parser.add_argument("--side", choices=(STOCK, OURS), action="append", help="both if not given")
    parser.add_argument("--head-sampler", action="store_true", help="have our side use its sampler too")
    parser.add_argument("--log", action="store_true", help="print what the sides logged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    plan = Plan(
        rate=options.rate,
        seconds=options.seconds,
        calm=options.calm,
        capacity=options.capacity,
        protocol=options.protocol,
        processes=options.processes,
        unsampled=0.02 if options.processes == 2 else 0.0,
        head_sampler=options.head_sampler,
    )
    results = {}
    for mode in options.mode or ("slow", "reject"):
        print(
            f"{mode}, {plan.protocol}, {plan.seconds:g} s at {plan.rate:,.0f} spans/s to {plan.capacity:,.0f}", end=""
        )
        print(f", {plan.processes} process{'es' if plan.processes > 1 else ''}", flush=True)
        outcomes = {name: play(name, replace(plan, mode=mode)) for name in options.side or (STOCK, OURS)}
        figures = {name: outcome.figures() for name, outcome in outcomes.items()}
        print("\n".join(table(figures.get(STOCK), figures.get(OURS))))
        for name, each in figures.items():
            if each is not None and plan.unsampled:
                print(
                    f"  {name}: {each.mixed:,} traces with two thresholds, {each.unwanted:,} spans that were unwanted"
                )
        for name, outcome in outcomes.items():
            tell(name, outcome, with_log=options.log)
        print(flush=True)
        results[mode] = {name: asdict(each) for name, each in figures.items() if each}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
