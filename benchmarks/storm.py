"""Storms in full length: what a program loses, says and pays while its collector takes a tenth of what it offers.

A collector, in a process of its own, takes 500 spans a second: a slow one, and one that rejects what is more. Another
process offers 5,000 a second for 30 s, in traces of ten spans that last a second, and then 200. After that, tracing's
share of the CPU of a program that would spend a quarter of it on tracing, limited to 2 %, over a minute.

Run: python benchmarks/storm.py [--seconds 30] [--calm 15] [--minute 60]; the tests run the same in short.
"""

from __future__ import annotations

import argparse
import itertools

from tests.faults.delivered import run, value_of
from tests.faults.raw_server import RawServer
from tests.faults.storms import Storm, collector, ended, program, take_all

CAPACITY, OFFERED, AFTER = 500, 5_000, 200
FIRST = 5.0
HEAD = (
    f"{'protocol':<14}{'collector':<11}{'offered/s':>10}{'taken/s':>9}{'of it':>7}"
    f"{'queue_full: first 5 s':>23}{'after':>7}{'changes':>9}{'full after':>12}{'unaccounted':>13}"
    f"{'end() p50':>11}{'p99':>8}{'max':>10}"
)


def row(protocol: str, how: str, storm: Storm) -> str:
    """One storm in figures."""
    first, last = (steady := storm.since(FIRST))[0], steady[-1]
    seconds = last.at - first.at
    offered, taken, lost = (
        getattr(last, name) - getattr(first, name) for name in ("offered", "exported", "overflowed")
    )
    changes = sum(first.at <= at < last.at for at, _, _ in storm.changes)
    full = storm.full_again_after
    ends = storm.ends
    return (
        f"{protocol:<14}{how:<11}{offered / seconds:>10.0f}{taken / seconds:>9.0f}"
        f"{taken / seconds / CAPACITY:>7.0%}{first.overflowed:>23}{lost:>7}{changes:>9}"
        f"{'never' if full is None else f'{full:.1f} s':>12}"
        f"{max(abs(reading.unaccounted) for reading in storm.readings):>13}"
        f"{ends.p50 * 1e6:>8.0f} us{ends.p99 * 1e6:>5.0f} us{ends.max * 1e3:>7.1f} ms"
    )


def storms(seconds: float, calm: float) -> None:
    """The four of them, one after the other."""
    told = []
    print(HEAD)
    for protocol, how in itertools.product(("grpc", "http/protobuf"), ("slow", "rejecting")):
        loads = (OFFERED, seconds), (AFTER, calm)
        with collector(protocol, how, CAPACITY) as (collecting, at), program(protocol, at, *loads) as running:
            (storm,) = ended([running], [collecting], timeout=seconds + calm + 60)
        print(row(protocol, how, storm), flush=True)
        taken, roots = storm.taken[-1], storm.readings[-1].offered / 10
        told.append(f"\n{protocol}, {how}: {taken.whole} of {taken.traces} traces whole,")
        told[-1] += f" adjusted counts {taken.adjusted:.0f} for {roots:.0f} traces"
        told += [f"  {at:6.2f} s  {text}" for at, text in storm.log]
    print("\n".join(told))


def cpu_share(minute: float) -> None:
    """The program's own measure of what tracing takes."""
    with RawServer(take_all) as server:
        seconds = ("4", "10", str(minute))
        code, output = run("cpu_share.py", f"http://127.0.0.1:{server.port}", "0.02", *seconds, timeout=minute + 60)
    assert code == 0, output
    limited = output[output.index("\nlimited ") :]
    print(f"\nCPU share of tracing: {float(value_of(output, 'unlimited')):.3f} without a limit,", end=" ")
    print(f"{float(value_of(limited, 'limited')):.4f} over {minute:.0f} s with cpu_share=0.02")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--calm", type=float, default=15.0)
    parser.add_argument("--minute", type=float, default=60.0)
    arguments = parser.parse_args()
    storms(arguments.seconds, arguments.calm)
    cpu_share(arguments.minute)


if __name__ == "__main__":
    main()
