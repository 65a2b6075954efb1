"""A flush of the SDK's own processors that is true: they never flush their exporter, and say True all the same.

``see_flushes`` is called where the first exporter of ours is made. From then on BatchSpanProcessor and
SimpleSpanProcessor ask an exporter of ours in ``force_flush`` too, and tell it that they are at it, or at ``shutdown``.
The rule: with any other exporter they do what they did, and nothing waits but on the thread that flushes or shuts down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_shed.pipeline.pipeline import Pipeline

DEFAULT_TIMEOUT_MILLIS = 30_000


class ProcessorInFront:
    """What the stock processor before a pipeline is at, for the exporter that it calls meanwhile."""

    def __init__(self, pipeline: Pipeline, *, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``grace``: seconds for which a shutdown waits for room."""
        self._pipeline = pipeline
        self._grace = grace
        self._clock = clock
        self._flushing = _Flushing()
        self._is_closing = False

    def flush(self, stock: Callable[[], bool], timeout_millis: float | None) -> bool:
        """What the processor does, then the pipeline; whether both have come to their end, and nothing was lost."""
        millis = DEFAULT_TIMEOUT_MILLIS if timeout_millis is None else timeout_millis
        deadline = self._clock() + max(0.0, millis / 1000)
        self._flushing.until, self._flushing.lost = deadline, False
        try:
            passed = stock()
        finally:
            self._flushing.until = None
        delivered = self._pipeline.flush(max(0.0, deadline - self._clock()))
        return passed is not False and delivered and not self._flushing.lost

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
        delivered = self._pipeline.flush(self._grace if until is None else max(0.0, until - self._clock()))
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

        in_front = _in_front(self)
        return stock() if in_front is None else in_front.flush(stock, timeout_millis)

    @wraps(stock_shutdown)
    def shutdown(self: Any, *args: Any, **named: Any) -> Any:
        if (in_front := _in_front(self)) is not None:
            in_front.closes()
        return stock_shutdown(self, *args, **named)

    force_flush.asks_the_exporter = True  # type: ignore[attr-defined]
    processor.force_flush, processor.shutdown = force_flush, shutdown


def _in_front(processor: Any) -> ProcessorInFront | None:
    """What an exporter of ours knows of this processor; None if it has another one."""
    found = getattr(getattr(processor, "span_exporter", None), "in_front", None)
    return found if isinstance(found, ProcessorInFront) else None
