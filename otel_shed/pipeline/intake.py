"""The way in: application threads push, the export thread takes batches, and what waits between them is decided on.

Application threads call ``offer``, ``offer_batch`` and ``book``, and never wait. The export thread calls ``take`` and
``release``; it and the decision thread call ``decide``. The rules: each move of a span and its count are one step in
the ledger; behind the queue no more than a slice of work is done at a time, and while nothing is sent for it, no more
than a tenth of a processor.

A push wakes a consumer at most once: ``wake_when`` says from when on, and the thread that is woken says so again. The
export thread asks for a batch, or for a first record where it is idle; while it is in a call the decision thread is
woken instead, which looks whether traces are to be held.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from otel_shed.interruption import EXHAUSTED
from otel_shed.native import call_if_free
from otel_shed.outcome import DropReason
from otel_shed.pipeline.admission_threshold import CPU_SHARE, TICK_SECONDS, AdmissionThreshold
from otel_shed.pipeline.ledger import KIND, Fate, Ledger
from otel_shed.pipeline.queue import NEVER, Queue
from otel_shed.pipeline.store import Batch, Shed, Store
from otel_shed.record import SpanRecord

__all__ = ["NEVER", "Intake"]

# A thread that waits for the interpreter gets it after 5 ms (sys.getswitchinterval): a slice is well below, so a span
# that ends meanwhile is not kept waiting for longer than a thread of the program would.
SLICE_SECONDS: Final = 0.001
# While a flush or a shutdown waits. Not all of the 5 ms: so the ledger's lock is not held as the interpreter is lost.
LONG_SLICE_SECONDS: Final = 0.003
# Records between two looks at the clock: some tenths of a millisecond.
STEP: Final = 16
# While spans of undecided traces keep coming, the queue is drained so often: it delays decisions by hardly anything.
DRAIN_SECONDS: Final = 0.05
# While the export thread is in a call and nothing is held, so many more records are worth a look at the control.
WORTH_A_LOOK: Final = 512

_REFUSED: Final = KIND[DropReason.OVER_BUDGET]
_EVICTED: Final = KIND[DropReason.QUEUE_FULL]


class Thread(Protocol):
    """What is used of a decision thread."""

    def call(self) -> None: ...


class Intake:
    """The queue and the store behind it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Callable[[Shed, Queue], Store],
        clock: Callable[[], float],
        cpu_clock: Callable[[], float] = time.thread_time,
        shed: Callable[[Sequence[SpanRecord]], None] | None = None,
        wake: Callable[[], None] | None = None,
        decisions: Thread | None = None,
    ) -> None:
        """``store`` makes the store, given whom it has to tell of records that it lets go of, and the queue. ``clock``:
        seconds; ``cpu_clock``: seconds of processor time of the calling thread.

        ``shed`` is told of each of these too, in the ledger: it must not wait. ``wake``: the export thread.
        ``decisions``: the thread that decides while that one is in a call.
        """
        self._ledger = ledger
        self._queue = ledger.queue
        self.store = store(self._let_go, ledger.queue)
        self._clock, self._cpu_clock = clock, cpu_clock
        self._shed, self._wake, self._decisions = shed, wake, decisions
        self._admission = AdmissionThreshold()
        self.closed = False
        self._batches: deque[list[SpanRecord]] = deque()
        # What of the store's is worth waking the export thread.
        self.wake_at, self._wake_at_bytes = 1, NEVER
        self._forget()

    def _forget(self) -> None:
        self._batches.clear()
        self._is_given_up = False
        self._admission.restart()
        self._rests_until = -math.inf
        # Records with an order below this one are to be decided on at once.
        self._asked = 0
        self.is_left()

    # -- application threads -------------------------------------------------------------------------------------

    def offer(self, record: SpanRecord) -> None:
        """Take in a span that has ended; raises MemoryError or RecursionError only where it is in no count."""
        if self._queue.push(record):
            try:
                self.tell()
            except EXHAUSTED:  # the span is queued: the next one tells
                pass

    def offer_batch(self, records: Sequence[SpanRecord]) -> None:
        """Take in a batch, for a store of batches; raises as ``offer`` does."""
        self._batches.append(list(records))
        try:
            if self._settle_batches():
                self._call_worker()
        except EXHAUSTED:  # the batch has arrived: the next caller holds it
            pass

    def book(self, fate: Fate | DropReason, count: int = 1) -> None:
        """Count spans that ended and are not held."""
        self._ledger.book(fate, count)

    def tell(self) -> None:
        """Wake a consumer: as much waits as it asked for."""
        try:
            self._queue.wake_when(NEVER)
            (self._call_decisions if self._is_worker_away else self._call_worker)()
        except BaseException:  # a signal handler has raised before anybody was called: the next span does it
            self._queue.wake_when(1)
            raise

    def _call_worker(self) -> None:
        if self._wake is not None:
            self._wake()

    def _call_decisions(self) -> None:
        if self._decisions is not None:
            self._decisions.call()

    def settle(self) -> None:
        """Hold what has come by now."""
        if self._batches and not self._ledger.is_held_here:
            with self._ledger.lock:
                self._hold_batches()

    def _settle_batches(self) -> bool:
        """Hold the batches that have come; whether the export thread wants to know.

        Where another thread is in the ledger, it does: that one may have looked just before.
        """
        wakes = False
        lock = self._ledger.lock
        while self._batches:
            held = [] if self._ledger.is_held_here else call_if_free(lock, self._hold_batches)
            if not held:
                return True
            wakes = held[0] or wakes
        return wakes

    def _hold_batches(self) -> bool:
        while self._batches:
            batch = self._batches.popleft()
            if self.closed:
                self.book(DropReason.ALREADY_SHUTDOWN, len(batch))
            else:
                self._ledger.hold(len(batch))
                self.store.add_all(batch, self._clock())
        return self._is_wanted()

    # -- decisions -----------------------------------------------------------------------------------------------

    def decide(self) -> float | None:
        """Drain the queue into the store and decide on what is due, for a slice; the seconds until there is more to do.

        None while records go straight from the queue to the export thread, which calls this before each look at them.
        """
        with self._ledger.lock:
            # From here on nobody else decides: what this says of the queue holds until it waits.
            self._is_worker_away = False
            return self._decide()

    def decide_while_away(self) -> float | None:
        """Decide, on the decision thread; the seconds after which to come again, None when it is called."""
        with self._ledger.lock:
            if not self._is_worker_away:
                return None
            pause = self._decide()
            if pause is None and self._queue.wake_when(self._worth_a_look):
                # It is full: each push would call.
                self._queue.wake_when(NEVER)
                return TICK_SECONDS
            return None if pause is None or pause == math.inf else pause

    @property
    def _worth_a_look(self) -> int:
        """While nothing is held, so many records in the queue have the decision thread look at the control."""
        return min(self._queue.records + WORTH_A_LOOK, self.store.queue_capacity)

    def _decide(self) -> float | None:
        if self._is_given_up:
            return None
        self._hold_batches()
        now, store = self._clock(), self.store
        if not store.follow(now):
            self._set_admission(now, is_limited=False)
            return None
        if now < self._rests_until and not self._is_hurried:
            return self._rests_until - now
        began, drained, ready = self._cpu_clock(), 0, store.ready_spans
        while True:
            records = store.drain(STEP)
            if records:
                drained += len(records)
                self._ledger.pop(len(records))
                store.add_all(records, now)
            is_done = store.look(now, STEP) and len(records) < STEP
            spent = self._cpu_clock() - began
            if is_done or spent >= (LONG_SLICE_SECONDS if self._is_hurried else SLICE_SECONDS):
                break
        store.resize_queue()
        self._admission.spent(drained, spent)
        # Where most of what is decided on is sent at once, decisions are not held back.
        is_limited = store.takes_in and (self._is_worker_away or 2 * (store.ready_spans - ready) < drained)
        self._set_admission(now, is_limited=is_limited)
        rests = is_limited and not is_done and not self._is_hurried
        self._rests_until = now + spent * (1.0 / CPU_SHARE - 1.0) if rests else now
        return self._pause(now, is_done=is_done, has_come=drained > 0)

    @property
    def _is_hurried(self) -> bool:
        """Whether a flush or shutdown waits for decisions."""
        return self.closed or self.store.is_due or self._queue.oldest < self._asked

    def _pause(self, now: float, *, is_done: bool, has_come: bool) -> float | None:
        if not is_done:
            return max(0.0, self._rests_until - now)
        store = self.store
        if store.is_streaming:
            return None
        due = max(0.0, store.due_at - now)
        if self._admission.threshold:  # what it refuses wakes nobody
            due = min(due, TICK_SECONDS)
        if not store.takes_in:  # until the export thread has taken something, which then comes here
            self._queue.wake_when(NEVER)
            return due
        if self._queue.wake_when(NEVER if has_come else 1):
            return 0.0
        return min(due, DRAIN_SECONDS) if has_come else due

    def _set_admission(self, now: float, *, is_limited: bool) -> None:
        popped, waiting, length, kinds = self._queue.counts()
        came = popped + waiting + kinds[_REFUSED] + kinds[_EVICTED]
        # What is held behind the queue leaves it that much; of records as large as those that wait.
        capacity = min(self._queue.max_records, self._queue.max_bytes * waiting // max(1, length))
        if self._admission.tick(now, came=came, backlog=waiting, capacity=capacity, is_limited=is_limited):
            self.store.admit_from(self._admission.threshold)

    def _is_wanted(self) -> bool:
        """In the ledger: whether what is ready is what the export thread waits for; it is told once."""
        store = self.store
        is_full = store.ready_spans >= self.wake_at or store.ready_bytes >= self._wake_at_bytes
        if is_full or (store.is_sated and self.wake_at < NEVER):
            self.wake_at = self._wake_at_bytes = NEVER
            return True
        return False

    def _let_go(self, records: Sequence[SpanRecord], reason: DropReason | Fate) -> None:
        """In the ledger: the store lets go of these."""
        self._ledger.let_go(reason, len(records))
        if self._shed is not None:
            self._shed(records)

    # -- the export thread ---------------------------------------------------------------------------------------

    def goes(self) -> None:
        """In the ledger: the export thread is about to be in a call, and looks again before it waits."""
        self.wake_at = self._wake_at_bytes = NEVER
        self._is_worker_away = True
        self._queue.wake_when(self._worth_a_look if self.store.is_streaming else 1)

    def waits(self, *, for_spans: int, for_bytes: int) -> bool:
        """In the ledger, after ``decide``: the export thread waits for so much to be ready; whether it need not."""
        self._is_worker_away = False
        self.wake_at, self._wake_at_bytes = for_spans, for_bytes
        if not self.store.is_streaming:
            # Each record may end a trace, and is looked at by the timer that ``decide`` asked for.
            return self._is_wanted()
        # What is behind the queue counts too.
        behind, bytes_behind = self._ledger.pending, self.store.ready_bytes - self._queue.length
        return self._queue.wake_when(max(1, for_spans - behind), max(1, for_bytes - bytes_behind)) or self._is_wanted()

    def is_left(self) -> None:
        """No thread waits: the next push calls the export thread."""
        self._is_worker_away = False
        self.wake_at, self._wake_at_bytes = 1, NEVER
        self._queue.wake_when(1)

    def take(self, most: int, most_bytes: int = NEVER) -> Batch:
        """Move up to ``most`` records, and no more once they are of ``most_bytes``; these count until ``release``."""
        with self._ledger.lock:
            batch = self.store.take(most, most_bytes)
            self._ledger.take(len(batch.records) - batch.popped, batch.popped)
            self.store.resize_queue()
        return batch

    def grown(self, length: int) -> None:
        """What the export thread has taken has grown by so many bytes."""
        self.release(0, -length)

    def release(self, spans: int, length: int) -> None:
        """The export thread is done with so many spans: their bytes are free."""
        with self._ledger.lock:
            self.store.release(spans, length)
            self.store.resize_queue()

    # -- flush, shutdown, fork -----------------------------------------------------------------------------------

    def barrier(self) -> int:
        """An order of the queue behind everything that has ended by now, to be decided on at once."""
        order = self._queue.mark()
        with self._ledger.lock:
            self._hold_batches()
            self._asked = max(self._asked, order)
            self.store.decide_before(order)
        return order

    def hasten(self) -> None:
        """Have what was asked for seen to."""
        self._call_worker()
        if self._is_worker_away:
            self._call_decisions()

    def give_up(self) -> None:
        """Decide nothing more: what is held is about to be counted as lost. Needs no lock, for which others wait."""
        self._is_given_up = True

    def close(self) -> None:
        """Admit nothing from now on, and decide on all that is held."""
        with self._ledger.lock:
            self._hold_batches()
            self._queue.close()
            self.closed = True
            self.store.decide_before(NEVER)

    def clear(self) -> None:
        """Let go of what is not taken; the caller has booked it."""
        with self._ledger.lock:
            self.store.clear()

    @property
    def waiting_batches(self) -> int:
        """Spans of batches that have come and are not held yet."""
        return sum([len(batch) for batch in [*self._batches]])

    def restart(self) -> None:
        """In a forked child: what is held is the parent's to send."""
        self._forget()
        self.store.restart()
