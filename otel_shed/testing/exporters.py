"""An exporter that remembers, for tests; called by a processor's worker, read by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class RecordingExporter(SpanExporter):
    """Keeps the batches that it is given.

    delay: seconds that each export takes; ``shutdown`` interrupts it, and then the export fails.
    result: what each export returns, or a callable that is given the batch and returns or raises.
    gate: an event that each export waits for, to be held up at a known place; ``shutdown`` opens it.
    """

    def __init__(
        self,
        delay: float = 0.0,
        *,
        result: SpanExportResult | Callable[[Sequence[ReadableSpan]], SpanExportResult] = SpanExportResult.SUCCESS,
        gate: threading.Event | None = None,
    ) -> None:
        self.batches: list[list[ReadableSpan]] = []
        self.entered = threading.Semaphore(0)
        self.flushes = 0
        self.shutdowns = 0
        self._delay = delay
        self._result = result
        self._gate = gate
        self._closed = threading.Event()

    @property
    def spans(self) -> list[ReadableSpan]:
        """Everything exported so far, in order."""
        return [span for batch in self.batches for span in batch]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.release()
        if self._gate is not None:
            self._gate.wait()
        if self._delay and self._closed.wait(self._delay):
            return SpanExportResult.FAILURE
        result = self._result if isinstance(self._result, SpanExportResult) else self._result(spans)
        if result is SpanExportResult.SUCCESS:
            self.batches.append(list(spans))
        return result

    def wait_until_called(self, timeout: float = 10.0) -> None:
        """Return once an export has begun that no earlier call of this has seen; AssertionError after ``timeout`` s."""
        if not self.entered.acquire(timeout=timeout):
            raise AssertionError(f"no export began within {timeout} s (it is {time.ctime()})")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.flushes += 1
        return True

    def shutdown(self) -> None:
        self.shutdowns += 1
        self._closed.set()
        if self._gate is not None:
            self._gate.set()
