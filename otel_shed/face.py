"""What the two faces of a pipeline have in common: how they end, asked for or forgotten.

Asked by any thread. The rule: a face that nobody holds any more is shut down as if it had been asked to, by a thread of
the pipeline's own and never in the finalizer, which comes in the middle of anything.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

from otel_shed.pipeline.pipeline import Pipeline

DEFAULT_TIMEOUT_MILLIS = 30_000
# For whoever says infinity: a day.
_LONGEST_SECONDS = 86_400.0


def seconds(timeout_millis: float | None) -> float:
    """Those of a time limit as the SDK's signatures have it; None is the default."""
    millis = DEFAULT_TIMEOUT_MILLIS if timeout_millis is None else timeout_millis
    return min(max(0.0, millis / 1000), _LONGEST_SECONDS)


class _Ends(Protocol):
    @property
    def is_shut_down(self) -> bool: ...
    @property
    def shutdown_completed(self) -> bool: ...


class Face:
    """To be told what it stands before: a pipeline, or a part of the SDK's."""

    _ends: _Ends

    def _stands_before(self, pipeline: Pipeline) -> None:
        self._ends = pipeline
        weakref.finalize(self, pipeline.forget).atexit = False  # at the exit it is told of that

    def _stands_for(self, shutdown: Callable[..., None]) -> Callable[..., None]:
        """Stand for a part of the SDK's; what to call in place of its ``shutdown``."""
        self._ends = end = _StockEnd(shutdown)
        return end

    @property
    def is_shutdown(self) -> bool:
        """Whether ``shutdown`` has begun: what ends from now on is not exported."""
        return self._ends.is_shut_down

    @property
    def shutdown_completed(self) -> bool:
        """Whether ``shutdown`` has come to its end: nothing more is sent, and the exporter has been told to close."""
        return self._ends.shutdown_completed


class _StockEnd:
    """The shutdown of a part of the SDK's, which does not tell."""

    def __init__(self, shutdown: Callable[..., None]) -> None:
        self._shutdown = shutdown
        self.is_shut_down = self.shutdown_completed = False

    def __call__(self, *args: object, **named: object) -> None:
        self.is_shut_down = True
        self._shutdown(*args, **named)
        self.shutdown_completed = True
