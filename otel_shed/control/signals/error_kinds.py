"""What kind of failure a request was, in the few words that Stats has for it.

A pure function, called by the thread that made the request. The rule: the kinds say what an operator would look at:
this program's rate, the collector, the way to it, or the request.
"""

from __future__ import annotations

from otel_shed.otlp.retry import RETRYABLE_IF_RETRY_INFO, Attempt, Verdict
from otel_shed.outcome import ExportError

# Of the statuses that are not to be retried, those that speak of the server and not of the request.
_FAULTS = frozenset({"INTERNAL", "UNKNOWN"})


def kind_of(attempt: Attempt) -> ExportError | None:
    """The kind; None for a success, and for a request that this process has interrupted."""
    if attempt.accepted or (not attempt.answered and attempt.code.lower() == "cancelled"):
        return None
    if attempt.timed_out or attempt.code == "DEADLINE_EXCEEDED":
        return ExportError.TIMEOUT
    if not attempt.answered:
        return ExportError.UNREACHABLE
    if attempt.throttled or (attempt.code == RETRYABLE_IF_RETRY_INFO and not attempt.too_large):
        return ExportError.RATE_LIMITED
    is_its_own = attempt.verdict is Verdict.RETRYABLE or attempt.code in _FAULTS or attempt.code.startswith("5")
    return ExportError.UNAVAILABLE if is_its_own else ExportError.INVALID
