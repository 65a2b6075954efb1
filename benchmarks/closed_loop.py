"""The closed loop in simulation: what a collector takes, what is offered, what is accepted; tables, and curves as PNG.

The budget, the signals, the phases, the thresholds and the sampler are the real ones; the programs, their pipelines and
the collector are models, in a time of their own (tests/control/client.py, collectors.py). The curves need
matplotlib (the dependency group ``bench``); without it there are the tables.

    python -m benchmarks.closed_loop [--capacity 500] [--out closed_loop.png] [--clients 1,10,100,1000,10000]
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from otel_shed.command.output import check_writable
from tests.control.client import Client, Second
from tests.control.collectors import Blocking, Throttling
from tests.control.simulation import fairness, run

BEFORE, STORM, CALM = 10, 90, 40  # seconds: half of the capacity, the load, two fifths of it
STEP = 0.05
KINDS = {"slow": Blocking, "rejecting": Throttling}
LOADS = (0.5, 2.0, 10.0, 100.0)

# Programs that share a collector: spans a second of it for each, how many times that each offers, spans of a trace.
SHARE, TIMES, TRACE = 250.0, 2.0, 50
# It is looked at in the minutes from the third to the fifth; what the last requests bring is known a little later.
SHARED_FROM, SHARED_UNTIL, AFTER = 120, 300, 15


@dataclass(frozen=True)
class Shared:
    """Programs that share a collector: use and Jain's index in the minutes looked at, and each second's over a minute.

    Shares of the capacity, 0..1 and a little more.
    """

    programs: int
    used: float
    fairness: float
    uses: list[float]
    indices: list[float]


def lived(kind: str, capacity: float, times: float, seed: int) -> Client:
    """A program that offers so many times what its collector takes."""
    rng = random.Random(seed)

    def load(now: float) -> float:
        return capacity * (0.5 if now < BEFORE else times if now < BEFORE + STORM else 0.4)

    client = Client(KINDS[kind](capacity), load, rng=rng, step=STEP)
    run([client], seconds=BEFORE + STORM + CALM)
    return client


def row(client: Client, capacity: float) -> str:
    """What came of it, as a line of the table."""
    storm = client.seconds[BEFORE + 15 : BEFORE + STORM]
    used = sum(second.accepted for second in storm) / len(storm) / capacity
    worst = min(sum(second.accepted for second in storm[at : at + 10]) for at in range(len(storm) - 9)) / 10 / capacity
    shed = [number for number, second in enumerate(client.seconds[BEFORE + STORM :]) if not second.full]
    changes = sum(BEFORE + 15 <= at < BEFORE + STORM for at, _ in client.totals.phases)
    counted = client.totals.adjusted / client.totals.roots - 1
    overflowed = sum(second.overflowed for second in client.seconds[BEFORE + 5 : BEFORE + STORM])
    return (
        f"{used:>9.1%}  {worst:>9.1%}  {max(shed, default=-1) + 1:>10} s  {changes * 60 / (STORM - 15):>9.1f}"
        f"  {counted:>+8.1%}  {overflowed:>10,}"
    )


def together(kind: str, programs: int, seed: int) -> Shared:
    """So many programs share one collector."""
    rng = random.Random(seed)
    collector, capacity = KINDS[kind](programs * SHARE), programs * SHARE
    step = 0.1 if programs <= 10 else 0.5 if programs <= 100 else 1.0 if programs <= 1000 else 2.0
    clients = [Client(collector, lambda now: TIMES * SHARE, rng=rng, step=step, size=TRACE) for _ in range(programs)]
    # Nothing of them is garbage before the end, and walking over 10,000 programs takes longer than what they do.
    gc.freeze()
    try:
        run(clients, seconds=SHARED_UNTIL + AFTER)
    finally:
        gc.unfreeze()
    uses = [sum(client.seconds[at].accepted for client in clients) / capacity for at in range(SHARED_UNTIL)]
    taken = [sum(second.accepted for second in client.seconds[SHARED_FROM:SHARED_UNTIL]) for client in clients]
    indices = [
        fairness([sum(second.accepted for second in client.seconds[at - 60 : at]) for client in clients])
        for at in range(60, SHARED_UNTIL + 1, 10)
    ]
    looked_at = uses[SHARED_FROM:]
    return Shared(programs, sum(looked_at) / len(looked_at), fairness(taken), uses, indices)


def draw(lives: dict[tuple[str, float], Client], shared: dict[str, list[Shared]], capacity: float, out: Path) -> None:
    """A picture for each life (accepted, the budget, the share of new traces kept), and for programs that share."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    figure, grid = plot.subplots(len(LOADS) + 2, len(KINDS), figsize=(13, 17), squeeze=False)
    for (kind, times), client in lives.items():
        axes = grid[LOADS.index(times)][list(KINDS).index(kind)]
        _life(axes, client.seconds, capacity, legend=times == LOADS[0])
        axes.set_title(f"{kind} collector, {times:g} times its capacity offered", fontsize=9)
    for column, (kind, several) in enumerate(shared.items()):
        _use(grid[-2][column], several)
        grid[-2][column].set_title(f"{kind} collector, shared: use", fontsize=9)
        _fairness(grid[-1][column], several)
        grid[-1][column].set_title(f"{kind} collector, shared: Jain's index over a minute", fontsize=9)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    plot.close(figure)


def _life(axes: Any, seconds: Sequence[Second], capacity: float, *, legend: bool) -> None:
    at = range(len(seconds))
    axes.axvspan(BEFORE, BEFORE + STORM, color="tab:red", alpha=0.06)
    accepted, *_ = axes.plot(at, [second.accepted for second in seconds], lw=0.9, color="tab:blue")
    known = [float("nan") if second.budget is None else second.budget for second in seconds]
    budget, *_ = axes.plot(at, known, lw=1.3, color="tab:orange")
    limit = axes.axhline(capacity, color="grey", lw=0.9, ls=":")
    axes.set_ylim(0, 2 * capacity)
    axes.set_xlim(0, len(seconds))
    axes.set_ylabel("spans/s", fontsize=8)
    share = axes.twinx()
    kept, *_ = share.plot(at, [second.probability for second in seconds], color="tab:green", lw=1)
    share.set_yscale("log")
    share.set_ylim(0.004, 1.5)
    share.set_ylabel("share", fontsize=8)
    if legend:
        names = ("accepted", "budget, while one is known", "capacity", "share of new traces kept (right)")
        axes.legend((accepted, budget, limit, kept), names, fontsize=7, loc="lower right", ncols=2)


def _programs(one: Shared) -> str:
    return f"{one.programs:,} program{'s' if one.programs > 1 else ''}"


def _use(axes: Any, several: Sequence[Shared]) -> None:
    axes.axhspan(0.95, 1.05, color="tab:green", alpha=0.1)
    for one in several:
        # Ten seconds' mean: what is taken comes in batches.
        smooth = [sum(one.uses[at - 10 : at]) / 10 for at in range(10, len(one.uses) + 1)]
        axes.plot(range(10, len(one.uses) + 1), smooth, lw=1, label=_programs(one))
    axes.set_ylim(0, 1.6)
    axes.set_xlim(0, SHARED_UNTIL)
    axes.set_ylabel("of the capacity, 10 s", fontsize=8)
    axes.legend(fontsize=7, loc="lower right", ncols=2)


def _fairness(axes: Any, several: Sequence[Shared]) -> None:
    axes.axhspan(0.95, 1.0, color="tab:green", alpha=0.1)
    for one in several:
        axes.plot(range(60, SHARED_UNTIL + 1, 10), one.indices, lw=1.2, label=_programs(one))
    axes.set_ylim(0.5, 1.01)
    axes.set_xlim(0, SHARED_UNTIL)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("index", fontsize=8)
    axes.legend(fontsize=7, loc="lower right", ncols=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=float, default=500.0, help="of one program's collector, spans a second")
    parser.add_argument("--out", type=Path, default=Path("closed_loop.png"))
    parser.add_argument("--clients", default="1,10,100", help="how many programs share a collector")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    check_writable([given.out])
    logging.disable(logging.CRITICAL)
    lives = {}
    heads = f"{'used':>9}  {'worst 10s':>9}  {'full again':>12}  {'changes/m':>9}  {'counts':>8}  {'overflowed':>10}"
    print(f"{'collector':<11}{'offered':>9}  {heads}")
    for kind in KINDS:
        for times in LOADS:
            client = lives[kind, times] = lived(kind, given.capacity, times, given.seed)
            print(f"{kind:<11}{times:>7g} C  {row(client, given.capacity)}", flush=True)
    print(
        f"\nPrograms that share a collector of {SHARE:g} spans/s for each of them, and offer {TIMES:g} times as much; "
        f"from {SHARED_FROM} s to {SHARED_UNTIL} s after all began together"
    )
    print(f"{'collector':<11}{'programs':>9}  {'C, spans/s':>11}  {'used':>9}  {'Jain':>6}  {'took':>6}")
    shared: dict[str, list[Shared]] = {kind: [] for kind in KINDS}
    for kind, several in shared.items():
        for programs in map(int, given.clients.split(",")):
            began = time.process_time()
            several.append(one := together(kind, programs, given.seed))
            print(
                f"{kind:<11}{programs:>9,}  {programs * SHARE:>11,.0f}  {one.used:>9.1%}  {one.fairness:>6.3f}"
                f"  {time.process_time() - began:>4.0f} s",
                flush=True,
            )
    try:
        draw(lives, shared, given.capacity, given.out)
    except ImportError:
        print("\nNo curves: matplotlib is not installed.")
    else:
        print(f"\nCurves: {given.out}")


if __name__ == "__main__":
    main()
