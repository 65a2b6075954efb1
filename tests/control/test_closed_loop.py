"""The loop closes: what a collector takes is used, found soon, left soon, shared, and counted honestly; without I/O."""

from __future__ import annotations

import random

import pytest

from otel_shed.control.phase import Phase
from tests.control.client import Client, Load, Second
from tests.control.collectors import Blocking, Collector, Throttling
from tests.control.simulation import fairness, run

CAPACITY = 500.0
SEEDS = (1, 2, 3)
KINDS = pytest.mark.parametrize("kind", [Blocking, Throttling])


def lived(kind: type[Blocking] | type[Throttling], load: Load, seconds: int, *, seed: int = 1, **how: float) -> Client:
    """A program under this load, spans a second, with a collector of its own."""
    rng = random.Random(seed)
    client = Client(kind(CAPACITY), load, rng=rng, step=0.05, **how)  # type: ignore[arg-type]
    run([client], seconds=seconds)
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

    run([client], seconds=170, at_second=at_second)
    assert used(client.seconds[130:]) >= 0.95


@pytest.mark.parametrize(("before", "after"), [(500.0, 250.0), (250.0, 500.0)])
def test_a_limit_that_moves_is_followed(before: float, after: float) -> None:
    """A collector that takes half as much, or twice."""
    rng = random.Random(1)
    collector: Collector = Blocking(before)
    client = Client(collector, lambda now: 5000.0, rng=rng, step=0.05)

    def at_second(second: int) -> None:
        collector.capacity = before if second < 60 else after

    run([client], seconds=160, at_second=at_second)
    assert used(client.seconds[100:]) * CAPACITY >= 0.95 * after


# Spans a second of the collector for each program that shares it.
SHARE = 250.0


def shared(collector: Collector, begins: list[float], *, times: float, seconds: int, seed: int) -> list[Client]:
    """Programs that share a collector; each offers so many times its share, from when it begins."""
    rng = random.Random(seed)

    def load(begin: float) -> Load:
        return lambda now: times * SHARE if now >= begin else 0.0

    step = 0.2 if len(begins) <= 10 else 0.5
    clients = [Client(collector, load(begin), rng=rng, step=step, size=50) for begin in begins]
    run(clients, seconds=seconds + 15)  # what the last requests bring is known when they are answered
    return clients


def taken(clients: list[Client], since: int, until: int) -> list[float]:
    return [sum(second.accepted for second in client.seconds[since:until]) for client in clients]


@pytest.mark.parametrize("kind", [Blocking, Throttling])
@pytest.mark.parametrize(
    ("programs", "times", "seed"),
    [(1, 2.0, 1), (1, 10.0, 2), (2, 2.0, 1), (2, 10.0, 2), (10, 2.0, 1), (10, 10.0, 2), (100, 2.0, 1)],
)
def test_programs_that_share_a_collector_use_all_of_it_and_have_equal_shares(
    kind: type[Blocking] | type[Throttling], programs: int, times: float, seed: int
) -> None:
    """Within 5 % of it and Jain's index at least 0.95, from the third minute to the fifth; the phase does not swing."""
    clients = shared(kind(programs * SHARE), [0.0] * programs, times=times, seconds=300, seed=seed)
    shares = taken(clients, 120, 300)
    assert sum(shares) == pytest.approx(180 * programs * SHARE, rel=0.05)
    assert fairness(shares) >= 0.95
    assert sum(len(changes(client, 120, 300)) for client in clients) <= 2 * 3 * programs


@pytest.mark.parametrize("kind", [Blocking, Throttling])
def test_programs_that_join_get_their_share(kind: type[Blocking] | type[Throttling]) -> None:
    """Ten share a collector; five of them begin a minute after the others."""
    clients = shared(kind(10 * SHARE), [0.0] * 5 + [60.0] * 5, times=4.0, seconds=420, seed=1)
    shares = taken(clients, 240, 420)
    assert sum(shares) == pytest.approx(180 * 10 * SHARE, rel=0.05)
    assert fairness(shares) >= 0.95


def test_a_collector_that_refuses_is_asked_in_vain_seldom() -> None:
    """By programs that share it: three requests of ten at most, from the third minute on."""
    collector = Throttling(10 * SHARE)
    rng = random.Random(1)
    clients = [Client(collector, lambda now: 4 * SHARE, rng=rng, step=0.2, size=50) for _ in range(10)]
    before = [0, 0]

    def at_second(second: int) -> None:
        if second == 120:
            before[:] = collector.requests, collector.refused

    run(clients, seconds=300, at_second=at_second)
    assert collector.refused - before[1] <= 0.3 * (collector.requests - before[0])


def test_an_unfair_share_is_seen() -> None:
    """The index that the tests above go by tells equal shares from others."""
    assert fairness([5.0] * 10) == pytest.approx(1.0)
    assert fairness([1.0] * 5 + [2.0] * 5) == pytest.approx(0.9)
    assert fairness([1.0] + [0.0] * 9) == pytest.approx(0.1)
