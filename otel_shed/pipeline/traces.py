"""The local traces that are held until they can be decided on whole, and what becomes of their spans.

Called in the ledger, by the decision thread and by the export thread. There are two ways through. While traces are
held, their spans are drained from the queue and wait until the local root has ended, or the trace timeout is over, or
room is needed; then the policy decides, once, for all that has come and will. While they are not, a batch is popped
straight from the queue, and all that is kept in mind are the traces that have begun to go out. The rules that must stay
true: nothing in here waits or raises, and a span costs the same however many are held; of each trace, for as long as it
is remembered, all goes out or nothing; what is held is bounded, and ``shed`` is told of each span that is let go of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from otel_shed.outcome import DropReason
from otel_shed.pipeline.bounds import Bounds
from otel_shed.pipeline.decided import SENT, Decided
from otel_shed.pipeline.held import Decision, HeldTrace
from otel_shed.pipeline.judge import Judge
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.queue import NEVER, Queue
from otel_shed.pipeline.ready import Ready
from otel_shed.pipeline.store import Batch, Shed
from otel_shed.pipeline.undecided import Undecided
from otel_shed.pipeline.verdict import Policy, Verdict
from otel_shed.record import Priority, SpanRecord

# So much of what may be held is for traces: the rest is the queue's, or nothing could come in.
SHARE_OF_HELD = 7 / 8
# What the smallest record takes in memory: without a bound in spans, so many bytes of the bound are one span.
LEAST_BYTES = 256
LARGEST_SHARE = 1 / 4  # of the bounds: a larger trace is decided at once, or it would push out all the others
# When there is no room, what was kept gives way if it takes more than this share, before what is undecided and of the
# same worth: of that some may still fail.
READY_SHARE = 1 / 4
SATED_SHARE = 1 / 2  # a batch of so much need not wait for more
MOST_WHILE_HOLDING = 0.85  # as a fill: the pressure is its square root, and stays below that of SHED_OPTIONAL
STALE_SECONDS = 10.0  # longer than a few batches take: what waits for so long is a backlog

_NO_ROOM = Verdict(DropReason.OVER_BUDGET)
_SHED = {reason: Decision(reason) for reason in (*DropReason, Fate.SUMMARIZED)}


class Traces:
    """Holds, decides and hands over.

    capacity: of what waits for the worker in traces, in spans; more only where one trace alone has more. bounds: of all
    that is held here. is_holding: whether new traces are held. is_streaming: the fast way through: nothing is held, no
    span has to follow a decision. judge: asks the policy.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        shed: Shed,
        queue: Queue,
        holds: Callable[[], bool],
        capacity: int,
        max_spans: int,
        max_bytes: int,
        trace_timeout: float,
        max_queue_size: int | None = None,
        nominal: int | None = None,
        stale: float = STALE_SECONDS,
    ) -> None:
        """``shed`` is told of each span that is let go of. ``holds``: whether new traces are to be held. ``max_spans``,
        ``max_bytes``: of all that is held. ``max_queue_size``: of all that waits, the queue included, in spans; None is
        no bound. ``nominal``: so many that wait are a fill of 1; ``capacity`` if None. ``trace_timeout``: seconds after
        its first span at which a trace is decided at the latest. ``stale``: as of Ready.
        """
        self.judge = Judge(policy)
        self._tell = shed
        self._queue = queue
        self._holds = holds
        self.capacity, self.nominal = capacity, nominal or capacity
        self.max_queue_size, self.max_bytes = max_queue_size, max_bytes
        self.bounds = Bounds(
            max_spans=max_spans,
            max_waiting=max(1, int(SHARE_OF_HELD * (max_queue_size or NEVER))),
            max_length=int(SHARE_OF_HELD * max_bytes),
        )
        self._undecided = Undecided(timeout=trace_timeout)
        self._ready = Ready(stale=stale)
        self._decided = Decided(lifetime=trace_timeout)
        self.is_holding = False
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child, what is held is the parent's. Whether traces are held stays."""
        self.judge.restart()
        self.bounds.restart()
        self._forget()

    def _forget(self) -> None:
        self._undecided.restart()
        self._ready.restart()
        self._decided.restart()
        self._kept = 0
        self._held_since = math.inf
        # Traces whose first span has an order below this one are to be decided on now.
        self._decides_before = 0
        # Up to this order the queue may have held records against a threshold.
        self._admissions_before = 0
        self.is_streaming = not self.is_holding
        self.resize_queue()

    def resize_queue(self) -> None:
        """Have the queue hold what is left of the bounds."""
        most = self.max_bytes // LEAST_BYTES if self.max_queue_size is None else self.max_queue_size
        self._queue.resize(most - self.bounds.waiting, self.max_bytes - self.bounds.length)

    @property
    def queue_capacity(self) -> int:
        """The most spans that may wait, in the queue and here."""
        return self.max_bytes // LEAST_BYTES if self.max_queue_size is None else self.max_queue_size

    @property
    def ready_spans(self) -> int:
        ready = self._ready.traces_spans + self._ready.stream.spans
        return ready + self._queue.records if self.is_streaming else ready

    @property
    def ready_bytes(self) -> int:
        return self._ready.length + self._queue.length if self.is_streaming else self._ready.length

    @property
    def held_bytes(self) -> int:
        return self.bounds.length + self._queue.length

    @property
    def utilization(self) -> float:
        waiting = (self.bounds.waiting + self._queue.records) / self.queue_capacity
        return min(1.0, max(waiting, self.held_bytes / self.max_bytes))

    @property
    def undecided_spans(self) -> int:
        return max(0, self.bounds.waiting - self._ready.spans)

    @property
    def holds_undecided(self) -> bool:
        return bool(self._undecided.traces)

    @property
    def held_since(self) -> float:
        # Read without the ledger too, by who must not wait: then it may be of a moment ago.
        try:
            oldest = self._undecided.oldest
            self._held_since = min(self._ready.since, math.inf if oldest is None else oldest.began)
        except (KeyError, RuntimeError, StopIteration):  # a trace has come or gone in the middle
            pass
        return self._held_since

    @property
    def fill(self) -> float:
        waiting = self._ready.spans + self._queue.records
        fill = self._ready.spans / self.nominal if self.is_holding else waiting / self.nominal
        if self.is_holding:
            # While traces are held the policy empties what is ready: only what nears all that may be held is worse.
            fill = max(min(fill, MOST_WHILE_HOLDING), self._ready.spans / self.bounds.max_spans)
            fill = max(fill, self._queue.records / self.queue_capacity)
        return min(1.0, fill)

    def follow(self, now: float) -> bool:
        """Hold new traces or not, as is wanted; whether the queue is to be drained in here."""
        if self._holds() is not self.is_holding:
            self.hold(not self.is_holding, now)
        return not self.is_streaming

    def drain(self, most: int) -> list[SpanRecord]:
        """Up to ``most`` records of the queue; while nothing new is held, no more than there is room for."""
        if not self.takes_in:
            return []
        if self.is_holding:
            return self._queue.pop(most)[0]
        # What more would come would only push out what is ready, though it may wait in the queue.
        bounds = self.bounds
        spans, length = bounds.max_waiting - bounds.waiting, bounds.max_length - bounds.length
        records = self._queue.pop(min(most, spans), length)[0] if spans > 0 and length > 0 else []
        return records or self._queue.pop(1)[0]

    def add_all(self, records: Sequence[SpanRecord], now: float) -> None:
        """Records that were popped; ``now`` in seconds of the shedder's clock."""
        bounds, ready = self.bounds, self._ready
        for record in records:
            bounds.add(1, record.length)
            self._place(record, now)
            if bounds.are_exceeded or (ready.spans > self.capacity and ready.traces):
                self._make_room(now)

    def _place(self, record: SpanRecord, now: float) -> None:
        trace_id = record.trace_id
        trace = self._undecided.traces.get(trace_id)
        if trace is None:
            kept = self._ready.traces.get(trace_id)
            if (decision := self._decided.get(trace_id) if kept is None else kept.decision) is not None:
                self._follow(record, decision, kept)
                return
            if not self.is_holding:
                self._ready.add(record, SENT.change(record) if record.admission else None)
                return
            if record.is_local_root:  # all that there is of it: it need not wait with those that are held
                trace = HeldTrace(record, now)
                trace.add(record)
                self._ask(trace, now)
                return
            trace = self._undecided.begin(record, now)
        self._undecided.add(trace, record)
        if trace.root_ns is not None or self.bounds.are_less_than(LARGEST_SHARE, len(trace.records), trace.length):
            self._decide(trace, now)

    def _follow(self, record: SpanRecord, decision: Decision, kept: HeldTrace | None) -> None:
        """What became of its trace becomes of a late span."""
        if decision.reason is not None:
            self._let_go([record], decision.reason)
        elif decision.leaves_out(record):
            self._let_go([record], DropReason.LOW_PRIORITY)
        else:
            self._kept += decision is not SENT
            if kept is not None:
                self._ready.join(kept, record)
            else:
                self._ready.add(record, decision.change(record))

    def _decide(self, trace: HeldTrace, now: float) -> None:
        self._undecided.remove(trace)
        self._ask(trace, now)

    def _ask(self, trace: HeldTrace, now: float) -> None:
        self._carry_out(trace, self.judge.ask(trace, now, self._ready.spans, self._kept), now)

    def _carry_out(self, trace: HeldTrace, verdict: Verdict, now: float) -> None:
        if verdict.reason is not None:
            self._shed(trace, verdict.reason)
            return
        trace.decision = decision = Decision(threshold=verdict.threshold or 0, min_priority=verdict.min_priority)
        if verdict.min_priority > Priority.LOW:
            trace.records, left_out = decision.part(trace.records)
            trace.length -= self._let_go(left_out, DropReason.LOW_PRIORITY)
        if trace.records:
            self._kept += len(trace.records)
            trace.rank = max(trace.rank, verdict.rank)
            self._ready.add_trace(trace, now)
        else:
            self._begun(trace)

    def _shed(self, trace: HeldTrace, reason: DropReason | Fate) -> None:
        self._decided.remember(trace.trace_id, _SHED[reason])
        self._let_go(trace.records, reason)

    def _let_go(self, records: Sequence[SpanRecord], reason: DropReason | Fate) -> int:
        length = sum([record.length for record in records])
        self.bounds.add(-len(records), -length)
        if records:
            self._tell(records, reason)
        return length

    def _make_room(self, now: float) -> None:
        """Decide before the time, or let go of what was kept, until what is held is within the bounds."""
        ready = self._ready
        while ready.spans > self.capacity and len(ready.traces) > (not ready.stream.spans):
            self._sweep_ready()
        while self.bounds.are_exceeded:
            undecided, kept = self._undecided.ranked.lowest, ready.ranked.lowest
            much_is_kept = self.bounds.are_less_than(READY_SHARE, ready.spans, ready.length)
            if undecided is not None and (kept is None or undecided < kept or (undecided == kept and not much_is_kept)):
                self._sweep(undecided, now)
            elif not ready.spans:  # the rest is in the worker's hands
                return
            elif kept is None or ready.stream.spans > ready.traces_spans:
                # Some traces that have begun to go out, and what still comes of them: of these, not of all.
                for record in ready.cut():
                    self._decided.remember(record.trace_id, _SHED[DropReason.QUEUE_FULL])
                    self._let_go([record], DropReason.QUEUE_FULL)
            else:
                self._sweep_ready()

    def _sweep_ready(self) -> None:
        """Let go of those that wait to go out whole and stand lowest; there must be some."""
        for trace in self._ready.sweep(self._ready.ranked.lowest or Priority.LOW):
            self._shed(trace, DropReason.OVER_BUDGET)

    def _sweep(self, rank: Priority, now: float) -> None:
        """Decide on the undecided traces of ``rank`` that stand lowest; only what is kept for what it is stays."""
        traces, edge = self._undecided.sweep(rank)
        owed = 0
        for trace in traces:
            verdict = self.judge.ask(trace, now, self._ready.spans, self._kept)
            if verdict.reason is None and verdict.threshold is not None:
                # What stands higher will be held against another threshold, and both could not be right.
                verdict = _NO_ROOM
            owed = owed if verdict.reason is None else edge
            self._carry_out(trace, verdict, now)
        self._undecided.ranked.owe(rank, owed)

    def hold(self, is_wanted: bool, now: float) -> None:
        """From now on new traces are held, or go out as they come; those that are held are decided at a look."""
        was_holding, self.is_holding = self.is_holding, is_wanted
        if is_wanted and not was_holding:
            self._begin_to_hold(now)
        self.look(now, 0)

    def _begin_to_hold(self, now: float) -> None:
        """Put what waits to go out together to traces, but for those of which something has gone by now."""
        self.is_streaming = False
        back = self._ready.take_back()
        self._decided.sent(list(self._ready.stream))
        decisions = [self._decided.get(record.trace_id) for record in back]
        for record, decision in zip(back, decisions, strict=True):
            if decision is None:
                self._place(record, now)
            else:
                self._ready.add(record, decision.change(record))

    @property
    def due_at(self) -> float:
        return self._undecided.due_at

    @property
    def is_due(self) -> bool:
        """Whether a trace is to be decided on now, whatever the time is."""
        oldest = self._undecided.oldest
        return oldest is not None and oldest.order < self._decides_before

    @property
    def is_sated(self) -> bool:
        return self.bounds.are_less_than(SATED_SHARE, self._ready.spans, self._ready.length)

    @property
    def takes_in(self) -> bool:
        # While nothing new is held, what is too much is the queue's to evict: it knows what is worth least.
        return self.is_holding or not self.is_sated

    def look(self, now: float, most: int = NEVER) -> bool:
        """Decide on up to ``most`` traces that are due; whether that was all."""
        before = self._decides_before
        while now >= self._undecided.expires or self.is_due:
            if most <= 0:
                return False
            if (trace := self._undecided.expired(now, before)) is None:
                break
            self._decide(trace, now)
            most -= 1
        self._ready.look(now)
        self._decided.look(now)
        is_held = self.is_holding or self._undecided.traces or self._ready.traces
        if self._admissions_before and not self._queue.admission and self._queue.oldest >= self._admissions_before:
            self._admissions_before = 0
        self.is_streaming = not (is_held or self._decided.binds or self._admissions_before)
        return True

    def admit_from(self, threshold: int) -> None:
        """Have the queue refuse records of traces whose randomness is below ``threshold``."""
        self._queue.admit_from(threshold)
        # What was admitted so far says what it was held against: until it is gone, records are looked at one by one.
        self._admissions_before = max(self._admissions_before, self._queue.mark() + (1 if threshold else 0))
        self.is_streaming = self.is_streaming and not self._admissions_before

    def take(self, most: int, most_bytes: int) -> Batch:
        """Up to ``most`` spans, of ``most_bytes`` at most or a single one; they stay counted until ``release``."""
        batch = self._ready.take(most, most_bytes, self._begun)
        if self.is_streaming and len(batch.records) < most and batch.length < most_bytes:
            popped, length = self._queue.pop(most - len(batch.records), most_bytes - batch.length)
            if not (popped or batch.records):  # one that alone is larger than that goes alone
                popped, length = self._queue.pop(min(most, 1))
            batch.records = batch.records + popped if batch.records else popped
            batch.length += length
            batch.popped = len(popped)
            self.bounds.add(len(popped), length)
        self.bounds.take(len(batch.records), batch.length)
        self._decided.sent(batch.records)
        return batch

    def _begun(self, trace: HeldTrace) -> None:
        """It is about to go out: what it owes by now is what its spans will say."""
        decision = trace.decision
        decision.threshold = max(decision.threshold, trace.floor)
        self._decided.remember(trace.trace_id, SENT if decision.is_plain else decision)

    def release(self, spans: int, length: int) -> None:
        """The worker is done with so many spans of so many bytes, as they were taken."""
        self.bounds.take(-spans, -length)
        self.bounds.add(-spans, -length)

    def decide_before(self, order: int) -> None:
        """Decide at once on traces whose first span has an order below ``order``, as far as they have come by then."""
        self._decides_before = max(self._decides_before, order)

    def mark(self, order: int) -> int | None:
        """A mark for ``is_past`` once all records of an order below this one are decided on; None until then."""
        oldest = self._undecided.oldest
        # Also where records go straight from the queue: before all of them are gone they may have to be decided on.
        if self._queue.oldest < order or (oldest is not None and oldest.order < order):
            return None
        return self._ready.flush()

    def is_past(self, mark: int) -> bool:
        """Whether all that waited at the mark has been taken, or shed."""
        return self._ready.is_gone(mark)

    def clear(self) -> None:
        """Forget all but what is taken; the caller has booked it."""
        self.bounds.keep_taken()
        self._forget()
