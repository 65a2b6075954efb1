"""One call of an exporter at a time, by whichever thread, and no thread that waits for the call that it is in.

Owns what came in between: a signal handler or a finalizer may end a span in the middle of an export, on the thread that
is at it. The rule: that call returns at once, and the one that it has interrupted does its work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from otel_shed.native import Mutex

T = TypeVar("T")


class Turns(Mutex):
    """A Mutex that can be asked to do something in it."""

    def __init__(self) -> None:
        super().__init__()
        self._came_between: deque[Callable[[], Any]] = deque()

    def take(
        self, work: Callable[[], T], *, meanwhile: T, timeout: float = -1, late: Callable[[], object] | None = None
    ) -> T:
        """Do ``work`` when it is its turn; ``meanwhile`` is the answer where that is once this thread goes on.

        After ``timeout`` seconds ``late`` is called, and then ``work`` is done all the same.
        """
        if self.is_held_here:
            self._came_between.append(work)
            return meanwhile
        is_had = self.acquire(timeout)
        try:
            if not is_had and late is not None:
                late()
            return work()
        finally:
            if is_had:
                self.release()

    def release(self) -> None:
        try:
            while self._came_between:
                self._came_between.popleft()()
        finally:
            super().release()
