"""What became of spans: the reasons for which one is dropped, and what an export call says of its batch.

Values only. The names of the reasons, and of the kinds of errors, are the contract: they appear in Stats, in metrics
and in log lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DropReason(str, Enum):
    """Why a span that ended was neither exported nor kept as a summary."""

    QUEUE_FULL = "queue_full"
    LOW_PRIORITY = "low_priority"
    OVER_BUDGET = "over_budget"
    TOO_LARGE = "too_large"
    ENCODE_FAILED = "encode_failed"
    REJECTED = "rejected"
    NOT_RETRYABLE = "not_retryable"
    RETRY_EXHAUSTED = "retry_exhausted"
    EXPORT_TIMEOUT = "export_timeout"
    EXPORTER_ERROR = "exporter_error"
    SHUTDOWN = "shutdown"
    ALREADY_SHUTDOWN = "already_shutdown"
    FORK = "fork"

    def __str__(self) -> str:
        return self.value


class ExportError(str, Enum):
    """Why a request did not get through, of which its spans may know nothing: it may have been made again."""

    RATE_LIMITED = "rate_limited"  # the collector asked for less: 429, RESOURCE_EXHAUSTED, or any wait that it named
    UNAVAILABLE = "unavailable"  # it answered that it cannot take it now: 502, 503, UNAVAILABLE, any fault of its own
    UNREACHABLE = "unreachable"  # nothing answered: no such name, connection refused or lost, TLS failed
    TIMEOUT = "timeout"  # no answer in time
    INVALID = "invalid"  # it refused the request as it is: 400, 401, 404, 413, INVALID_ARGUMENT
    OTHER = "other"  # an exporter that is not OTLPSpanExporter failed, and did not say how; or a fault of ours

    def __str__(self) -> str:
        return self.value


# Lost on the way to the collector, not shed by choice: what makes a flush a failure.
LOST_IN_EXPORT = frozenset(
    {
        DropReason.TOO_LARGE,
        DropReason.ENCODE_FAILED,
        DropReason.REJECTED,
        DropReason.NOT_RETRYABLE,
        DropReason.RETRY_EXHAUSTED,
        DropReason.EXPORT_TIMEOUT,
        DropReason.EXPORTER_ERROR,
        DropReason.SHUTDOWN,
        DropReason.ALREADY_SHUTDOWN,
    }
)
# Lost because the collector was not there, or too slow: it is told with what is shed meanwhile.
UNDELIVERED = frozenset({DropReason.RETRY_EXHAUSTED, DropReason.EXPORT_TIMEOUT})
# Let go of here, by choice or because there was no room: what the process says of itself in the back end.
SHED = frozenset({DropReason.QUEUE_FULL, DropReason.LOW_PRIORITY, DropReason.OVER_BUDGET})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an export call says of the batch it was given; whatever is neither accepted nor rejected was lost.

    accepted: spans that the collector took.
    rejected: spans that it took the request for and refused (OTLP partial success); never sent again.
    reason: why the rest was lost; None when there is no rest.
    message: the collector's or the transport's own words, for the one log line.
    attempts: requests made. duration: seconds, waits included.
    throttled_until: on the pipeline's clock, when the collector asked not to hear from us before then.
    refused: of the rest, spans that were lost as NOT_RETRYABLE, before ``reason`` befell the others.
    """

    accepted: int
    rejected: int = 0
    reason: DropReason | None = None
    message: str = ""
    attempts: int = 1
    duration: float = 0.0
    throttled_until: float | None = None
    refused: int = 0
