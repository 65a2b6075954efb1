"""A flush of the SDK's own processors that is true: they never flush their exporter, and say True all the same.

``see_flushes`` is called where the first exporter of ours is made. From then on BatchSpanProcessor and
SimpleSpanProcessor ask an exporter of ours in ``force_flush`` too, also one to which another exporter passes its spans
on, and tell it that they are at it, or at ``shutdown``. Asking in ``export`` who calls would not do: they have nothing
to export where all has been passed on already, and make nothing of what an export says or raises.
The rule: with any other exporter they do what they did, and nothing waits but on the thread that flushes or shuts down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import wraps
from typing import Any

from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_shed.face import seconds
from otel_shed.interruption import is_applications
from otel_shed.pipeline.pipeline import Pipeline

# So many exporters may stand between the processor and one of ours.
_MOST_BETWEEN = 4


class ProcessorInFront:
    """What the stock processor before a pipeline is at, for the exporter that it calls meanwhile."""

    def __init__(self, pipeline: Pipeline, *, grace: float) -> None:
        """``grace``: seconds for which a shutdown waits for room."""
        self._pipeline = pipeline
        self._grace = grace
        self._flushing = _Flushing()
        self._is_closing = False

    def begins(self, deadline: float) -> None:
        """This thread is about to have the processor flush."""
        self._flushing.until, self._flushing.lost = deadline, False

    def ends(self) -> None:
        """The processor has done what it does of itself."""
        self._flushing.until = None

    def is_delivered(self, deadline: float) -> bool:
        """Flush the pipeline, until ``deadline``; whether it came to its end, and nothing was lost."""
        delivered = self._pipeline.flush(max(0.0, deadline - time.monotonic()))
        return delivered and not self._flushing.lost

    def closes(self) -> None:
        """The processor is about to be shut down: what it has comes all at once."""
        self._is_closing = True

    def make_room(self, spans: int) -> None:
        """So many spans come: where the processor flushes or shuts down, wait until they do not push others out."""
        until = self._flushing.until
        if until is None and not self._is_closing:
            return
        store = self._pipeline.intake.store
        if self._pipeline.account().queued + spans <= store.queue_capacity and store.utilization < 1.0:
            return
        delivered = self._pipeline.flush(self._grace if until is None else max(0.0, until - time.monotonic()))
        self._flushing.lost = self._flushing.lost or not delivered
        if self._pipeline.account().queued:  # the time is over: it is not waited for once more
            self._is_closing = False


class _Flushing(threading.local):
    """Of this thread. until: when the flush that it is in the middle of is to end; lost: spans, in the course of it."""

    until: float | None = None
    lost: bool = False


def see_flushes() -> None:
    """Have the stock processors flush exporters of ours."""
    for processor in (BatchSpanProcessor, SimpleSpanProcessor):
        if not hasattr(processor.force_flush, "asks_the_exporter"):
            _ask_the_exporter(processor)


def _ask_the_exporter(processor: Any) -> None:
    stock_flush, stock_shutdown = processor.force_flush, processor.shutdown

    @wraps(stock_flush)
    def force_flush(self: Any, timeout_millis: float | None = None) -> bool:
        def stock() -> bool:
            arguments = () if timeout_millis is None else (timeout_millis,)
            return stock_flush(self, *arguments)  # type: ignore[no-any-return]

        if not (in_front := _in_front(self)):
            return stock()
        deadline = time.monotonic() + seconds(timeout_millis)
        for each in in_front:
            each.begins(deadline)
        try:
            passed = stock()
        finally:
            for each in in_front:
                each.ends()
        delivered = [each.is_delivered(deadline) for each in in_front]
        return passed is not False and all(delivered)

    @wraps(stock_shutdown)
    def shutdown(self: Any, *args: Any, **named: Any) -> Any:
        for each in _in_front(self):
            each.closes()
        return stock_shutdown(self, *args, **named)

    force_flush.asks_the_exporter = True  # type: ignore[attr-defined]
    processor.force_flush, processor.shutdown = force_flush, shutdown


def _in_front(processor: Any) -> list[ProcessorInFront]:
    """What exporters of ours know of this processor; none if all that it exports to are others."""
    try:
        return list(_search(getattr(processor, "span_exporter", None)))
    except Exception as error:  # an exporter that breaks when it is looked at
        if is_applications(error):
            raise
        return []


def _search(exporter: Any) -> Iterator[ProcessorInFront]:
    """In this one, and in those that it has among its attributes, or in lists there."""
    seen, exporters = {id(exporter)}, [exporter]
    for _ in range(_MOST_BETWEEN + 1):
        inner: list[Any] = []
        for each in exporters:
            attributes = getattr(each, "__dict__", {})
            if isinstance(in_front := attributes.get("in_front"), ProcessorInFront):
                yield in_front
                continue
            for value in list(attributes.values()):
                inner += value if isinstance(value, (list, tuple)) else (value,)
        exporters = [each for each in inner if hasattr(type(each), "export") and id(each) not in seen]
        seen.update(map(id, exporters))
