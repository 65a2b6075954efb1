"""The gate: what a phase does to a span that ends: let through, with a priority and a length for attributes, or shed.

Called by application threads at the end of each sampled span, before anything is encoded. The rule: whatever is shed
here is booked in the ledger and counted in the summary in the same call, and in observe mode nothing is. It does not
raise: a span that cannot be judged goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.control.brownout import Brownout
from otel_shed.control.phase import Action
from otel_shed.control.phase_table import PhaseRow
from otel_shed.control.priority import Classifier
from otel_shed.control.threshold import ThresholdInForce, randomness_of, read_ot
from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.proof import attributes_of, wrap
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.summary import Summary
from otel_shed.record import Priority, SpanRecord

# Whether a span of high priority may still go out while everything optional is shed.
Keep = Callable[[ReadableSpan], bool]
# How a span that goes no further is counted: Intake.book.
Book = Callable[[DropReason | Fate], None]
Judging = Callable[[ReadableSpan, Book], tuple[Priority, int | None] | None]


class Gate:
    """One for each shedder; its parts are shared by all its pipelines. classifier: tells what a span is worth."""

    def __init__(
        self,
        *,
        brownout: Brownout,
        classifier: Classifier,
        summary: Summary,
        keep: Keep | None,
        threshold: Callable[[], ThresholdInForce],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``keep``: None where everything is summarized. ``threshold``: what new traces would be held against; asked
        for each span, so that whoever comes by moves on what is due.
        """
        self._brownout = brownout
        self.classifier = classifier
        self._summary = summary
        self._keep = keep
        self._threshold = threshold
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)

    def judge(self, span: ReadableSpan, book: Book) -> tuple[Priority, int | None] | None:
        """The span's priority and how many characters an attribute's value may have; None if it is shed.

        What is shed is booked with ``book``.
        """
        priority, fate, brownout = Priority.NORMAL, None, self._brownout
        try:
            priority = self.classifier.classify(span, attributes_of(span))
            threshold = self._threshold()
            row = brownout.last_row
            if row.action is Action.EXPORT_ALL:
                return priority, row.attribute_length
            fate = self._fate(span, priority, row)
            if not brownout.enforcing and (fate is not None or _is_sampled_out(span, threshold)):
                fate = Fate.WOULD_HAVE_SHED
        except Exception as error:  # a span that is not the SDK's, or a fault of ours
            if is_applications(error):
                raise
            self._log.warning("judge", "a span could not be judged and goes on: %s: %s", type(error).__name__, error)
        if fate is not None:
            book(fate)
            if brownout.enforcing:
                self.shed([wrap(span)])
                return None
        return priority, brownout.row_in_force.attribute_length

    def judging(self, *, decides_traces: bool) -> Judging:
        """How a pipeline's spans are judged; ``decides_traces``: what is shed is decided later, of whole traces."""
        return self.weigh if decides_traces and self._brownout.enforcing else self.judge

    def weigh(self, span: ReadableSpan, book: Book) -> tuple[Priority, int | None]:
        """As ``judge``, where nothing is shed yet."""
        priority = Priority.NORMAL
        try:
            priority = self.classifier.classify(span, attributes_of(span))
            self._threshold()
        except Exception as error:  # as in judge
            if is_applications(error):
                raise
            self._log.warning("judge", "a span could not be judged and goes on: %s: %s", type(error).__name__, error)
        return priority, self._brownout.row_in_force.attribute_length

    def look(self) -> int | None:
        """See to it that what is due is done; how many characters an attribute's value may have, None for any."""
        self._threshold()
        return self._brownout.row_in_force.attribute_length

    def _fate(self, span: ReadableSpan, priority: Priority, row: PhaseRow) -> DropReason | Fate | None:
        if row.action is Action.RETAIN_SUMMARY_ONLY:
            if priority < row.min_priority or self._keep is None:
                return Fate.SUMMARIZED
            return None if self._keep(span) else DropReason.OVER_BUDGET
        return None if priority >= row.min_priority else DropReason.LOW_PRIORITY

    def shed(self, records: Sequence[SpanRecord]) -> None:
        """Spans that were shed, which their ledger has booked."""
        self._summary.add_all(records)


def _is_sampled_out(span: ReadableSpan, wanted: ThresholdInForce) -> bool:
    """Whether the span's trace would not have been recorded."""
    threshold, context = wanted.threshold, span.context
    if not threshold or context is None:
        return False
    return randomness_of(context.trace_id, read_ot(context.trace_state)) < threshold
