"""The gate: what a phase does to a span that ends: let through, with a priority and a length for attributes, or shed.

Called by application threads at the end of each sampled span, before anything is encoded. The rule: whatever is shed
here is booked in the ledger and counted in the summary in the same call, and in observe mode nothing is.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_shed.control.brownout import Brownout
from otel_shed.control.phase import Action
from otel_shed.control.priority import Classifier
from otel_shed.otlp.proof import attributes_of
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.summary import Summary
from otel_shed.record import Priority, SpanRecord

# Whether a span of high priority may still go out while everything optional is shed.
Keep = Callable[[ReadableSpan], bool]
# How a span that goes no further is counted: Intake.book.
Book = Callable[[DropReason | Fate], None]


class Gate:
    """One for each shedder; its parts are shared by all its pipelines."""

    def __init__(self, *, brownout: Brownout, classifier: Classifier, summary: Summary, keep: Keep) -> None:
        self._brownout = brownout
        self._classifier = classifier
        self._summary = summary
        self._keep = keep

    def judge(self, span: ReadableSpan, book: Book) -> tuple[Priority, int | None] | None:
        """The span's priority and how many characters an attribute's value may have; None if it is shed.

        What is shed is booked with ``book``.
        """
        priority = self._classifier.classify(span, attributes_of(span))
        row = self._brownout.row()
        if row.action is Action.EXPORT_ALL:
            return priority, row.attribute_length
        if priority >= row.min_priority:
            if row.action is not Action.RETAIN_SUMMARY_ONLY or self._keep(span):
                return priority, row.attribute_length if self._brownout.enforcing else None
            fate: DropReason | Fate = DropReason.OVER_BUDGET
        else:
            fate = Fate.SUMMARIZED if row.action is Action.RETAIN_SUMMARY_ONLY else DropReason.LOW_PRIORITY
        if not self._brownout.enforcing:
            book(Fate.WOULD_HAVE_SHED)
            return priority, None
        book(fate)
        self._summary.add(span.name, span.kind.value, span.status.status_code is StatusCode.ERROR, _duration(span))
        return None

    def evicted(self, record: SpanRecord) -> None:
        """A span that a full queue let go, which its ledger has booked."""
        self._summary.add(record.name, record.kind, record.status == StatusCode.ERROR.value, record.duration_ns)


def _duration(span: ReadableSpan) -> int:
    start, end = span.start_time, span.end_time
    return end - start if start is not None and end is not None else 0


def keep_nothing(span: ReadableSpan) -> bool:
    """For ``keep_share`` 0: everything is summarized."""
    return False
