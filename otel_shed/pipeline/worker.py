"""The export thread: takes, batches and sends.

``wake`` and ``request_flush`` are called by other threads, which may read ``last_turn``, ``last_outcome``, its losses
and whether it is at work; all else by the export thread alone (or, where no thread can be started, by those that flush
and shut down, one at a time). The rule: export calls are made one at a time, in the order in which spans ended, and no
wait is longer than the next thing that is due.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from threading import TIMEOUT_MAX

from otel_shed.log_limit import LogLimit
from otel_shed.native import MOMENT_SECONDS, Lock, Signal, allocate_lock, thread_id
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.batch_size import BatchSize
from otel_shed.pipeline.flush import Flush
from otel_shed.pipeline.intake import Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.losses import Losses
from otel_shed.pipeline.sender import Sender
from otel_shed.pipeline.store import Batch, Change
from otel_shed.record import SpanRecord

_logger = logging.getLogger("otel_shed")

# So that a fault that comes again at once does not keep a processor busy.
_PAUSE_AFTER_FAULT_SECONDS = 1.0

# A worker that has no end of batches looks up so often.
LOOK_SECONDS = 0.05

# Of the time for which a batch gathers, after a full one, before it is known whether there is another.
EXPECTED_SHARE = 1 / 4


class Worker:
    """Takes batches from the intake when they are due and sees each of them through to its outcome."""

    def __init__(
        self,
        *,
        intake: Intake,
        ledger: Ledger,
        sender: Sender,
        batch_size: int,
        batch_bytes: int,
        linger: float,
        interval: float,
        clock: Callable[[], float],
        look: Callable[[float], float | None] | None = None,
    ) -> None:
        """A batch is full with ``batch_size`` spans or ``batch_bytes`` bytes. ``linger``: seconds for which one that
        is not waits for more. ``interval``: seconds; an export that takes more than three of them is a sign that the
        exporter hangs. ``look`` is called with the time before the worker rests, or now and then if it has no rest; it
        says in how many seconds it wants to be called again, whether anything is queued or not; None is whenever.
        """
        self._intake = intake
        self._ledger = ledger
        self._sender = sender
        self._batch_size = BatchSize(batch_size)
        self._batch_bytes, self._linger, self._interval = batch_bytes, linger, interval
        self._clock, self._look = clock, look
        self._log = LogLimit(_logger, clock=clock)
        self.losses = Losses(ledger, where=sender.where, clock=clock)
        self.restart()

    def restart(self) -> None:
        """Forget what was going on; in a forked child the thread is not there, and the lock may be in any state."""
        self._alarm: Lock = allocate_lock()
        self._alarm.acquire()
        self._at_work: Lock = allocate_lock()
        self._flushes: list[Flush] = []
        self.losses.restart()
        # When what has come goes, and how much of it is still to go then.
        self._due: float | None = None
        self._owed = 0
        # Whether the last batch was full; seconds for which spans may have waited before they are seen.
        self._expects_more, self._expected = False, 0.0
        self._guests: set[int] = set()  # threads that turn, or wait to, and then go on to something else
        self.finished = Signal()
        self.last_turn = self._clock()
        self._looked = -math.inf
        self.last_outcome: Outcome | None = None
        self.thread_id: int | None = None

    # -- called by other threads ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the worker look again; never blocks, may be called from a signal handler."""
        try:
            self._alarm.release()
        except RuntimeError:  # it was awake already
            pass

    def request_flush(self, timeout: float) -> Flush:
        """Ask for a barrier after everything that has been offered so far."""
        flush = Flush(deadline=self._clock() + timeout, told=self.losses.told)
        with self._ledger.lock:  # in which the worker looks for flushes before it says that it has finished
            self.losses.begin(flush)
            flush.order = self._intake.barrier()
            self._flushes.append(flush)
        if self.finished.is_set():
            self._answer_after_the_end()
        else:
            self._intake.hasten()
        return flush

    def _answer_after_the_end(self) -> None:
        """There is nobody any more who would come to these flushes."""
        while self._flushes:
            try:
                flush = self._flushes.pop()
            except IndexError:  # another thread was faster
                return
            flush.delivered = not self.losses.since(flush)
            flush.done.set()

    # -- the worker thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until the intake is closed and empty; at once where another thread is at it."""
        self._alone(self._run, 0.0)

    def turn_here(self, timeout: float) -> None:
        """Do all that is due on the caller's thread, where none can be started; waits so long for another that does."""
        deadline = self._clock() + timeout

        def turns() -> None:
            try:
                while self.turn() == 0.0 and not self.finished.is_set() and self._clock() < deadline:
                    pass
            finally:
                self._intake.is_left()

        self._guests.add(thread_id())
        try:
            self._alone(turns, max(0.0, min(timeout, TIMEOUT_MAX)))
        finally:
            self._guests.discard(thread_id())

    @property
    def is_guest_here(self) -> bool:
        """Whether this thread is in the middle of ``turn_here``, which a signal handler or a finalizer interrupted."""
        return thread_id() in self._guests

    def _alone(self, work: Callable[[], object], timeout: float) -> None:
        at_work = self._at_work
        if at_work.acquire(timeout=timeout):
            try:
                work()
            finally:
                at_work.release()

    @property
    def is_at_work(self) -> bool:
        """Whether a thread is, asleep or not. (Thread.is_alive is wrong of a thread that an interrupt saw starting.)"""
        return self._at_work.locked()

    def _run(self) -> None:
        self.thread_id = thread_id()
        while True:
            try:
                pause = self.turn()
            except BaseException as error:  # a fault: the spans in hand are lost and counted, the next ones are not
                self._log.warning("worker", "fault in the worker: %s: %s", type(error).__name__, error, exc_info=True)
                pause = _PAUSE_AFTER_FAULT_SECONDS
            if self.finished.is_set():
                self.thread_id = None  # the next thread may get the same one
                return
            self._alarm.acquire(timeout=-1 if pause is None else max(MOMENT_SECONDS, min(pause, TIMEOUT_MAX)))

    def turn(self) -> float | None:
        """Do all that is due; the seconds after which something will be, None when only a wake-up can make it so."""
        looked = self._looked
        while True:
            self.last_turn = self._clock()
            pause = self._intake.decide()
            for flush in self._passed() if self._flushes else ():
                self._complete(flush)
            batch, pause = self._next(pause)
            if not batch.records:
                if self.finished.is_set():
                    self._answer_after_the_end()
                return _sooner(pause, self._look_in(is_due=not self._expected or self._looked != looked))
            # Also between two batches: a worker that has no end of them is the one that there is most to see of.
            self._look_in(is_due=bool(self._flushes))
            self._export(batch)
            del batch  # not held any longer than it is counted, whatever a flush takes

    def _look_in(self, *, is_due: bool) -> float | None:
        """The seconds after which to do it again. Where batches follow upon each other, not each of them brings one."""
        if self._look is None:
            return None
        if not is_due and self._looked <= self.last_turn < self._looked + LOOK_SECONDS:
            return LOOK_SECONDS
        self._looked = self._clock()
        return self._look(self._looked)

    def _passed(self) -> list[Flush]:
        """The barriers that nothing queued stands before any more; nothing is in flight when this is asked."""
        store, passed = self._intake.store, []
        with self._ledger.lock:
            for flush in [*self._flushes]:
                if flush.mark is None:
                    flush.mark = store.mark(flush.order)
                if flush.mark is not None and store.is_past(flush.mark):
                    self._flushes.remove(flush)  # in one step: another thread may add one
                    passed.append(flush)
        return passed

    def _next(self, pause: float | None) -> tuple[Batch, float | None]:
        """The batch that is due, or none and how long to wait for one; in ``pause`` there is more to decide."""
        now, store = self._clock(), self._intake.store
        with self._ledger.lock:
            ready = 0 if self._ledger.abandoned else store.ready_spans
            if ready == 0:
                self._due, self._owed = None, 0
            elif self._due is None:
                self._due = now + self._linger - self._expected
            if self._due is not None and now >= self._due:
                self._owed = self._owed or ready
            size = self._batch_size.spans
            # While there is more to decide that is asked for, batches fill up.
            is_asked = self._intake.closed or bool(self._flushes)
            urgent = any(flush.mark is not None for flush in self._flushes) or (is_asked and pause != 0.0)
            full = ready >= size or store.ready_bytes >= self._batch_bytes or store.is_sated
            if ready and (urgent or full or self._owed):
                most_bytes = min(self._batch_bytes, self._sender.most_bytes())
                batch = self._intake.take(size, most_bytes)
                for _ in range(1, self._sender.at_once):
                    batch.add(self._intake.take(size, most_bytes))
                if 0 < self._owed <= len(batch.records) or not store.ready_spans:
                    self._due = None  # what is left, or comes, came later
                self._owed = max(0, self._owed - len(batch.records))
                if batch.records:  # or it was evicted just now
                    self._intake.goes()
                    self._expects_more = full and store.is_streaming and not self._guests
                    return batch, None
            # After a full batch more is expected: then the first span of the next one is not worth a wake-up.
            self._expected, self._expects_more = EXPECTED_SHARE * self._linger if self._expects_more else 0.0, False
            gathers = self._due is not None or self._expected > 0.0
            pause = _sooner(pause, self._due - now if self._due is not None else self._expected or None)
            need_not = self._intake.waits(for_spans=size if gathers else 1, for_bytes=self._batch_bytes)
            is_empty = not (store.ready_spans or store.holds_undecided or self._ledger.queue.records)
            if self._intake.closed and not self._flushes and (is_empty or self._ledger.abandoned):
                self.finished.set()
            # Something was asked for, or has come, since the last look.
            at_once = need_not or (self._flushes and not pause) or (self._intake.closed and not is_empty)
            return Batch(), 0.0 if at_once else pause

    @property
    def healthy(self) -> bool:
        """Whether the last export succeeded and none has been under way for more than three intervals."""
        outcome = self.last_outcome
        hangs = self._ledger.in_flight > 0 and self._clock() - self.last_turn > 3 * self._interval
        return not hangs and (outcome is None or outcome.reason is None)

    def _complete(self, flush: Flush) -> None:
        delivered = True
        if (left := flush.deadline - self._clock()) > 0:
            try:
                delivered = self._sender.flush(left)
            except BaseException as error:  # an exporter's sys.exit() is not for this thread to carry out
                delivered = False
                self._log.warning("flush", "the exporter's force_flush failed: %s: %s", type(error).__name__, error)
        # A loss fails the flushes that were asked for before it was told; the counts keep it for good.
        flush.delivered = not self.losses.since(flush) and delivered
        flush.done.set()

    def _export(self, batch: Batch) -> None:
        left, length = len(batch.records), batch.length
        try:
            if batch.changes:
                growth = sum([self._amend(record, change) for record, change in batch.changes.items()])
                self._intake.grown(growth)
                length += growth
            pieces = self._sender.split(batch.records)
            for piece, outcome in zip(pieces, self._sender.send_all(pieces), strict=True):
                left -= len(piece)
                of_piece = sum([record.length for record in piece]) if left else length
                length -= of_piece
                self._settle(len(piece), of_piece, outcome)
        except BaseException:
            outcome = Outcome(accepted=0, reason=DropReason.EXPORTER_ERROR, message="internal fault")
            self._settle(left, length, outcome)
            raise

    def _amend(self, record: SpanRecord, change: Change) -> int:
        try:
            return self._sender.amend(record, change)
        except Exception as error:  # a span object that breaks when it is read
            self._log.warning("amend", "a span could not be changed and goes out as it was: %r", error)
            return 0

    def _settle(self, spans: int, length: int, outcome: Outcome) -> None:
        self._intake.release(spans, length)
        self._ledger.settle(spans, outcome)
        self._batch_size.sent(spans, outcome)
        self.last_turn = self._clock()
        self.last_outcome = outcome
        if outcome.accepted < spans:
            self.losses.report(spans, outcome)


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
