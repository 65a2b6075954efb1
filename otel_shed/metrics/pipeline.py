"""A pipeline's metrics: its ledger, and the processor's by the semantic conventions (docs/otel/sdk-metrics.md).

Read by the meter provider's collection thread, under the ledger's lock; the hot path records nothing. The rule: a
counter has only what is final. Spans that are queued or in flight are on their way to something else, so they are in
``otel_shed.held``; with it ``otel_shed.spans`` adds up to the spans that ended.
"""

from __future__ import annotations

import itertools
import os
import weakref

from opentelemetry.metrics import MeterProvider

from otel_shed.fork import begin_anew_after_fork
from otel_shed.instruments import SDK_SCOPE, Instrument, Instruments, Kind, Points, sdk_metrics_enabled
from otel_shed.outcome import DropReason
from otel_shed.pipeline.pipeline import Pipeline

SCOPE = "otel_shed"
OUTCOME = "otel_shed.outcome"
STATE = "otel_shed.state"

# The convention's well-known value for what this processor stands in for.
_COMPONENT_TYPE = "batching_span_processor"

# What the processor itself drops; the convention forbids that an export's outcome shows in `processed`.
_BEFORE_EXPORT = (
    DropReason.QUEUE_FULL,
    DropReason.LOW_PRIORITY,
    DropReason.OVER_BUDGET,
    DropReason.TOO_LARGE,
    DropReason.ENCODE_FAILED,
    DropReason.ALREADY_SHUTDOWN,
)

# Component names are unique in a process; the stock processors count on their own, hence the word before the number.
_numbers = itertools.count()


class _LeftBehind:
    """How many spans each pipeline's shutdown was said to have left behind.

    The ledger moves a span from ``shutdown`` to ``exported`` if it gets through after all; no counter may go down.
    """

    def __init__(self) -> None:
        self._said: weakref.WeakKeyDictionary[Pipeline, int] = weakref.WeakKeyDictionary()
        begin_anew_after_fork(self)

    def __call__(self, pipeline: Pipeline, count: int) -> int:
        said = self._said[pipeline] = max(count, self._said.get(pipeline, 0))
        return said

    def after_fork_in_child(self) -> None:
        """The child's accounts begin anew."""
        self._said = weakref.WeakKeyDictionary()


_left_behind = _LeftBehind()


def _spans(pipeline: Pipeline) -> Points:
    account = pipeline.account()
    shutdown = account.dropped.get(DropReason.SHUTDOWN, 0)
    said = _left_behind(pipeline, shutdown)
    counts = {
        "exported": account.exported - (said - shutdown),
        "unsampled": account.unsampled,
        "summarized": account.summarized,
        **{reason.value: account.dropped.get(reason, 0) for reason in DropReason},
        DropReason.SHUTDOWN.value: said,
    }
    # All of them from the beginning, or what comes first would be no increase to anybody.
    return [(count, {OUTCOME: outcome}) for outcome, count in counts.items()]


def _held(pipeline: Pipeline) -> Points:
    account = pipeline.account()
    return [(account.queued, {STATE: "queued"}), (account.in_flight, {STATE: "in_flight"})]


def _queued(pipeline: Pipeline) -> Points:
    pipeline.intake.settle_inbox()
    # Without those of traces that are undecided: they are in no queue, nor are they bounded by its capacity.
    return [(min(pipeline.intake.store.ready_spans, pipeline.intake.store.capacity), {})]


def _processed(pipeline: Pipeline) -> Points:
    account = pipeline.account()
    yield account.submitted, {}
    for reason in _BEFORE_EXPORT:
        if count := account.dropped.get(reason, 0):
            yield count, {"error.type": reason.value}


LEDGER: Instruments[Pipeline] = Instruments(
    SCOPE,
    Instrument(
        name="otel_shed.spans",
        kind=Kind.COUNTER,
        unit="{span}",
        description="Spans that ended and are done with, by what became of them.",
        attributes=(OUTCOME,),
        read=_spans,
    ),
    Instrument(
        name="otel_shed.held",
        kind=Kind.UP_DOWN_COUNTER,
        unit="{span}",
        description="Spans that ended and are still held.",
        attributes=(STATE,),
        read=_held,
    ),
    Instrument(
        name="otel_shed.would_have_shed",
        kind=Kind.COUNTER,
        unit="{span}",
        description="Spans that went on only because nothing is shed in observe mode.",
        read=lambda pipeline: [(pipeline.account().would_have_shed, {})],
    ),
)

PROCESSOR: Instruments[Pipeline] = Instruments(
    SDK_SCOPE,
    Instrument(
        name="otel.sdk.processor.span.processed",
        kind=Kind.COUNTER,
        unit="{span}",
        description="The number of spans for which the processing has finished, either successful or failed.",
        attributes=("error.type",),
        read=_processed,
    ),
    Instrument(
        name="otel.sdk.processor.span.queue.capacity",
        kind=Kind.UP_DOWN_COUNTER,
        unit="{span}",
        description="The maximum number of spans the queue of a given instance of an SDK span processor can hold.",
        read=lambda pipeline: [(pipeline.intake.store.capacity, {})],
    ),
    Instrument(
        name="otel.sdk.processor.span.queue.size",
        kind=Kind.UP_DOWN_COUNTER,
        unit="{span}",
        description="The number of spans in the queue of a given instance of an SDK span processor.",
        read=_queued,
    ),
)


def observe_pipeline(pipeline: Pipeline, meter_provider: MeterProvider | None) -> None:
    """Publish ``pipeline`` through ``meter_provider``, the global one if None; the conventions' where asked for."""
    attributes = {
        "otel.component.type": _COMPONENT_TYPE,
        "otel.component.name": f"{_COMPONENT_TYPE}/shed-{next(_numbers)}",
    }
    LEDGER.join(pipeline, attributes, meter_provider)
    if sdk_metrics_enabled(os.environ):
        PROCESSOR.join(pipeline, attributes, meter_provider)
