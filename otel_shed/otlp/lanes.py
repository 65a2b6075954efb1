"""Several requests at once: jobs that the thread that has them shares with threads of its own, called lanes.

Owns those threads, which are started when there is more than one job for the first time and wait in between. ``run`` is
called by one thread at a time, which is lane 0 itself. The rules: a lane is one thread and has one job at a time; what
comes of the jobs is told in their order, as soon as it and all before it are known; lanes that nobody holds any more
end.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from otel_shed.native import Lock, WorkerThread, allocate_lock, start_thread

T = TypeVar("T")

# Given the number of the lane that it is in; must not raise.
Job = Callable[[int], T]


class Lanes(Generic[T]):
    """Lane 0 and, as they are needed, further ones with a thread each."""

    def __init__(self) -> None:
        self._helpers: list[_Helper[T]] = []
        weakref.finalize(self, _end, self._helpers).atexit = False

    def run(self, jobs: Sequence[Job[T]], at_once: int) -> Iterator[T]:
        """What comes of each job; ``at_once`` of them at most are under way at any time.

        Who stops in the middle leaves what is under way to itself; no further job is begun.
        """
        shared = _Shared(jobs)
        helpers = self._started(min(at_once, len(jobs)) - 1)
        for helper in helpers:
            helper.work_on(shared)
        told = 0
        try:
            while (number := shared.take()) is not None:
                shared.do(number, 0)
                while told < len(jobs) and shared.is_done(told):
                    yield shared.result(told)
                    told += 1
            while told < len(jobs):
                yield shared.result(told)
                told += 1
        finally:
            shared.stop()
            for helper in helpers:
                helper.shared = None

    def _started(self, count: int) -> list[_Helper[T]]:
        while len(self._helpers) < count:
            helper: _Helper[T] = _Helper(len(self._helpers) + 1)
            try:
                helper.thread = start_thread(name=f"otel-shed-exporter-{helper.lane}", target=helper.run)
            except RuntimeError:  # there are no threads left, or the interpreter is shutting down: fewer at once then
                break
            self._helpers.append(helper)
        return self._helpers[:count]

    def end(self, patience: float = 0.0) -> None:
        """Have the threads end, each with what it is at, and wait for so many seconds until they have."""
        threads = [helper.thread for helper in self._helpers]
        _end(self._helpers)
        deadline = time.monotonic() + patience
        for thread in filter(None, threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def after_fork_in_child(self) -> None:
        """The threads are not here; they are started again when they are needed."""
        self._helpers.clear()


def _end(helpers: list[_Helper[T]]) -> None:
    while helpers:
        helpers.pop().end()


class _Shared(Generic[T]):
    """The jobs of one run, for whichever lane comes first."""

    def __init__(self, jobs: Sequence[Job[T]]) -> None:
        self._jobs = jobs
        self._next = 0
        self._taking = allocate_lock()
        self._results: dict[int, T] = {}
        self._done = [allocate_lock() for _ in jobs]
        for lock in self._done:
            lock.acquire()

    def take(self) -> int | None:
        """The number of a job that nobody has begun."""
        with self._taking:
            if self._next >= len(self._jobs):
                return None
            self._next += 1
            return self._next - 1

    def stop(self) -> None:
        with self._taking:
            self._next = len(self._jobs)

    def do(self, number: int, lane: int) -> None:
        self._results[number] = self._jobs[number](lane)
        self._done[number].release()

    def is_done(self, number: int) -> bool:
        return not self._done[number].locked()

    def result(self, number: int) -> T:
        """What came of a job; waits for it."""
        self._done[number].acquire()
        return self._results.pop(number)


class _Helper(Generic[T]):
    """One thread beside the one that runs; it holds nothing but this."""

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.thread: WorkerThread | None = None
        self.shared: _Shared[T] | None = None  # what there is to do; written by the thread that runs
        self._ended = False
        self._alarm: Lock = allocate_lock()
        self._alarm.acquire()

    def work_on(self, shared: _Shared[T]) -> None:
        self.shared = shared
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:  # it has been woken already, and has not looked yet
            pass

    def run(self) -> None:
        while True:
            self._alarm.acquire()
            if self._ended:
                return
            shared = self.shared
            while shared is not None and (number := shared.take()) is not None:
                shared.do(number, self.lane)
            del shared  # and with it a batch
