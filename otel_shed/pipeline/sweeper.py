"""The worker's stand-in: sweeps the intake's inbox while the worker is in an export call, and does what others ask for.

Owns one thread, which starts when it is first called and waits, without a time limit, for the next call. Application
threads move no span that others hold: they have it done here, and wait for that if they must. An exception that a
signal handler raises ends such a wait, and nothing else. The rule: it makes no calls out, so who waits does not wait
for long.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

from otel_shed.log_limit import LogLimit
from otel_shed.native import Lock, WorkerThread, allocate_lock, start_thread, thread_id, threads_are_green

_log = LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic)

Job = Callable[[], object]

# In an interpreter that is shutting down threads stop wherever they are: then nobody waits for ever.
PATIENCE_SECONDS = 5.0


class Sweeper:
    """A thread that calls ``sweep`` when it is called, and does jobs."""

    def __init__(self, sweep: Job) -> None:
        self._sweep = sweep
        self._jobs: deque[tuple[Job, Lock]] = deque()
        self.restart()

    def restart(self) -> None:
        """In a forked child the thread is not there, and the locks may be in any state."""
        self._alarm: Lock = allocate_lock()
        self._alarm.acquire()
        self._running: Lock = allocate_lock()
        self._jobs.clear()
        self._thread_id: int | None = None
        self._threads: list[WorkerThread] = []
        self._is_over = False

    def call(self) -> None:
        """Have it sweep; never waits, may be called from a signal handler."""
        if self._thread_id is None and not self._is_over:
            self._start()
        self._ring()

    def run(self, job: Job) -> None:
        """Have ``job`` done, and wait for it; it must not raise.

        It is done here where the thread cannot be started any more, and among green threads, whose hub would stop.
        """
        is_here = self._thread_id == thread_id() or self._is_over or threads_are_green()
        if is_here or not (self._thread_id or self._start()):
            job()
            return
        done = allocate_lock()
        done.acquire()
        self._jobs.append((job, done))
        self._ring()
        if self._is_over:  # since it was looked at
            self._do_jobs()
        done.acquire(timeout=PATIENCE_SECONDS)

    def _start(self) -> bool:
        """Whether there is a thread; where two are started at the same time, one of them ends at once."""
        try:
            self._threads.append(start_thread(name="otel-shed-sweeper", target=self._run))
        except RuntimeError:  # the interpreter is shutting down, or there are no threads left
            return False
        return True

    def end(self, patience: float = 0.0) -> None:
        """It is not called any more; its thread has ended after this, or after so many seconds."""
        self._is_over = True
        self._ring()
        if self._thread_id != thread_id():
            for thread in self._threads:
                thread.join(patience)

    def _ring(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:  # it was awake already
            pass

    def _run(self) -> None:
        running = self._running
        if not running.acquire(False):
            return
        self._thread_id = thread_id()
        while not self._is_over:
            self._alarm.acquire()
            self._do_jobs()
            self._do(self._sweep)
        running.release()

    def _do_jobs(self) -> None:
        while True:
            try:
                job, done = self._jobs.popleft()
            except IndexError:
                return
            self._do(job)
            done.release()

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # a fault of ours
            _log.warning("sweeper", "fault in the sweeper: %s: %s", type(error).__name__, error, exc_info=True)
