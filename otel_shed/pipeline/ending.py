"""The end of a pipeline: what is held is delivered, or given up, and the exporter closed, once and within time.

Owns what is known of the end. ``run`` is called by whoever shuts the pipeline down, ``wait`` by those who come later.
The rules: whatever happens to the one who began it, an exception of a signal handler too, it comes to its end; and no
thread waits here for what it is in the middle of itself, as a signal handler or a finalizer would that calls ``run``
again.
"""

from __future__ import annotations

from collections.abc import Callable

from otel_shed.log_limit import LogLimit
from otel_shed.native import Signal, allocate_rlock, start_thread, thread_id
from otel_shed.outcome import DropReason
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.sender import Sender
from otel_shed.pipeline.worker import Worker

# How long a shutdown that has given up still waits for the exporter's own: enough for one that does not block.
_LAST_WORDS_SECONDS = 0.1


class Ending:
    """was_lossy: whether spans were lost in it."""

    def __init__(
        self,
        *,
        intake: Intake,
        ledger: Ledger,
        worker: Worker,
        sender: Sender,
        ensure_worker: Callable[[], bool],
        grace: float,
        clock: Callable[[], float],
        log: LogLimit,
    ) -> None:
        """``ensure_worker``: whether a thread is at work. ``grace``: seconds without progress."""
        self._intake = intake
        self._ledger = ledger
        self._worker = worker
        self._sender = sender
        self._ensure_worker = ensure_worker
        self._grace = grace
        self._clock = clock
        self._log = log
        self.restart()

    def restart(self) -> None:
        """In a forked child; where the parent has shut it down, or was at it, there is nothing to wait for."""
        self._begun = allocate_rlock()  # kept by the thread that runs it
        self._over = Signal()
        self._closing_thread: int | None = None
        self.was_lossy = False
        if self._intake.closed:
            self._over.set()

    @property
    def is_under_way_here(self) -> bool:
        """Whether this thread is in the middle of it, which a signal handler or a finalizer has interrupted."""
        return not self._over.is_set() and bool(self._begun._is_owned())

    def wait(self, timeout: float) -> bool:
        """Whether it is over within so many seconds."""
        # It is over only once this thread goes on, where it is what the end waits for.
        is_part_of_it = self.is_under_way_here or self._closing_thread == thread_id()
        return self._over.wait(0.0 if is_part_of_it else timeout)

    def run(self, deadline: float, *, waits: bool) -> None:
        """Come to the end by ``deadline``, and earlier without progress; ``waits`` for what is held to be delivered."""
        if self._over.is_set():
            return
        if self.is_under_way_here:
            # What this call has interrupted goes on once it returns, and may then be ended by an exception: so this
            # one delivers too, and leaves the exporter to that one.
            self._deliver(deadline, waits=waits)
            return
        if not self._begun.acquire(False):
            # Somebody else is at it: the exporter is shut down exactly once.
            if waits:
                self.wait(deadline - self._clock())
            return
        lost_before = self._ledger.lost_in_export()
        try:
            self._deliver(deadline, waits=waits)
        finally:
            try:
                self._close(deadline, lost_before)
            finally:
                self._over.set()

    def _deliver(self, deadline: float, *, waits: bool) -> None:
        """Each step may be taken again."""
        self._intake.do(self._intake.close)
        self._sender.hurry(self._grace)
        if waits:
            self._drain(deadline)

    def _drain(self, deadline: float) -> None:
        if self._worker.is_guest_here or self._ledger.abandoned:
            return
        if not self._ensure_worker():
            self._worker.turn_here(deadline - self._clock())
            return
        self._worker.wake()
        began = self._clock()
        while not self._worker.finished.is_set():
            now = self._clock()
            patience = max(began, self._worker.last_turn) + self._grace
            if now >= min(patience, deadline):
                return
            self._worker.finished.wait(min(patience, deadline) - now)

    def _close(self, deadline: float, lost_before: int) -> None:
        if not self._worker.finished.is_set():
            self._sender.abort()
            self._intake.do(self._abandon)
            self._worker.wake()
        # Read after giving up: until then a batch may still have come to its end.
        left = self._ledger.account().dropped.get(DropReason.SHUTDOWN, 0)
        self._close_exporter(deadline)
        self.was_lossy = self._ledger.lost_in_export() > lost_before
        if left:
            self._log.warning("shutdown", "shutdown left %d spans behind that the exporter did not take in time", left)

    def _abandon(self) -> None:
        with self._ledger.lock:
            self._intake.close()
            self._ledger.abandon()
            self._intake.clear()

    def _close_exporter(self, deadline: float) -> None:
        closed = Signal()

        def close() -> None:
            self._closing_thread = thread_id()
            try:
                self._sender.shutdown(max(0.0, deadline - self._clock()))
            except BaseException as error:  # sys.exit() in an exporter's shutdown is not for this thread to carry out
                self._log.warning("close", "the exporter's shutdown failed: %s: %s", type(error).__name__, error)
            finally:
                self._closing_thread = None
                closed.set()

        try:
            # On a thread of its own, since it may block for longer than we may.
            start_thread(name="otel-shed-exporter-shutdown", target=close)
        except RuntimeError:
            close()
        patience = self._grace if self._worker.finished.is_set() else 0.0
        closed.wait(max(_LAST_WORDS_SECONDS, min(deadline - self._clock(), patience)))
