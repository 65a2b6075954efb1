"""The end of a pipeline: what is held is delivered, or given up, and the exporter closed, once and within time.

Owns what is known of the end, and the threads that it takes. ``run`` is called by whoever shuts the pipeline down,
``wait`` by those who come later. The rules: whatever happens to the one who began it, an exception of a signal handler
too, it comes to its end; no thread waits here for what it is in the middle of itself, as a signal handler or finalizer
would that calls ``run`` again; in the end no thread of the pipeline's is left, but for one inside an exporter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from otel_shed.log_limit import LogLimit
from otel_shed.native import Signal, WorkerThread, allocate_rlock, start_thread, thread_id
from otel_shed.outcome import DropReason
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.sender import Sender
from otel_shed.pipeline.worker import Worker

# How long a shutdown that has given up still waits for the exporter's own: enough for one that does not block.
_LAST_WORDS_SECONDS = 0.1
# To give up takes some waits for locks and threads, each as long as a thread waits for the interpreter beside those of
# the program: so much is left of the time limit, so that shutdown returns at it and not after it.
_WAITS_TO_GIVE_UP = 6
_WAIT_SECONDS = 0.02
# What is waited for of a thread when the time is over: it has the interpreter within 5 ms, if nobody else waits for it.
_LEAST_SECONDS = 0.01
# How long a thread that has nothing left to do may take to end, on a machine that is busy.
_LAST_STEPS_SECONDS = 1.0


class Ending:
    """Of one pipeline."""

    __slots__ = ("__dict__", "__weakref__", "_begun")

    def __init__(
        self,
        *,
        intake: Intake,
        ledger: Ledger,
        worker: Worker,
        sender: Sender,
        ensure_worker: Callable[[], bool],
        end_threads: Callable[[float], None],
        grace: float,
        clock: Callable[[], float],
        log: LogLimit,
    ) -> None:
        """``ensure_worker``: whether a thread is at work. ``grace``: seconds without progress.

        ``end_threads``: see the pipeline's threads end, in so many seconds.
        """
        self._intake = intake
        self._ledger = ledger
        self._worker = worker
        self._sender = sender
        self._ensure_worker = ensure_worker
        self._end_threads = end_threads
        self._grace = grace
        self._clock = clock
        self._log = log
        self.restart()

    def restart(self) -> None:
        """In a forked child; where the parent has shut it down, or was at it, there is nothing to wait for."""
        self._begun = allocate_rlock()  # kept by the thread that runs it
        self._over = Signal()
        self._closing_thread: int | None = None
        self._apart: list[WorkerThread] = []
        self._lost_in_drain = False
        if self._intake.closed:
            self._over.set()

    @property
    def is_under_way_here(self) -> bool:
        """Whether this thread is in the middle of it, which a signal handler or a finalizer has interrupted."""
        return not self._over.is_set() and bool(self._begun._is_owned())

    @property
    def is_over(self) -> bool:
        """Whether it has come to its end: nothing more is sent, and the exporter has been told to close."""
        return self._over.is_set()

    @property
    def was_lossy(self) -> bool:
        """Whether spans were lost in it; what was given up and then arrived after all was not."""
        return self._lost_in_drain or self._ledger.dropped[DropReason.SHUTDOWN] > 0

    def wait(self, timeout: float) -> bool:
        """Whether it is over within so many seconds."""
        # It is over only once this thread goes on, where it is what the end waits for.
        is_part_of_it = self.is_under_way_here or self._closing_thread == thread_id()
        return self._over.wait(0.0 if is_part_of_it else timeout)

    def wait_for_threads(self, timeout: float) -> None:
        """Wait for the end that another thread sees to, and for the threads that were to see to it."""
        if self.wait(timeout):
            for thread in self._apart:
                thread.join(_LAST_STEPS_SECONDS)

    def run_apart(self, timeout: float) -> bool:
        """Have a thread of its own do it within so many seconds, for who cannot wait; whether there is one."""
        target = partial(self._run_within, timeout)
        try:
            self._apart.append(start_thread(name="otel-shed-shutdown", target=target))
        except RuntimeError:  # the interpreter is shutting down, or there are no threads left
            return False
        return True

    def _run_within(self, timeout: float) -> None:
        self._run(self._clock() + timeout, waits=True)

    def run(self, deadline: float, *, waits: bool) -> None:
        """Come to the end by ``deadline``, and earlier without progress; ``waits`` for what is held to be delivered."""
        self._run(deadline, waits=waits)
        if waits:
            self.wait_for_threads(0.0)

    def _run(self, deadline: float, *, waits: bool) -> None:
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
                try:
                    self._end_threads(self._patience(deadline))
                finally:
                    self._over.set()

    def _deliver(self, deadline: float, *, waits: bool) -> None:
        """Each step may be taken again."""
        self._intake.close()
        self._sender.hurry(self._grace)
        if waits:
            self._drain(deadline)

    def _drain(self, deadline: float) -> None:
        if self._worker.is_guest_here or self._ledger.abandoned:
            return
        if not self._ensure_worker():
            self._worker.turn_here(deadline - self._clock())
            return
        self._intake.hasten()
        began = self._clock()
        late = 0.0
        while not self._worker.finished.is_set():
            now = self._clock()
            patience = max(began, self._worker.last_turn) + self._grace
            left = min(patience, deadline - _WAITS_TO_GIVE_UP * late) - now
            if left <= 0.0:
                return
            asked = min(left, _WAIT_SECONDS)
            if not self._worker.finished.wait(asked):
                late = max(late, self._clock() - now - asked)

    def _close(self, deadline: float, lost_before: int) -> None:
        if not self._worker.finished.is_set():
            self._sender.abort()
            self._abandon()
            self._worker.wake()
        # Read after giving up: until then a batch may still have come to its end.
        farewell = self._worker.losses.farewell(self._ledger.account(), self._worker.last_outcome)
        self._close_exporter(deadline)
        with self._ledger.lock:
            lost = self._ledger.lost_in_export() - self._ledger.dropped[DropReason.SHUTDOWN]
            self._lost_in_drain = lost > lost_before
        if farewell is not None:
            self._log.warning("shutdown", "%s", farewell)

    def _abandon(self) -> None:
        self._intake.give_up()
        with self._ledger.lock:
            self._intake.close()
            self._ledger.abandon()
            self._intake.clear()

    def _patience(self, deadline: float) -> float:
        """Seconds for which a thread of the pipeline's is waited for, in the end."""
        longest = _LAST_STEPS_SECONDS if self._worker.finished.is_set() else _LAST_WORDS_SECONDS
        return max(_LEAST_SECONDS, min(longest, deadline - self._clock()))

    def _close_exporter(self, deadline: float) -> None:
        if self._worker.finished.is_set():
            self._have_done("force_flush", self._sender.flush, deadline)
        # Where a call of the exporter's is still under way, nothing but its shutdown interrupts it.
        self._have_done("shutdown", self._sender.shutdown, deadline)

    def _have_done(self, what: str, call: Callable[[float], bool | None], deadline: float) -> None:
        """Call the exporter on a thread of its own, since it may block for longer than we may."""
        done = Signal()

        def run() -> None:
            self._closing_thread = thread_id()
            try:
                if call(max(0.0, deadline - self._clock())) is False:
                    self._log.warning(what, "the exporter's %s says that it has failed", what)
            except BaseException as error:  # sys.exit() in an exporter's shutdown is not for this thread to carry out
                self._log.warning(what, "the exporter's %s failed: %s: %s", what, type(error).__name__, error)
            finally:
                self._closing_thread = None
                done.set()

        try:
            thread = start_thread(name=f"otel-shed-exporter-{what}", target=run)
        except RuntimeError:
            run()
            return
        patience = max(_LAST_WORDS_SECONDS, self._grace if self._worker.finished.is_set() else 0.0)
        done.wait(max(_LEAST_SECONDS, min(deadline - self._clock(), patience)))
        if done.is_set():
            thread.join(self._patience(deadline))
