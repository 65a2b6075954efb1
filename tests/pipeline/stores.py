"""Stores as pipelines have them, for tests of what stands before and behind them."""

from __future__ import annotations

from collections.abc import Callable

from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import keep_all


def streaming(*, capacity: int = 2048, max_bytes: int = 1 << 25) -> Callable[[Shed, Queue], Store]:
    """One in which spans go out as they come."""
    return lambda shed, queue: Traces(
        policy=keep_all,
        shed=shed,
        queue=queue,
        holds=lambda: False,
        capacity=capacity,
        max_queue_size=capacity,
        max_spans=max(16384, capacity),
        max_bytes=max_bytes,
        trace_timeout=30.0,
    )


def batches(*, max_batches: int, max_spans: int = 1 << 20, max_bytes: int = 1 << 25) -> Callable[[Shed, Queue], Store]:
    """One of batches."""
    return lambda shed, queue: Batches(max_batches=max_batches, max_spans=max_spans, max_bytes=max_bytes, shed=shed)
