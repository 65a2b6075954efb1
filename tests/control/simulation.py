"""A closed loop in a time of its own: programs that go on in the order of their events, and how fairly they share."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heapreplace

from tests.control.client import Client


def run(clients: list[Client], *, seconds: int, at_second: Callable[[int], None] | None = None) -> None:
    """Let so much time pass, event by event in their order.

    at_second: told of each second before it begins.
    """
    events = [(client.next, number) for number, client in enumerate(clients)]
    heapify(events)
    for second in range(seconds):
        if at_second is not None:
            at_second(second)
        while events[0][0] < second + 1:
            client = clients[events[0][1]]
            client.go_on()
            heapreplace(events, (client.next, events[0][1]))
    for client in clients:
        del client.seconds[seconds:]


def fairness(shares: list[float]) -> float:
    """Jain's index: 1 if all have the same, one over their number if one has all, 0 if nobody has any."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
