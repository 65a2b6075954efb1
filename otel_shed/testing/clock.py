"""A clock that only tests move, and a wait that moves it; used by the thread of the test alone.

Owns the time. The rule: time passes by ``advance`` and ``wait`` only, so a test of hours takes no time at all.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol


class Waitable(Protocol):
    """What is waited for: threading.Event will do."""

    def is_set(self) -> bool: ...


class FakeClock:
    """Seconds, from ``start``; calling it reads the time.

    waits: the seconds of every wait so far, as long as they lasted.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self.waits: list[float] = []
        self._now = start
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so much time pass; what is due in it happens when it is due. ValueError if negative."""
        if seconds < 0:
            raise ValueError("time does not go backwards")
        self._pass_until(self._now + seconds, None)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have ``action`` called when so much time has passed."""
        heapq.heappush(self._due, (self._now + seconds, next(self._order), action))

    def wait(self, event: Waitable, timeout: float) -> bool:
        """Let time pass until the event is set, at most ``timeout`` seconds; whether it is."""
        began = self._now
        self._pass_until(self._now + timeout, event)
        self.waits.append(self._now - began)
        return event.is_set()

    def _pass_until(self, end: float, event: Waitable | None) -> None:
        while not (event is not None and event.is_set()):
            if not self._due or self._due[0][0] > end:
                self._now = max(self._now, end)
                return
            when, _, action = heapq.heappop(self._due)
            self._now = max(self._now, when)
            action()
