"""The loop closes: what the collector takes is used, found soon, left soon, and honestly counted; without I/O."""

from __future__ import annotations

import random

import pytest

from otel_shed.control.phase import Phase
from tests.control.simulation import Blocking, Client, Collector, Load, Second, Throttling, run

CAPACITY = 500.0
SEEDS = (1, 2, 3)
KINDS = pytest.mark.parametrize("kind", [Blocking, Throttling])


def lived(kind: type[Blocking] | type[Throttling], load: Load, seconds: int, *, seed: int = 1, **how: float) -> Client:
    """A program under this load, spans a second, with a collector of its own."""
    rng = random.Random(seed)
    client = Client(kind(CAPACITY), load, rng=rng, step=0.05, **how)  # type: ignore[arg-type]
    run([client], seconds=seconds, step=0.05, rng=rng)
    return client


def steps(*parts: tuple[float, float]) -> Load:
    """Of the capacity so many times, until so many seconds."""
    return lambda now: next((times for times, until in parts if now < until), parts[-1][0]) * CAPACITY


def used(seconds: list[Second]) -> float:
    """The share of the capacity that was."""
    return sum(second.accepted for second in seconds) / len(seconds) / CAPACITY


def changes(client: Client, since: float, until: float) -> list[tuple[float, Phase]]:
    return [change for change in client.totals.phases if since <= change[0] < until]


@KINDS
@pytest.mark.parametrize("times", [2.0, 10.0, 100.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_capacity_is_used_from_15_s_after_a_step(kind: type, times: float, seed: int) -> None:
    """At least 95 % of it, with no more than two changes of phase a minute and 1 % lost in the queue."""
    client = lived(kind, steps((0.5, 10), (times, 200)), 130, seed=seed)
    steady = client.seconds[25:]
    assert used(steady) >= 0.95
    assert len(changes(client, 25, 130)) <= 3
    lost = sum(second.overflowed for second in client.seconds[15:])
    assert lost <= 0.01 * sum(second.offered for second in client.seconds[15:])


@pytest.mark.parametrize("times", [2.0, 10.0, 100.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_collector_that_is_slow_is_found_within_15_s(times: float, seed: int) -> None:
    """In every ten seconds from then on it has 95 % of what it can take."""
    client = lived(Blocking, steps((0.5, 10), (times, 200)), 90, seed=seed)
    windows = [used(client.seconds[second : second + 10]) for second in range(25, 80)]
    assert min(windows) >= 0.95


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_below_its_capacity_nothing_is_shed(kind: type, seed: int) -> None:
    """With half of it offered every second is one of full fidelity."""
    client = lived(kind, steps((0.5, 200)), 120, seed=seed)
    assert all(second.full for second in client.seconds)
    assert client.totals.adjusted == client.totals.roots


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_full_fidelity_is_back_within_10_s(kind: type, seed: int) -> None:
    """Of the storm's end, and it lasts."""
    client = lived(kind, steps((0.4, 10), (10.0, 70), (0.4, 200)), 110, seed=seed)
    assert all(second.full for second in client.seconds[80:])
    assert not client.seconds[60].full


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_adjusted_counts_are_the_truth(kind: type, seed: int) -> None:
    """Within 3 % over 100,000 roots, while the rate and with it the threshold moves."""
    load = steps((0.5, 20), (10.0, 100), (3.0, 130), (10.0, 220), (1.0, 235), (6.0, 300))
    client = lived(kind, load, 285, seed=seed)
    assert client.totals.roots > 100_000
    assert client.totals.adjusted == pytest.approx(client.totals.roots, rel=0.03)


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_spans_of_low_priority_are_part_of_the_demand(kind: type, seed: int) -> None:
    """Half of all spans are LOW: the others use the capacity, and the phase does not swing."""
    client = lived(kind, steps((0.5, 10), (10.0, 200)), 130, seed=seed, low=0.5)
    assert used(client.seconds[25:]) >= 0.95
    assert len(changes(client, 25, 130)) <= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collector_that_comes_back_is_used_again(seed: int) -> None:
    """After a minute in which nobody was there."""
    rng = random.Random(seed)
    collector = Blocking(CAPACITY)
    client = Client(collector, steps((5.0, 300)), rng=rng, step=0.05)

    def at_second(second: int) -> None:
        collector.down = 40 <= second < 100

    run([client], seconds=170, step=0.05, rng=rng, at_second=at_second)
    assert used(client.seconds[130:]) >= 0.95


@pytest.mark.parametrize(("before", "after"), [(500.0, 250.0), (250.0, 500.0)])
def test_a_limit_that_moves_is_followed(before: float, after: float) -> None:
    """A collector that takes half as much, or twice."""
    rng = random.Random(1)
    collector: Collector = Blocking(before)
    client = Client(collector, lambda now: 5000.0, rng=rng, step=0.05)

    def at_second(second: int) -> None:
        collector.capacity = before if second < 60 else after

    run([client], seconds=160, step=0.05, rng=rng, at_second=at_second)
    assert used(client.seconds[100:]) * CAPACITY >= 0.95 * after
