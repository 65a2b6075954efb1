"""The closed loop in simulation: what a collector takes, what is offered, what is accepted; a table, and curves as PNG.

The budget, the signals, the phases, the thresholds and the sampler are the real ones; the program, its pipeline and the
collector are models, in a time of their own (tests/control/simulation.py). The curves need matplotlib (pip install
matplotlib); without it there is the table.

    python -m benchmarks.closed_loop [--capacity 500] [--out closed_loop.png] [--clients 10,100,1000]
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.control.simulation import Blocking, Client, Second, Throttling, run

BEFORE, STORM, CALM = 10, 90, 40  # seconds: half of the capacity, the load, two fifths of it
STEP = 0.05
KINDS = {"slow": Blocking, "rejecting": Throttling}


def lived(kind: str, capacity: float, times: float, seed: int) -> Client:
    """A program that offers so many times what its collector takes."""
    rng = random.Random(seed)

    def load(now: float) -> float:
        return capacity * (0.5 if now < BEFORE else times if now < BEFORE + STORM else 0.4)

    client = Client(KINDS[kind](capacity), load, rng=rng, step=STEP)
    run([client], seconds=BEFORE + STORM + CALM, step=STEP, rng=rng)
    return client


def row(client: Client, capacity: float) -> str:
    """What came of it, as a line of the table."""
    storm = client.seconds[BEFORE + 15 : BEFORE + STORM]
    used = sum(second.accepted for second in storm) / len(storm) / capacity
    shed = [number for number, second in enumerate(client.seconds[BEFORE + STORM :]) if not second.full]
    changes = sum(BEFORE + 15 <= at < BEFORE + STORM for at, _ in client.totals.phases)
    counted = client.totals.adjusted / client.totals.roots - 1
    overflowed = sum(second.overflowed for second in client.seconds[BEFORE + 5 : BEFORE + STORM])
    return (
        f"{used:>9.1%}  {max(shed, default=-1) + 1:>10} s  {changes * 60 / (STORM - 15):>9.1f}  {counted:>+8.1%}"
        f"  {overflowed:>10,}"
    )


def together(kind: str, capacity: float, number: int, seed: int) -> tuple[float, float]:
    """So many programs share one collector: what of it is used, and Jain's fairness index of their shares."""
    rng = random.Random(seed)
    step, seconds = (0.1, 200) if number <= 100 else (0.5, 160)
    collector = KINDS[kind](capacity)
    clients = [Client(collector, lambda now: 4 * capacity / number, rng=rng, step=step) for _ in range(number)]
    run(clients, seconds=seconds, step=step, rng=rng)
    taken = [sum(second.accepted for second in client.seconds[seconds // 2 :]) for client in clients]
    squares = sum(each * each for each in taken)
    return sum(taken) / (seconds - seconds // 2) / capacity, sum(taken) ** 2 / (number * squares) if squares else 0.0


def draw(lives: dict[tuple[str, float], Client], capacity: float, out: Path) -> None:
    """One picture for each life: offered, accepted, the budget and the share of new traces kept."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    kinds = list(KINDS)
    loads = sorted({times for _, times in lives})
    figure, grid = plot.subplots(len(loads), len(kinds), figsize=(12, 2.6 * len(loads)), sharex=True, squeeze=False)
    for (kind, times), client in lives.items():
        axes = grid[loads.index(times)][kinds.index(kind)]
        _curves(axes, client.seconds, capacity)
        axes.set_title(f"{kind}, {times:g} times the capacity offered", fontsize=9)
    grid[0][0].legend(fontsize=7, loc="upper right")
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def _curves(axes: Any, seconds: Sequence[Second], capacity: float) -> None:
    at = range(len(seconds))
    axes.plot(at, [second.accepted for second in seconds], lw=0.8, label="accepted, spans/s")
    axes.plot(at, [second.budget for second in seconds], lw=1.4, label="budget, spans/s")
    axes.axhline(capacity, color="grey", lw=0.8, ls=":", label="capacity")
    axes.set_ylim(0, 2 * capacity)
    share = axes.twinx()
    share.plot(
        at, [second.probability for second in seconds], color="tab:green", lw=1, label="share of new traces kept"
    )
    share.set_ylim(0.001, 1.1)
    share.set_yscale("log")
    axes.axvspan(BEFORE, BEFORE + STORM, color="tab:red", alpha=0.06)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=float, default=500.0, help="spans a second")
    parser.add_argument("--out", type=Path, default=Path("closed_loop.png"))
    parser.add_argument("--clients", default="1,10,100", help="how many programs share a collector")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    lives = {}
    heads = f"{'used':>9}  {'full again':>12}  {'changes/m':>9}  {'counts':>8}  {'overflowed':>10}"
    print(f"{'collector':<11}{'offered':>9}  {heads}")
    for kind in KINDS:
        for times in (0.5, 2.0, 10.0, 100.0):
            client = lives[kind, times] = lived(kind, given.capacity, times, given.seed)
            print(f"{kind:<11}{times:>7g} C  {row(client, given.capacity)}", flush=True)
    print(f"\n{'collector':<11}{'programs':>9}  {'used':>9}  {'Jain':>6}")
    for kind in KINDS:
        for number in map(int, given.clients.split(",")):
            used, jain = together(kind, given.capacity * max(1, number // 10), number, given.seed)
            print(f"{kind:<11}{number:>9}  {used:>9.1%}  {jain:>6.3f}", flush=True)
    try:
        draw(lives, given.capacity, given.out)
    except ImportError:
        print("\nNo curves: matplotlib is not installed.")
    else:
        print(f"\nCurves: {given.out}")


if __name__ == "__main__":
    main()
