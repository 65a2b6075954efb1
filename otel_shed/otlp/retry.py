"""OTLP's retry rules: what an answer means, how long the server asked us to wait, how long to back off.

Owns no state, does no I/O, reads no clock: values in, values out, for any thread. The rule that must stay true: whether
a request may be sent again is decided in this file only. "The specification" is
https://github.com/open-telemetry/opentelemetry-proto/blob/main/docs/specification.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from enum import Enum

from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_shed.otlp.wrong_endpoint import html_page, redirect

# The specification, "Failures" of OTLP/gRPC; RESOURCE_EXHAUSTED joins them when the server says that it will recover.
RETRYABLE_GRPC_CODES = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
RETRYABLE_IF_RETRY_INFO = "RESOURCE_EXHAUSTED"
# The specification, "Retryable Response Codes": all other 4xx and 5xx MUST NOT be retried.
RETRYABLE_HTTP_STATUSES = frozenset({429, 502, 503, 504})

# A server may ask for any wait; past an hour it is as likely a mistake (a date in the wrong year, milliseconds given as
# seconds), and one such answer must not silence a process for days. So we ask again after an hour at the latest.
LONGEST_REQUESTED_WAIT = 3600.0

# OTLP has no words for it. gRPC's own in Go, C and Node; in Rust (with OUT_OF_RANGE, which says to retry), in Java and
# .NET; those of a proxy that speaks only HTTP; what the Collector answers over HTTP (with 400), and other servers.
_TOO_LARGE_STATUS = 413
_TOO_LARGE = re.compile(
    r"larger than max|message length too large|message exceeds (?:the )?max|http2 header with status: 413"
    r"|(?:body|content|entity|message|payload|request) (?:is )?too large",
    re.IGNORECASE,
)

_DELAY_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?")  # RFC 9110 10.2.3 has whole seconds; some send fractions
_LONGEST_MESSAGE = 300
_GRPC_PREFIX = re.compile(r"^(?:[A-Z_]+: )?(?:ipv[46]|unix):\S+: ")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Verdict(Enum):
    """What may be done with a request after an attempt to send it."""

    ACCEPTED = "accepted"
    RETRYABLE = "retryable"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came of it.

    code: the gRPC code's name ("UNAVAILABLE"), the HTTP status ("503"), or what happened instead of an answer
    ("connection refused").
    message: the server's or the transport's words; one line, at most 300 characters.
    rejected: spans that the server says it refused, of an accepted request; its own number, not checked.
    retry_after: seconds, more than 0 and at most an hour, that the server asked us to wait; None if it did not.
    answered: whether a server answered at all. timed_out: whether it ran into its time limit. too_large: whether it was
    refused for its size, so that the same spans may be taken in smaller requests.
    duration: seconds, as measured by whoever made the attempt.
    """

    verdict: Verdict
    code: str
    message: str = ""
    rejected: int = 0
    retry_after: float | None = None
    answered: bool = True
    timed_out: bool = False
    duration: float = 0.0
    too_large: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the server took the request; it may have rejected spans of it."""
        return self.verdict is Verdict.ACCEPTED

    @property
    def throttled(self) -> bool:
        """Whether the server asked us to send less: it named a wait, or used the code that means nothing else."""
        return self.retry_after is not None or self.code == "429"

    def lasting(self, seconds: float) -> Attempt:
        """The same, with its duration; ``dataclasses.replace`` takes five times as long, once for each batch."""
        return Attempt(
            self.verdict,
            self.code,
            self.message,
            self.rejected,
            self.retry_after,
            self.answered,
            self.timed_out,
            seconds,
            self.too_large,
        )

    def hiding(self, hide: Callable[[str], str]) -> Attempt:
        """The same, with what is secret taken out of the message; whoever answers may repeat what it was sent."""
        return replace(self, message=hide(self.message)) if self.message else self

    @property
    def words(self) -> str:
        """Code and message for a log line."""
        # gRPC repeats itself; the last error is the one that says something, after a code and an address.
        message = _GRPC_PREFIX.sub("", self.message.rpartition("last error: ")[2])
        return f"{self.code}: {message}" if message else self.code


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts; seconds, but for ``factor`` and ``jitter``.

    The defaults are the stock exporter's (1 s, doubled each time, +-20 %), capped where the Collector's exporters are
    (30 s). ``longest_park`` bounds how long one batch waits in all because the server asked for it, and is the
    Collector's max_elapsed_time (5 minutes).
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.2
    longest_park: float = 300.0

    def backoff(self, failures: int, random: Callable[[], float]) -> float:
        """The wait after so many failures in a row (from 1), within jitter of exponential; ``random`` gives 0..1."""
        # The exponent is bounded because a float is not: a batch may be retried for hours.
        delay = min(self.maximum, self.initial * self.factor ** min(failures - 1, 64))
        return delay * (1.0 + self.jitter * (2.0 * random() - 1.0))

    def throttle(self, retry_after: float, failures: int, random: Callable[[], float]) -> float:
        """The wait that the server asked for: never less, more if it keeps asking, spread so that not all come at once.

        google.rpc.RetryInfo: wait at least the delay, and increase it if retries fail.
        """
        return max(retry_after * (1.0 + self.jitter * random() / 2.0), self.backoff(failures, random))


def no_answer(code: str, message: object = "", *, timed_out: bool = False, retryable: bool = True) -> Attempt:
    """An attempt that nothing came back from: the specification has both protocols retry those."""
    verdict = Verdict.RETRYABLE if retryable else Verdict.PERMANENT
    return Attempt(verdict, code, one_line(str(message)), answered=False, timed_out=timed_out)


# What protobuf raises for bytes that are no message; its pure-Python parser lets text that is not UTF-8 through as is.
_UNREADABLE = (DecodeError, UnicodeDecodeError)


def accepted_answer(code: str, body: bytes, message: str = "") -> Attempt:
    """A success, full or partial; a body that cannot be read changes nothing, since the request was taken."""
    if not body:  # the usual answer
        return Attempt(Verdict.ACCEPTED, code, message)
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except _UNREADABLE:
        return Attempt(Verdict.ACCEPTED, code, message)
    said = one_line(partial.error_message) or message
    return Attempt(Verdict.ACCEPTED, code, said, rejected=max(0, partial.rejected_spans))


def grpc_failure(
    code: str,
    details: str | None,
    status_details: bytes | None,
    retry_info_alone: bytes | None = None,
    *,
    answered: bool = True,
    timed_out: bool = False,
) -> Attempt:
    """What a gRPC status other than OK means.

    ``status_details`` is the trailer grpc-status-details-bin, ``retry_info_alone`` is google.rpc.retryinfo-bin, which
    the stock exporter reads instead. Where both ask for a wait, the longer one counts.
    """
    delays = [each for each in (retry_info(status_details), _delay(retry_info_alone)) if each is not None]
    delay = max(delays, default=None)
    too_large = answered and delay is None and _TOO_LARGE.search(details or "") is not None
    # The same bytes would be refused again, whatever the code says.
    recovers = not too_large and (
        code in RETRYABLE_GRPC_CODES or (code == RETRYABLE_IF_RETRY_INFO and delay is not None)
    )
    return Attempt(
        Verdict.RETRYABLE if recovers else Verdict.PERMANENT,
        code,
        one_line(details or ""),
        # A delay of zero promises recovery but asks for no wait: exponential back-off then, as without it.
        retry_after=delay or None if recovers else None,
        answered=answered,
        timed_out=timed_out,
        too_large=too_large,
    )


def http_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, url: str = "the endpoint", whole: bool = True
) -> Attempt:
    """What an HTTP answer means; ``headers`` finds names in any case, ``now`` is seconds since the epoch.

    url: what was asked, fit to be printed. whole: whether ``body`` is all of it; if not, it is not read.
    """
    content_type = headers.get("content-type", "").lower()
    page = html_page(content_type, body, whole=whole)
    is_success = 200 <= status < 300
    if is_success and page is None:
        # Without a type we look: receivers forget it. Text that happens to parse would be read as a partial success.
        is_message = whole and (not content_type or "protobuf" in content_type)
        return accepted_answer(str(status), body if is_message else b"")
    if (words := redirect(status, headers.get("location"), url)) is None:
        words = f"{page} at {url}" if page else _http_message(content_type, body if whole else b"")
    if is_success:
        # A collector confirms with a message or with nothing: whoever sent a page has not taken the spans.
        words += ", where a collector was expected"
    retryable = status in RETRYABLE_HTTP_STATUSES
    asked = headers.get("retry-after")
    return Attempt(
        Verdict.RETRYABLE if retryable else Verdict.PERMANENT,
        str(status),
        one_line(words),
        retry_after=(_retry_after(asked, headers, now) or None) if retryable and asked else None,
        too_large=status == _TOO_LARGE_STATUS or (status == 400 and _TOO_LARGE.search(words) is not None),
    )


def _retry_after(value: str, headers: Mapping[str, str], now: float) -> float | None:
    # A date is meant by the server's clock, which its Date header tells; ours may be minutes off.
    return parse_retry_after(value, now=_http_date(headers.get("date", "")) or now)


def parse_retry_after(value: str, *, now: float) -> float | None:
    """Seconds from 0 to an hour out of a Retry-After header, which has seconds or a date; None if it has neither."""
    value = value.strip()
    if _DELAY_SECONDS.fullmatch(value):
        return min(float(value), LONGEST_REQUESTED_WAIT)
    date = _http_date(value)
    return None if date is None else min(max(date - now, 0.0), LONGEST_REQUESTED_WAIT)


def _http_date(value: str) -> float | None:
    if not value[:1].isalpha() or len(value) > 64:  # each of HTTP's three forms starts with the day's name
        return None
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def retry_info(status_details: bytes | None) -> float | None:
    """Seconds from 0 to an hour out of the google.rpc.RetryInfo in a serialized google.rpc.Status; None without one."""
    if not status_details:
        return None
    try:
        for detail in Status.FromString(status_details).details:
            if detail.Is(RetryInfo.DESCRIPTOR):
                return _delay(detail.value)
    except _UNREADABLE:
        pass
    return None


def _delay(serialized: bytes | None) -> float | None:
    """Seconds from 0 to an hour out of a serialized RetryInfo, which is empty where it asks for no wait."""
    if serialized is None:
        return None
    try:
        asked = RetryInfo.FromString(serialized).retry_delay
    except _UNREADABLE:
        return None
    return float(min(max(asked.seconds + asked.nanos / 1e9, 0.0), LONGEST_REQUESTED_WAIT))


def _http_message(content_type: str, body: bytes) -> str:
    """The specification has every failure carry a google.rpc.Status; gateways send text."""
    if "protobuf" in content_type:
        try:
            return one_line(Status.FromString(body).message)
        except _UNREADABLE:
            return ""
    return one_line(body[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """Text from outside as a log line may hold it: no control characters, at most 300 characters."""
    text = _UNPRINTABLE.sub(" ", text[: 2 * _LONGEST_MESSAGE]).strip()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
