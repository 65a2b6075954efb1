"""The way in: from the application's threads to the store, bounded, that the worker takes from.

Application threads offer, the worker takes. The rule: each move of a span and its count are one step in the ledger.

Application threads leave their records in an inbox, which needs no lock, and go. The worker sweeps it into the store;
while it is in a call, its stand-in does (sweeper.py). Only these two move what is held, but for places that have no
stand-in: so what holding and deciding costs is not paid in Span.end(), and no signal handler, finalizer or interrupt
comes in the middle of it.
``look_at`` is the number of entries at which one of them is to be told: 1 when the worker is idle, so that it needs no
timer, and while somebody gives way, so that others do too. Whoever finds no room waits until there is some.

``wake_at`` is the number of ready spans at which the worker wants to be woken, and ``looks_at`` the time at which it
looks by itself: what is due before wakes it too. The worker writes both in the ledger, after looking at the store, so a
record either is seen by that look or finds the new ``wake_at``: no wake-up is lost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from otel_shed.native import give_way, thread_id
from otel_shed.outcome import DropReason
from otel_shed.pipeline import way
from otel_shed.pipeline.inbox import InboxSizes
from otel_shed.pipeline.ledger import Fate, Ledger
from otel_shed.pipeline.store import Batch, Shed, Store
from otel_shed.record import SpanRecord

NEVER = sys.maxsize


class StandIn(Protocol):
    """What is used of a sweeper."""

    def call(self) -> None: ...
    def run(self, job: Callable[[], object]) -> None: ...


class Intake:
    """The inbox before a store."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Callable[[Shed], Store],
        max_bytes: int,
        clock: Callable[[], float],
        shed: Callable[[Sequence[SpanRecord]], None] | None = None,
        wake: Callable[[], None] | None = None,
        stand_in: StandIn | None = None,
    ) -> None:
        """``store`` makes the store, given whom it has to tell of records that it lets go of. ``max_bytes``: of the
        store. ``clock``: seconds.

        ``shed`` is told of each of these too, in the ledger: it must not wait. ``wake``: the worker; ``stand_in``: who
        sweeps while that is in a call, and for others; without one, everybody does for himself.
        """
        self._ledger = ledger
        self.store = store(self._let_go)
        self._clock = clock
        self._shed, self._wake, self._stand_in = shed, wake, stand_in
        self.closed = False
        self.sizes = sizes = InboxSizes.of(capacity=self.store.capacity, max_bytes=max_bytes)
        self._room, self.largest = sizes.room, sizes.largest
        self._way = way.Way(room=sizes.room)
        self._roomy = max(1, int(way.GIVES_WAY_AT * self.store.capacity))
        # Records, batches of them, what is booked without being held (a fate and how many spans), and what is to be
        # done once all that stands before it is held.
        self.inbox: list[Any] = []
        self._forget()

    def _forget(self) -> None:
        self.inbox.clear()
        self._large_bytes = self.admitted = 0
        self.look_at = self._looks_from = self.wake_at = 1
        self.wake_at_bytes, self.looks_at = NEVER, math.inf
        self._is_worker_away, self._brief_until = False, -math.inf

    # -- application threads -------------------------------------------------------------------------------------

    def offer(self, record: SpanRecord) -> None:
        """Take in a span that has ended."""
        self.inbox.append(record)
        if record.length > self.largest:
            self._weigh(record.length)
        if len(self.inbox) >= self.look_at:
            self.tell()

    def _weigh(self, length: int) -> None:
        """A large span is in the inbox: these are added up, as near as matters where several threads do at once."""
        self._large_bytes += length
        if self._large_bytes > self.sizes.most_bytes // 2:
            self.settle_inbox()
        elif self._large_bytes + self.store.ready_bytes >= self.wake_at_bytes:
            self.wake_at_bytes = NEVER
            self._call_worker()

    def offer_batch(self, records: Sequence[SpanRecord]) -> None:
        """Take in a batch, for a store of batches."""
        self.inbox.append(list(records))
        self.settle_inbox()

    def book(self, fate: Fate | DropReason, count: int = 1) -> None:
        """Count spans that ended and are not held."""
        self.inbox.append((fate, count))
        if len(self.inbox) >= self.look_at:
            self.tell()

    def do_next(self, job: Callable[[], object]) -> None:
        """Have something done, in the ledger, by whoever sweeps: when all that was offered before is held."""
        self.inbox.append(job)
        (self._call_stand_in if self._is_worker_away else self._call_worker)()

    def tell(self) -> None:
        """There is something in the inbox that somebody is to be told of; who fills the queue may sleep (way.py)."""
        if self.look_at <= self._room:
            self.look_at = self._room + 1
            try:
                (self._call_stand_in if self._is_worker_away else self._call_worker)()
            except BaseException:  # a signal handler has raised before anybody was called: the next span does it
                self.look_at = self._looks_from
                raise
        if len(self.inbox) > self._room:
            self.settle_inbox()
        if self.store.ready_spans > self._roomy and (now := self._clock()) < self._brief_until:
            fill = self.store.ready_spans / self.store.capacity
            seconds = self._way.seconds(fill, now, thread_id())
            if self._way.is_given(self._clock):
                self.look_at = 1
            if seconds and not self._ledger.is_held_here:  # as it may be by a finalizer, in the middle of a sweep
                give_way(seconds)

    def _call_worker(self) -> None:
        if self._wake is not None:
            self._wake()

    def _call_stand_in(self) -> None:
        if self._stand_in is not None:
            self._stand_in.call()

    def settle_inbox(self) -> None:
        """Have swept what has been offered up to now."""
        self.do(self.sweep)

    def do(self, job: Callable[[], object]) -> None:
        """Have something done to what is held; not where this thread is in the ledger, as a finalizer may be."""
        if self._ledger.is_held_here:
            self._call_worker()
        elif self._stand_in is None:
            job()
        else:
            self._stand_in.run(job)

    # -- the worker and its stand-in -----------------------------------------------------------------------------

    def sweep(self, *, wakes: bool = True) -> bool:
        """Move all that is in the inbox to the store; whether there was anything. ``wakes`` the worker if it wants."""
        swept = wake = False
        with self._ledger.lock:
            # Before each look: what comes after it tells again, also where somebody told of what had been swept.
            self.look_at = self._looks()
            while self.inbox:
                swept = True
                wake = self._sweep() or wake
                self.look_at = self._looks()
        if wake and wakes:
            self._call_worker()
        return swept

    def _sweep(self) -> bool:
        """One round of it, in the ledger; whether the worker wants to be woken."""
        inbox, job = self.inbox, None
        self._large_bytes = 0
        # What comes between these two is behind what they move.
        entries = inbox[:]
        if list(map(type, entries)).count(SpanRecord) == len(entries):
            del inbox[: len(entries)]
            return self._hold(entries, len(entries))
        if (place := next((place for place, entry in enumerate(entries) if callable(entry)), None)) is not None:
            job, entries = entries[place], entries[:place]
        del inbox[: len(entries) + (job is not None)]
        wake = self._hold(*self._book(entries))
        if job is not None:
            job()
        return wake or job is not None

    def _hold(self, entries: list[Any], count: int) -> bool:
        """Hold these, which are so many spans; whether the worker wants to be woken."""
        ledger, store = self._ledger, self.store
        ledger.ended += count
        if self.closed:
            ledger.dropped[DropReason.ALREADY_SHUTDOWN] += count
            return False
        self.admitted += count
        ledger.queued += count
        store.add_all(entries, self._clock())
        if self._is_worker_away:
            self._looks_from = self._while_away()
        if store.ready_spans >= self.wake_at or store.ready_bytes >= self.wake_at_bytes:
            self.wake_at = self.wake_at_bytes = NEVER
            return True
        if store.due_at < self.looks_at:
            self.looks_at = store.due_at
            return True
        return False

    def _book(self, entries: list[Any]) -> tuple[list[Any], int]:
        """Count what is booked without being held; the other entries, and of how many spans they are."""
        for entry in entries:
            if type(entry) is tuple:
                self._ledger.book(*entry)
        held = [entry for entry in entries if type(entry) is not tuple]
        return held, sum([len(entry) if type(entry) is list else 1 for entry in held])

    def _let_go(self, records: Sequence[SpanRecord], fate: DropReason | Fate) -> None:
        self._ledger.let_go(fate, len(records))
        if self._shed is not None:
            self._shed(records)

    def goes(self, *, is_brief: bool = True) -> None:
        """In the ledger: the worker is about to be in a call. Nobody needs to wake it: it looks before it waits.

        ``is_brief``: who fills the queue is to give way to it, for a while.
        """
        self.wake_at, self.wake_at_bytes, self.looks_at = NEVER, NEVER, -math.inf
        self._is_worker_away, self._brief_until = True, self._clock() + way.PATIENCE_SECONDS if is_brief else -math.inf
        self.look_at = self._looks_from = self._while_away()

    def _while_away(self) -> int:
        """So many spans are worth having the stand-in sweep; those that fill the queue give way each time."""
        if not self.store.is_streaming:
            return self.sizes.few
        return self.sizes.many if self.store.ready_spans > self._roomy else self.sizes.gathered

    def _looks(self) -> int:
        return 1 if self._way.is_given(self._clock) else self._looks_from

    def waits(self, *, for_spans: int, for_bytes: int, until: float, gather: int) -> None:
        """In the ledger: the worker waits for so much to be ready, or ``until`` it looks by itself.

        ``gather``: so many spans may be in the inbox before it is woken for them.
        """
        self.wake_at, self.wake_at_bytes, self.looks_at = for_spans, for_bytes, until
        self._is_worker_away = False
        self.look_at = self._looks_from = max(1, min(gather, self.sizes.gathered))

    def take(self, most: int, most_bytes: int = NEVER) -> Batch:
        """Move up to ``most`` records, and no more once they are of ``most_bytes``; these count until ``release``."""
        with self._ledger.lock:
            batch = self.store.take(most, most_bytes)
            count = len(batch.records)
            self._ledger.queued -= count
            self._ledger.in_flight += count
            self._ledger.submitted += count
        return batch

    def grown(self, length: int) -> None:
        """What the worker has taken has grown by so many bytes."""
        with self._ledger.lock:
            self.store.release(0, -length)

    def release(self, spans: int, length: int) -> None:
        """The worker is done with so many spans: their bytes are free."""
        with self._ledger.lock:
            self.store.release(spans, length)

    def mark(self) -> int:
        """In the ledger: a barrier behind everything that has been offered up to now."""
        return self.store.mark(self._clock())

    def clear(self) -> None:
        """Let go of what is not taken; the caller has booked it."""
        with self._ledger.lock:
            self.store.clear()

    def close(self) -> None:
        """Admit nothing from now on, and decide on all that is held."""
        with self._ledger.lock:
            self.sweep()
            if not self.closed:
                self.closed = True
                self.mark()

    # -- a forked child ------------------------------------------------------------------------------------------

    @property
    def waiting_spans(self) -> int:
        """How many wait in the inbox, as near as can be told without the ledger."""
        entries = [entry for entry in [*self.inbox] if type(entry) is not tuple and not callable(entry)]
        return sum([len(entry) if type(entry) is list else 1 for entry in entries])

    def restart(self) -> None:
        """In a forked child: what is held is the parent's to send."""
        self._forget()
        self.store.restart()
