"""One pipeline: intake, worker, ledger and sender put together, and what its faces do with them.

Application threads call ``end``, ``flush`` and ``shutdown``; each of them waits, if at all, for a signal with a time
limit, never for I/O. The rule: none of them raises.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial

from opentelemetry.sdk.resources import Resource

from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.native import WorkerThread, allocate_rlock, start_thread, thread_id
from otel_shed.outcome import DropReason
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.admission import Admission
from otel_shed.pipeline.decision_thread import DecisionThread
from otel_shed.pipeline.ending import Ending
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Account, Ledger
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.sender import Sender
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.summary import Summary
from otel_shed.pipeline.worker import Worker
from otel_shed.record import SpanRecord

_logger = logging.getLogger("otel_shed")

# Who waits for a flush looks so often whether there is still a thread that sees to it, or one can be started by now.
_LOOK_SECONDS = 0.1

# What the shutdown of a pipeline may take that nobody waits for.
_FORGOTTEN_SECONDS = 30.0


class Pipeline:
    """From a span that has ended to its outcome."""

    __slots__ = ("__dict__", "__weakref__", "_starting")

    def __init__(
        self,
        *,
        sender: Sender,
        store: Callable[[Shed, Queue], Store],
        max_held_bytes: int,
        max_request_bytes: int,
        max_export_batch_size: int,
        linger: float,
        interval: float,
        shutdown_grace: float,
        clock: Callable[[], float],
        shed: Callable[[Sequence[SpanRecord]], None] | None = None,
        summary: Summary | None = None,
        look: Callable[[float], float | None] | None = None,
        measured: Callable[[], None] | None = None,
    ) -> None:
        """``linger``, ``interval`` and ``shutdown_grace`` in seconds.

        ``store`` and ``shed``: see Intake; ``summary``: see Ledger. ``look`` is called at each turn of the worker (see
        Worker), ``measured`` at each of the decision thread's.
        """
        self.ledger = Ledger(summary)
        self._decisions = DecisionThread(self._decide)
        self._look, self._measured = look, measured
        self.intake = Intake(
            ledger=self.ledger,
            store=store,
            clock=clock,
            shed=shed,
            wake=self._wake,
            decisions=self._decisions,
        )
        self.sender = sender
        self._grace = shutdown_grace
        self._clock = clock
        self._log = LogLimit(_logger, clock=clock)
        self.admission = Admission(
            sender=sender, intake=self.intake, max_held_bytes=max_held_bytes, log=self._log, lost=self.ledger.lost
        )
        self.admit, self.admit_batch = self.admission.admit, self.admission.admit_batch
        self._worker = Worker(
            intake=self.intake,
            ledger=self.ledger,
            sender=sender,
            batch_size=max_export_batch_size,
            # What is queued must not reach the bound because it waits for its batch to be full.
            batch_bytes=min(max_request_bytes, max_held_bytes // 2),
            linger=linger,
            interval=interval,
            clock=clock,
            look=self._look_in,
        )
        self._ending = Ending(
            intake=self.intake,
            ledger=self.ledger,
            worker=self._worker,
            sender=sender,
            ensure_worker=self._ensure_worker,
            end_threads=self._end_threads,
            grace=shutdown_grace,
            clock=clock,
            log=self._log,
        )
        self._prepare()
        lifecycle.watch(self)

    def _prepare(self) -> None:
        self.worker_thread: WorkerThread | None = None
        self._starting = allocate_rlock()
        self._is_starting = False
        self._put_off: list[Callable[[], None]] = []
        self._is_forgotten = False

    # -- spans ---------------------------------------------------------------------------------------------------

    @property
    def resource(self) -> Resource | None:
        """Of the first span."""
        return self.admission.resource

    def account(self) -> Account:
        """A reading of the ledger that has every span that ended before this call."""
        self.intake.settle()
        return self.ledger.account()

    def _wake(self) -> None:
        if not self._worker.is_at_work:  # nearly always it is, and nothing has to be waited for
            try:
                self._ensure_worker()
            except Exception as error:  # the span is queued and counted: the next one tries again
                self.ledger.queue.wake_when(1)
                if is_applications(error):
                    raise
                self._log.warning("thread", "the worker could not be started: %r", error)
        self._worker.wake()

    def _ensure_worker(self) -> bool:
        """Whether a thread is at work; it is started with the first span, so that a process may fork before."""
        with self._starting:
            if self._worker.finished.is_set():
                return False
            is_begun = self.worker_thread is not None and self.worker_thread.is_alive()
            if self._is_starting or self._worker.is_at_work or is_begun:
                # Where it is being started on this very thread, a signal handler has come in between.
                return True
            self._is_starting = True
            try:
                self.worker_thread = start_thread(name="otel-shed-worker", target=self._run)
            except RuntimeError as error:  # the interpreter is shutting down, or there are no threads left
                self.ledger.queue.wake_when(1)
                if is_applications(error):
                    raise
                return False
            finally:
                self._is_starting = False
            lifecycle.flush_at_end_of_child(self)
            return True

    def _decide(self) -> float | None:
        # Like _run: whoever holds the thread's target holds the pipeline.
        pause = self.intake.decide_while_away()
        if self._measured is not None:
            self._measured()
        return pause

    def _run(self) -> None:
        # A method of ours, so that a pipeline that its owner forgot lives for as long as its worker does.
        self._worker.run()

    # -- flush and shutdown --------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """A barrier of at most ``timeout`` seconds; see SheddingSpanProcessor.force_flush."""
        # An exporter that flushes its own provider would wait for itself, and a signal handler for what it interrupted.
        if self.on_worker_thread or self.ledger.is_held_here or self._worker.is_guest_here:
            return False
        if self.intake.closed:
            return self._ending.wait(timeout) and not self._worker.losses.since()
        flush, left = self._worker.request_flush(timeout), timeout
        while not flush.done.is_set() and left > 0:
            if not self._ensure_worker():
                self._turn_here(left)
            flush.done.wait(min(left, _LOOK_SECONDS))
            left = min(left - _LOOK_SECONDS, flush.deadline - self._clock())
        return flush.done.is_set() and flush.delivered

    def shutdown(self, timeout: float) -> None:
        """Deliver what is held, give up after the grace without progress or at ``timeout`` seconds, close."""
        if self.ledger.is_held_here or self.on_worker_thread:
            # A signal handler, a finalizer, or the exporter itself: what it has interrupted must go on first.
            is_seen_to = self._ending.run_apart(timeout)
            if is_seen_to or self.ledger.is_held_here:
                return
        if self._worker.is_guest_here:
            self.put_off(partial(self.shutdown, timeout))
            return
        try:
            self._ending.run(self._clock() + timeout, waits=not self.on_worker_thread)
        finally:
            self._do_what_was_put_off()

    def _turn_here(self, timeout: float) -> None:
        try:
            self._worker.turn_here(timeout)
        finally:
            self._do_what_was_put_off()

    def _do_what_was_put_off(self) -> None:
        while self._put_off and not self.is_ending_here:
            self._put_off.pop(0)()

    def forget(self) -> None:
        """Nobody holds our face any more: what is held is delivered, and our threads end.

        May be called by a finalizer, in the middle of anything: it is for the worker to begin with it. Where there is
        none, nothing is held.
        """
        self._is_forgotten = True
        self._worker.wake()

    def look_again(self) -> None:
        """Have our threads act on what has changed; starts none where nothing has come, and never waits."""
        if self._worker.is_at_work:
            self.intake.hasten()

    def _look_in(self, now: float) -> float | None:
        if self._is_forgotten:
            if not self._ending.run_apart(_FORGOTTEN_SECONDS):
                return _LOOK_SECONDS
            self._is_forgotten = False
        return None if self._look is None else self._look(now)

    def _end_threads(self, patience: float) -> None:
        self._decisions.end(patience)
        if self.worker_thread is not None and not self.on_worker_thread:
            self.worker_thread.join(patience)

    @property
    def shutdown_was_lossy(self) -> bool:
        """Whether spans were lost in it; what was given up and then arrived after all was not."""
        return self._ending.was_lossy

    @property
    def is_shut_down(self) -> bool:
        """Whether a shutdown has begun."""
        return self.intake.closed

    @property
    def shutdown_completed(self) -> bool:
        """Whether it has come to its end."""
        return self._ending.is_over

    @property
    def on_worker_thread(self) -> bool:
        return self._worker.thread_id == thread_id()

    @property
    def exporter_healthy(self) -> bool:
        """Whether the last export succeeded and none has been under way for more than three intervals."""
        return self._worker.healthy

    # -- the process ---------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Begin anew: locks, thread and sockets are the parent's, and so are the spans that it held."""
        with_parent = self.ledger.queued + self.ledger.in_flight + self.intake.waiting_batches
        self.ledger.restart()
        self.intake.restart()
        self._worker.restart()
        self._decisions.restart()
        self.sender.after_fork_in_child()
        self._prepare()
        self.ledger.book(DropReason.FORK, with_parent)
        self._ending.restart()

    def end_of_process(self) -> None:
        """Deliver what there is if nobody has shut us down, and leave no thread behind."""
        if not self.intake.closed:
            self.shutdown(self._grace)
        self._ending.wait_for_threads(self._grace)

    def can_wait_here(self) -> bool:
        """Not where this thread is in the ledger, for which the worker would wait, or is about to start the worker."""
        return not (self.ledger.is_held_here or self._is_starting)

    @property
    def is_ending_here(self) -> bool:
        """Whether this thread is in the middle of delivering: what would wait for that would wait for itself."""
        return self._ending.is_under_way_here or self._worker.is_guest_here

    def put_off(self, action: Callable[[], None]) -> None:
        """Have ``action`` done by this thread as soon as what it is in the middle of is over; it must not raise."""
        self._put_off.append(action)

    def deliver_before_signal(self) -> None:
        """Deliver what is held, within the grace, before the signal ends the process."""
        if self.intake.closed:
            self._ending.wait(self._grace)
        elif os.getpid() == 1:
            # The kernel spares the first process of a container a signal's default action: the program lives on.
            self.flush(self._grace)
        else:
            self.shutdown(self._grace)
