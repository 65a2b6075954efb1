"""A local trace that is held, and the decision on it.

Owned by the Traces that hold it, and changed in the ledger only. The rule: its spans stay in the order in which they
ended, and as long as it is held nothing of it has been sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from otel_shed.control.threshold import randomness_of, read_ot
from otel_shed.outcome import DropReason
from otel_shed.pipeline.kin import Kin
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.store import Change
from otel_shed.pipeline.verdict import TraceView, view_of
from otel_shed.record import Priority, SpanRecord

_HIGH = Priority.HIGH


@dataclass(slots=True)
class Decision:
    """What became of a local trace, and so of all that still comes of it.

    reason: why it is shed; None keeps it. threshold: what the ``th`` of its spans is raised to; 0 leaves them.
    min_priority: spans below it are left out. kin: whom those concern; None as long as that is nobody, as for most
    traces: it takes some 330 bytes (seen with 36,500 of them held).
    """

    reason: DropReason | Fate | None = None
    threshold: int = 0
    min_priority: Priority = Priority.LOW
    kin: Kin | None = None

    @property
    def is_plain(self) -> bool:
        """Whether all that still comes goes out, as it comes."""
        return self.reason is None and self.min_priority <= Priority.LOW and not self.threshold

    def part(self, records: Sequence[SpanRecord]) -> tuple[list[SpanRecord], list[SpanRecord]]:
        """The spans of the trace, parted in those that are kept and those left out."""
        kin = Kin(self.min_priority)
        parted = kin.part(records)
        self.kin = kin if kin.is_any else None
        return parted

    def leaves_out(self, record: SpanRecord) -> bool:
        """Whether a span that ends after the decision is left out."""
        if self.min_priority <= Priority.LOW:
            return False
        if self.kin is None:
            self.kin = Kin(self.min_priority)
        return self.kin.leaves_out(record)

    def change(self, record: SpanRecord) -> Change | None:
        """What is changed in a span of the trace that is kept; None for nothing."""
        threshold = max(self.threshold, record.admission) or None
        if threshold is not None and threshold <= (read_ot(record.trace_state).threshold or 0):
            threshold = None
        parent = self.kin.parent(record) if self.kin is not None else None
        return None if threshold is None and parent is None else Change(parent, threshold)


_UNDECIDED = Decision()


class HeldTrace:
    """One local trace.

    bucket: where it stands by its randomness, once it was ranked. rank: what it is worth, as far as is known. floor:
    the threshold that it owes for having been held while others had to go. Once it is kept: decision; lane, the queue
    that it waits in, since ready_at; ticket, the first flush that waits for it. order: of its first span. admission:
    the highest that one of its spans was admitted by.
    """

    __slots__ = (
        "_trace_state",
        "admission",
        "began",
        "bucket",
        "decision",
        "failed",
        "floor",
        "held_since",
        "lane",
        "length",
        "order",
        "priority",
        "randomness",
        "rank",
        "ready_at",
        "records",
        "root_ns",
        "threshold",
        "ticket",
        "trace_id",
    )

    def __init__(self, record: SpanRecord, now: float) -> None:
        """``record`` is the first of its spans; it is still to be added."""
        self.trace_id = record.trace_id
        self._trace_state = record.trace_state
        entry = read_ot(record.trace_state)
        self.randomness = randomness_of(self.trace_id, entry)
        self.bucket: int | None = None
        self.began = self.ready_at = now
        self.records: list[SpanRecord] = []
        self.length = 0
        self.priority = record.priority
        self.failed = record.failed
        self.threshold = entry.threshold
        self.root_ns: int | None = None
        self.rank = self._worth()
        self.order = record.order
        self.floor = self.admission = 0
        self.held_since = 0
        self.decision = _UNDECIDED
        self.lane: OrderedDict[int, HeldTrace] | None = None
        self.ticket = 0

    def add(self, record: SpanRecord) -> Priority:
        """One more span has ended; the rank that the trace has with it."""
        self.records.append(record)
        self.length += record.length
        if record.trace_state is not self._trace_state and (own := read_ot(record.trace_state).threshold) is not None:
            self.threshold = max(own, self.threshold or 0)
        if record.admission > self.admission:
            self.admission = record.admission
            self.threshold = max(self.admission, self.threshold or 0)
        if record.is_local_root:
            self.root_ns = record.duration_ns
        if record.failed or record.priority > self.priority:
            self.failed = self.failed or record.failed
            self.priority = max(self.priority, record.priority)
            return self._worth()
        return self.rank

    def _worth(self) -> Priority:
        return _HIGH if self.failed and self.priority < _HIGH else self.priority

    @property
    def is_plain(self) -> bool:
        """Whether its spans go out as they came."""
        return self.decision.is_plain and not self.admission

    def view(self, now: float, ready: int, kept: int) -> TraceView:
        """What a policy is asked about; ``ready`` and ``kept`` as in there."""
        return view_of(
            self.trace_id,
            self.randomness,
            self.threshold,
            self.priority,
            self.failed,
            None if self.root_ns is None else self.root_ns / 1e9,
            len(self.records),
            self.length,
            now,
            ready,
            kept,
        )
