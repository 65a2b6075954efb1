"""What has been decided to go out, until the worker takes it.

Owned by the Traces, called in the ledger. Spans of traces of which something has gone out before go one by one, in the
order in which they came. Traces that were held go whole, the oldest first; those that have waited for ``stale`` seconds
are a backlog, which goes when nothing fresh is there, the newest first. A flush puts all that is here before the rest.
The rule that must stay true: what is here is counted, in spans and in bytes, until it is taken.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from otel_shed.control.threshold import randomness_of, read_ot
from otel_shed.pipeline.bucket import bucket_of
from otel_shed.pipeline.held import HeldTrace
from otel_shed.pipeline.ranked import Ranked
from otel_shed.pipeline.store import Batch, Change
from otel_shed.record import Priority, SpanRecord

_Lane = OrderedDict[int, HeldTrace]


class Stream:
    """Spans that go one by one, in the order in which they were added, which gives each of them a number.

    spans, length: how many wait, and their bytes. admitted: how many were added; the next one gets this number.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, SpanRecord]] = deque()
        self.spans = self.length = self.admitted = 0

    def __iter__(self) -> Iterator[SpanRecord]:
        return iter([record for _, record in self._waiting])

    @property
    def oldest(self) -> int:
        """The number of the oldest that waits, or of the next to be added."""
        return self._waiting[0][0] if self._waiting else self.admitted

    def add(self, record: SpanRecord) -> None:
        """One more waits."""
        self._waiting.append((self.admitted, record))
        self.admitted += 1
        self.spans += 1
        self.length += record.length

    def take(self, most: int, most_bytes: int) -> list[SpanRecord]:
        """Up to ``most`` of the oldest, of ``most_bytes`` at most."""
        taken: list[SpanRecord] = []
        length, waiting = 0, self._waiting
        while waiting and len(taken) < most and length + waiting[0][1].length <= most_bytes:
            record = waiting.popleft()[1]
            taken.append(record)
            length += record.length
        self.spans -= len(taken)
        self.length -= length
        return taken

    def take_back(self, since: int) -> list[SpanRecord]:
        """Those of the number ``since`` and later, in their order: they wait here no longer."""
        back: list[SpanRecord] = []
        while self._waiting and self._waiting[-1][0] >= since:
            back.append(self._waiting.pop()[1])
        self.spans -= len(back)
        self.length -= sum([record.length for record in back])
        return back[::-1]

    def part(self, goes: Callable[[SpanRecord], bool]) -> list[SpanRecord]:
        """Let go of those that ``goes`` is true of; it looks at all."""
        waiting, self._waiting = self._waiting, deque()
        gone: list[SpanRecord] = []
        for number, record in waiting:
            if goes(record):
                gone.append(record)
            else:
                self._waiting.append((number, record))
        self.spans -= len(gone)
        self.length -= sum([record.length for record in gone])
        return gone


@dataclass(frozen=True, slots=True)
class _Room:
    """How much a batch may have, and who is told of traces before they go."""

    spans: int
    length: int
    begun: Callable[[HeldTrace], None]


class Ready:
    """The queues between the decisions and the worker.

    traces: those that wait whole, by trace id; traces_spans: of how many spans; ranked: the same. stream: the spans
    that go one by one.
    """

    def __init__(self, *, stale: float) -> None:
        self._stale = stale
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self.traces: dict[int, HeldTrace] = {}
        self.ranked = Ranked()
        self.traces_spans = self._traces_length = 0
        self._lanes = self._urgent, self._fresh, self._backlog = _Lane(), _Lane(), _Lane()
        self.stream = Stream()
        self._changes: dict[SpanRecord, Change] = {}
        # The number in the stream that each flush waits for.
        self._flushes: dict[int, int] = {}
        self._tickets = 0

    @property
    def spans(self) -> int:
        """How many wait."""
        return self.traces_spans + self.stream.spans

    @property
    def length(self) -> int:
        """Their bytes."""
        return self._traces_length + self.stream.length

    @property
    def since(self) -> float:
        """When the oldest of the traces that wait whole began; infinite where none does."""
        # Of each lane the first has been here for longest, but for what joined it on the way: traces of one age or so.
        return min([next(iter(lane.values())).began for lane in self._lanes if lane], default=math.inf)

    # -- in ------------------------------------------------------------------------------------------------------

    def add(self, record: SpanRecord, change: Change | None = None) -> None:
        """A span that goes by itself."""
        self.stream.add(record)
        if change is not None:
            self._changes[record] = change

    def add_trace(self, trace: HeldTrace, now: float) -> None:
        """A trace that goes whole."""
        self._count(len(trace.records), trace.length)
        self.traces[trace.trace_id] = trace
        self.ranked.add(trace)
        trace.ready_at = now
        _queue(trace, self._fresh)

    def join(self, trace: HeldTrace, record: SpanRecord) -> None:
        """One more span of a trace that waits here."""
        trace.records.append(record)
        trace.length += record.length
        self._count(1, record.length)

    def look(self, now: float) -> None:
        """What has waited for too long is a backlog from now on."""
        while self._fresh and now - (oldest := next(iter(self._fresh.values()))).ready_at >= self._stale:
            _queue(oldest, self._backlog)

    def _count(self, spans: int, length: int) -> None:
        """So many more wait in traces."""
        self.traces_spans += spans
        self._traces_length += length

    # -- out -----------------------------------------------------------------------------------------------------

    def take(self, most: int, most_bytes: int, begun: Callable[[HeldTrace], None]) -> Batch:
        """Up to ``most`` spans, of ``most_bytes`` at most or one; ``begun`` is told of traces before.

        Of a batch traces and spans that go one by one have half each, as long as there are both.
        """
        batch, room = Batch(), _Room(most, most_bytes, begun)
        if not self.traces:
            self._take_stream(batch, most, room)
            return batch
        self._take_traces(batch, self._urgent, most, room)
        self._take_stream(batch, min(most, len(batch.records) + self._urgent_spans), room)
        if not self._urgent:
            for share in (most // 2, most):
                self._take_traces(batch, self._fresh, share, room)
                if not self._fresh:
                    self._take_traces(batch, self._backlog, share, room)
                self._take_stream(batch, most, room)
        return batch

    def _take_stream(self, batch: Batch, most: int, room: _Room) -> None:
        before = self.stream.length
        records = self.stream.take(most - len(batch.records), room.length - batch.length)
        if not records and not batch.records:  # one that alone is larger than that goes alone
            records = self.stream.take(min(most, 1), before)
        batch.records = batch.records + records if batch.records else records
        batch.length += before - self.stream.length
        if self._changes:
            for record in records:
                if (change := self._changes.pop(record, None)) is not None:
                    batch.changes[record] = change

    def _take_traces(self, batch: Batch, lane: _Lane, most: int, room: _Room) -> None:
        is_newest_first = lane is self._backlog
        while lane and len(batch.records) < most:
            trace = next(reversed(lane.values()) if is_newest_first else iter(lane.values()))
            spans, length = len(trace.records), trace.length
            if spans > room.spans or length > room.length:
                self._unroll(trace, room)
                continue
            if len(batch.records) + spans > room.spans or batch.length + length > room.length:
                return
            self._let_go(trace)
            room.begun(trace)
            batch.records += trace.records
            batch.length += length
            if not trace.is_plain:
                for record in trace.records:
                    if (change := trace.decision.change(record)) is not None:
                        batch.changes[record] = change

    def _unroll(self, trace: HeldTrace, room: _Room) -> None:
        """No batch takes all of it: its spans go one by one, or nothing else would go for as long."""
        self._let_go(trace)
        room.begun(trace)
        for record in trace.records:
            self.add(record, trace.decision.change(record))
        for ticket in self._flushes if trace.ticket else ():
            if ticket >= trace.ticket:
                self._flushes[ticket] = self.stream.admitted

    def _let_go(self, trace: HeldTrace) -> None:
        self.ranked.remove(trace)
        self._forget(trace)

    def _forget(self, trace: HeldTrace) -> None:
        del self.traces[trace.trace_id]
        _queue(trace, None)
        self._count(-len(trace.records), -trace.length)

    # -- back ----------------------------------------------------------------------------------------------------

    def sweep(self, rank: Priority) -> list[HeldTrace]:
        """Let go of the traces of a rank, which must have any, that stand lowest; the others owe it."""
        traces, edge = self.ranked.sweep(rank)
        self.ranked.owe(rank, edge)
        for trace in traces:
            self._forget(trace)
        return traces

    def cut(self) -> list[SpanRecord]:
        """Let go of the spans that go one by one of the traces that stand lowest: of an eighth of them at least.

        All of them are looked at, so what a span costs is what it would if it were looked at eight times.
        """
        buckets = sorted(map(_bucket, self.stream))
        highest = buckets[len(buckets) // 8]
        return self._forget_changes(self.stream.part(lambda record: _bucket(record) <= highest))

    def take_back(self) -> list[SpanRecord]:
        """The spans that go one by one, in their order, but for those that a flush waits for: no longer in here."""
        return self._forget_changes(self.stream.take_back(max(self._flushes.values(), default=0)))

    def _forget_changes(self, gone: list[SpanRecord]) -> list[SpanRecord]:
        for record in gone if self._changes else ():
            self._changes.pop(record, None)
        return gone

    # -- flush ---------------------------------------------------------------------------------------------------

    @property
    def _urgent_spans(self) -> int:
        """How many of the spans that go one by one a flush waits for, at most."""
        return max(0, max(self._flushes.values()) - self.stream.oldest) if self._flushes else 0

    def flush(self) -> int:
        """All that is here goes before what comes from now on; a ticket to ask whether it is gone."""
        self._tickets += 1
        for lane in (self._backlog, self._fresh):
            while lane:
                trace = next(iter(lane.values()))
                trace.ticket = self._tickets
                _queue(trace, self._urgent)
        self._flushes[self._tickets] = self.stream.admitted
        return self._tickets

    def is_gone(self, ticket: int) -> bool:
        """Whether all that was here when a flush got this ticket has been taken; once told, it stays so."""
        if self.stream.oldest < self._flushes.get(ticket, 0):
            return False
        if self._urgent and next(iter(self._urgent.values())).ticket <= ticket:
            return False
        self._flushes.pop(ticket, None)
        return True


def _queue(trace: HeldTrace, lane: _Lane | None) -> None:
    if trace.lane is not None:
        del trace.lane[trace.trace_id]
    trace.lane = lane
    if lane is not None:
        lane[trace.trace_id] = trace


def _bucket(record: SpanRecord) -> int:
    return bucket_of(randomness_of(record.trace_id, read_ot(record.trace_state)))
