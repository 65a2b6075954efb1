"""The processor's own metrics, by OpenTelemetry's semantic conventions (docs/otel/sdk-metrics.md).

Called by the meter provider's collection thread, which reads the ledger; the hot path records nothing. All of them are
observable, so that a MeterProvider that is set after the processor was made, as the SDK's configurator does, still sees
every value. The rule: a metric never keeps a pipeline alive.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from otel_shed.outcome import DropReason
from otel_shed.pipeline.pipeline import Pipeline

# The scope of the SDK's own: dashboards made for the stock processor go on working.
_SCOPE = "opentelemetry-sdk"
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


class ProcessorMetrics:
    """One set of instruments for all pipelines that report to one meter provider.

    The SDK gives back the first instrument of a name and forgets the callbacks of the later ones, so each provider has
    one set, and the pipelines join it.
    """

    def __init__(self, meter_provider: MeterProvider) -> None:
        self._pipelines: list[tuple[weakref.ref[Pipeline], dict[str, str]]] = []
        self._lock = threading.Lock()
        meter = meter_provider.get_meter(_SCOPE)
        meter.create_observable_counter(
            "otel.sdk.processor.span.processed",
            callbacks=[self._observing(_processed)],
            unit="{span}",
            description="The number of spans for which the processing has finished, either successful or failed.",
        )
        meter.create_observable_up_down_counter(
            "otel.sdk.processor.span.queue.capacity",
            callbacks=[self._observing(lambda alive: [(alive.intake.capacity, {})])],
            unit="{span}",
            description="The maximum number of spans the queue of a given instance of an SDK span processor can hold.",
        )
        meter.create_observable_up_down_counter(
            "otel.sdk.processor.span.queue.size",
            callbacks=[self._observing(lambda alive: [(alive.account().queued, {})])],
            unit="{span}",
            description="The number of spans in the queue of a given instance of an SDK span processor.",
        )

    def join(self, pipeline: Pipeline) -> None:
        """Report ``pipeline`` too, for as long as it lives; joining again changes nothing."""
        attributes = {
            "otel.component.type": _COMPONENT_TYPE,
            "otel.component.name": f"{_COMPONENT_TYPE}/shed-{next(_numbers)}",
        }
        with self._lock:
            alive = [joined for joined in self._pipelines if joined[0]() is not None]
            if all(reference() is not pipeline for reference, _ in alive):
                alive.append((weakref.ref(pipeline), attributes))
            self._pipelines = alive

    def _observing(
        self, read: Callable[[Pipeline], Iterable[tuple[int, dict[str, str]]]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            for reference, attributes in self._pipelines:
                if (alive := reference()) is not None:
                    for value, more in read(alive):
                        yield Observation(value, attributes | more)

        return callback


def _processed(pipeline: Pipeline) -> Iterable[tuple[int, dict[str, str]]]:
    account = pipeline.account()
    yield account.submitted, {}
    for reason in _BEFORE_EXPORT:
        if count := account.dropped.get(reason, 0):
            yield count, {"error.type": reason.value}


_sets: weakref.WeakKeyDictionary[MeterProvider, ProcessorMetrics] = weakref.WeakKeyDictionary()
_sets_lock = threading.Lock()


def observe_pipeline(pipeline: Pipeline, meter_provider: MeterProvider | None) -> None:
    """Publish ``pipeline`` through ``meter_provider``; without one, through the global one."""
    provider = meter_provider or get_meter_provider()
    with _sets_lock:
        if (metrics := _sets.get(provider)) is None:
            metrics = _sets[provider] = ProcessorMetrics(provider)
    metrics.join(pipeline)
