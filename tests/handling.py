"""A signal handler that raises, as a program's time limit does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(signum: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Have the signal raise ``error`` for as long; how often it came."""
    came: list[int] = []

    def raise_it(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise error("time is up")

    before = signal.signal(signum, raise_it)
    try:
        yield came
    finally:
        signal.signal(signum, before)
