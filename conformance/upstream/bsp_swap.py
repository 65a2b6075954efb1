"""A pytest plugin that points the SDK's own tests of BatchSpanProcessor at SheddingSpanProcessor.

Loaded by name (``-p bsp_swap``) before the tests are collected: they take the class from its module, so rebinding it
there is enough and no test is edited. Some look behind the stock class, at its private ``_batch_processor``; they get
the same things from the public parts of ours.
"""

from __future__ import annotations

from typing import Any

import opentelemetry.sdk.trace.export
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed import SheddingSpanProcessor

HEADER = "BatchSpanProcessor is otel_shed.SheddingSpanProcessor"


class BatchProcessorFacade:
    """What the tests touch of the stock processor's inside, read from ours."""

    def __init__(self, processor: SheddingSpanProcessor) -> None:
        self._processor = processor
        self._schedule_delay_millis = processor.config.schedule_delay_millis
        self._max_export_batch_size = processor.config.max_export_batch_size
        self._export_timeout_millis = processor.config.export_timeout_millis

    @property
    def _max_queue_size(self) -> int:
        # What is in force: where nothing is set, the configuration leaves it to the exporter.
        return self._processor.stats().queue_capacity

    def emit(self, span: ReadableSpan) -> None:
        """As on_end, for spans that have no context to tell whether they are sampled."""
        self._processor._pipeline.admit(span)

    def shutdown(self, timeout_millis: int = 30_000) -> None:
        self._processor.shutdown(timeout_millis)

    @property
    def _shutdown(self) -> bool:
        return self._processor._pipeline.is_shut_down

    @property
    def _worker_thread(self) -> Any:
        return self._processor._pipeline.worker_thread


class BatchSpanProcessor(SheddingSpanProcessor):
    """SheddingSpanProcessor, and the one private attribute that the tests reach for."""

    @property
    def _batch_processor(self) -> BatchProcessorFacade:
        # Made anew each time: one that were kept would keep its processor from being collected.
        return BatchProcessorFacade(self)


opentelemetry.sdk.trace.export.BatchSpanProcessor = BatchSpanProcessor  # type: ignore[misc]


def pytest_report_header() -> str:
    """Say in the run's output that the swap took place."""
    return HEADER
