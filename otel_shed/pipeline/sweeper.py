"""The worker's stand-in: sweeps the intake's inbox while the worker is in an export call.

Owns one thread, which starts when it is first called and waits, without a time limit, for the next call. The rule: it
makes no calls out; whoever calls it never waits, and where it cannot be started, goes on without.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from otel_shed.log_limit import LogLimit
from otel_shed.native import Lock, WorkerThread, allocate_lock, allocate_rlock, start_thread

_log = LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic)


class Sweeper:
    """A thread that calls ``sweep`` when it is called."""

    def __init__(self, sweep: Callable[[], object]) -> None:
        self._sweep = sweep
        self.restart()

    def restart(self) -> None:
        """In a forked child the thread is not there, and the locks may be in any state."""
        self._alarm: Lock = allocate_lock()
        self._alarm.acquire()
        self._starting = allocate_rlock()
        self._thread: WorkerThread | None = None
        self._is_over = False

    def call(self) -> None:
        """Have it sweep; never blocks, may be called from a signal handler."""
        if self._thread is None:
            self._start()
        self._ring()

    def _start(self) -> None:
        # Reentrant, and not waited for: who is starting it on this very thread was interrupted by a signal handler.
        if self._starting.acquire(False):
            try:
                if self._thread is None and not self._is_over:
                    self._thread = start_thread(name="otel-shed-sweeper", target=self._run)
            except RuntimeError:  # the interpreter is shutting down, or there are no threads left
                pass
            finally:
                self._starting.release()

    def end(self) -> None:
        """It is not called any more."""
        self._is_over = True
        self._ring()

    def _ring(self) -> None:
        try:
            self._alarm.release()
        except RuntimeError:  # it was awake already
            pass

    def _run(self) -> None:
        while not self._is_over:
            self._alarm.acquire()
            try:
                self._sweep()
            except Exception as error:  # a fault of ours
                _log.warning("sweeper", "fault in the sweeper: %s: %s", type(error).__name__, error, exc_info=True)
