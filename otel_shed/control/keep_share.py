"""The share of the budget that spans of high priority may use while everything optional is shed.

Asked by application threads when such a span ends, without a lock: what is known of their rate is one tuple, replaced
as a whole. The rule: whether a span is kept depends on its trace's randomness, so that what is kept are whole traces
as far as they are of high priority, and the same ones in other processes. Of traces that were thinned out already it
is a share of what is left: their randomness reaches the threshold in their tracestate, all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.control.threshold import probability_of, randomness_of, read_ot, threshold_of

# Long against the time between two spans, short against a phase.
_SMOOTHING_SECONDS = 2.0


class KeepShare:
    """At most ``share``, above 0 and up to 1, of the budget; all while no budget is known."""

    def __init__(self, share: float, *, budget: Callable[[], float | None], clock: Callable[[], float]) -> None:
        """``budget``: spans a second, None while it is not known. ``clock``: seconds."""
        self._share = share
        self._budget = budget
        self._clock = clock
        self._recent = (clock(), 0.0)  # when it was last asked, and how many spans still count

    def __call__(self, span: ReadableSpan) -> bool:
        """Whether ``span`` may go out."""
        now = self._clock()
        then, recent = self._recent
        # Threads that come at once may overwrite each other's count: it is an estimate, and errs on the safe side of
        # the queue, which is bounded anyway.
        recent = 1.0 + recent * math.exp(min(0.0, then - now) / _SMOOTHING_SECONDS)
        self._recent = (now, recent)
        budget = self._budget()
        if budget is None or recent <= (allowed := self._share * budget * _SMOOTHING_SECONDS):
            return True
        context = span.context
        if context is None:
            return True
        entry = read_ot(context.trace_state)
        left = probability_of(entry.threshold or 0)
        return randomness_of(context.trace_id, entry) >= threshold_of(left * allowed / recent)
