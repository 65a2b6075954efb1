"""The decision thread: drains the queue and decides on traces while the export thread is in a call.

Owns one thread, which starts when it is first called and sleeps until it is called again or something is due. Nobody
waits for it. The rule: it makes no calls out and holds the ledger's lock for a slice of work at a time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import TIMEOUT_MAX

from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.native import MOMENT_SECONDS, Lock, WorkerThread, allocate_lock, start_thread, thread_id

_log = LogLimit(logging.getLogger("otel_shed"), clock=time.monotonic)

# So that a fault that comes again at once does not keep a processor busy.
_PAUSE_AFTER_FAULT_SECONDS = 1.0


class DecisionThread:
    """A thread that calls ``decide``, which returns the seconds after which to call it again, or None."""

    def __init__(self, decide: Callable[[], float | None]) -> None:
        self._decide = decide
        self.restart()

    def restart(self) -> None:
        """In a forked child the thread is not there, and the locks may be in any state."""
        self._alarm: Lock = allocate_lock()
        self._alarm.acquire()
        self._running: Lock = allocate_lock()
        self._thread_id: int | None = None
        self._threads: list[WorkerThread] = []
        self._is_over = False

    def call(self) -> None:
        """Have it decide now; never waits, may be called from a signal handler."""
        if self._thread_id is None and not self._is_over:
            try:
                self._threads.append(start_thread(name="otel-shed-decisions", target=self._run))
            except (RecursionError, MemoryError):  # the next span calls
                raise
            except Exception as error:  # the interpreter is shutting down, or there are no threads left
                if is_applications(error):
                    raise
                return  # the worker decides once it is back
        self._ring()

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
        if not running.acquire(False):  # two were started at the same time
            return
        self._thread_id = thread_id()
        try:
            pause: float | None = None
            while True:
                self._alarm.acquire(timeout=-1 if pause is None else max(MOMENT_SECONDS, min(pause, TIMEOUT_MAX)))
                if self._is_over:
                    return
                try:
                    pause = self._decide()
                except BaseException as error:  # a fault of ours, or a policy's sys.exit()
                    pause = _PAUSE_AFTER_FAULT_SECONDS
                    _log.warning(
                        "decisions", "fault in the decision thread: %s: %s", type(error).__name__, error, exc_info=True
                    )
        finally:
            self._thread_id = None
            running.release()
