"""Requests no larger than the collector takes: one that it refuses for its size goes out in halves.

Owns what has been found out about that size, for ten minutes after the last refusal; each value is written as a whole
by whichever thread sends. The rules: a request is cut only after an answer that says that it is too large, down to
single spans, and a half that fails for another reason than its content is the last one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from otel_shed.log_limit import LogLimit
from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.operations import Operation, error_type
from otel_shed.otlp.request import build_request
from otel_shed.otlp.retry import Attempt
from otel_shed.outcome import DropReason, Outcome
from otel_shed.record import SpanRecord

REMEMBERED_SECONDS = 600.0
# Single spans refused for their size, with nothing taken in between: then smaller requests are of no use either.
MOST_IN_VAIN = 32
# A line is written again only about a limit that is smaller than this share of the one before.
_NEWS_SHARE = 1 / 2


class RequestLimit:
    """The size of a request that the collector takes, as far as its answers tell. place: for the log line."""

    def __init__(self, *, place: str, clock: Callable[[], float]) -> None:
        self._place = place
        self._clock = clock
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self._told = math.inf  # the limit that the last line was about
        self._forget()

    def _forget(self) -> None:
        self._until = -math.inf
        self._refused: float = math.inf  # the smallest that was
        self._taken = 0  # the largest that was
        self._in_vain = 0

    def within(self, most: int) -> int:
        """The bytes that a request may have: ``most``, or less where the collector has been found to take less."""
        if not self._is_known or not self._is_of_use:
            return most
        return min(most, self._best)

    @property
    def _best(self) -> int:
        # What is less than the refused one by little only may be refused as well.
        return max(1, int(self._refused) // 2, self._taken if self._taken < self._refused else 0)

    @property
    def _is_known(self) -> bool:
        return self._clock() < self._until

    @property
    def _is_of_use(self) -> bool:
        return self._in_vain < MOST_IN_VAIN

    def _was_taken(self, size: int) -> None:
        self._in_vain = 0
        self._taken = max(self._taken, size)

    def _was_refused(self, size: int, *, alone: bool) -> None:
        if self._refused < math.inf and not self._is_known:
            self._forget()
        self._in_vain += alone
        if size <= self._taken:
            if alone:  # it is not for this size: it may be compressed badly
                return
            self._taken = 0
        self._refused = min(self._refused, size)
        self._until = self._clock() + REMEMBERED_SECONDS

    def deliver(
        self,
        client: OTLPClient,
        records: Sequence[SpanRecord],
        operation: Operation,
        *,
        budget: float,
        park: bool,
        lane: int,
    ) -> Outcome:
        """What becomes of the records: one request, or several where the collector refuses that for its size.

        ``budget``, ``park``, ``lane``: see OTLPClient. With ``park`` the budget is for each request, else for all.
        """
        began = self._clock()
        left, parts = [records], _Parts(len(records))
        refusal: tuple[int, Attempt] | None = None
        while left:
            part = left.pop()
            payload = build_request(part)
            size = len(payload)
            if refusal is not None and size >= self._refused and len(part) > 1 and self._is_of_use:
                left += _halves(part)
                continue
            seconds = budget if park else budget - (self._clock() - began)
            outcome, attempt = client.deliver(payload, len(part), budget=seconds, park=park, lane=lane)
            if attempt is not None and attempt.too_large and outcome.reason is DropReason.NOT_RETRYABLE:
                refusal = refusal or (size, attempt)
                self._was_refused(size, alone=len(part) == 1)
                if len(part) > 1 and self._is_of_use:
                    left += _halves(part)
                    continue
            elif outcome.accepted:
                self._was_taken(size)
            operation.came_to(len(part), outcome, attempt)
            if not parts.add(len(part), outcome):
                operation.lost(sum(map(len, left)), error_type(outcome, attempt))
                break
        if refusal is not None:
            self._tell(*refusal)
        return parts.together(self._clock() - began)

    def _tell(self, size: int, attempt: Attempt) -> None:
        if self._refused == math.inf or self._best >= self._told * _NEWS_SHARE:
            return
        self._told = self._best
        if self._taken:
            found = f"in requests of at most {self._best:,} bytes; only spans that are larger alone are lost"
        else:
            found = "in halves, but it has taken none of them yet"
        self._log.warning(
            "limit",
            "the collector at %s refuses requests of %s bytes as too large (%s): batches are sent %s. "
            "The program goes on and is not affected (set OTEL_SHED_MAX_REQUEST_BYTES to what it takes, or raise its "
            "limit; README.md, What it promises)",
            self._place,
            f"{size:,}",
            attempt.words,
            found,
        )


def _halves(records: Sequence[SpanRecord]) -> tuple[Sequence[SpanRecord], Sequence[SpanRecord]]:
    """The second half and the first, which is the next to be taken from the end of a list."""
    middle = len(records) // 2
    return records[middle:], records[:middle]


class _Parts:
    """What became of the parts of a request."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._only: Outcome | None = None
        self._accepted = self._rejected = self._refused = 0
        self._retries = 0
        self._reason: DropReason | None = None
        self._message = ""
        self._throttled_until: float | None = None

    def add(self, count: int, outcome: Outcome) -> bool:
        """A part of so many spans came to this; whether there is any use in the next one."""
        if count == self._count:
            self._only = outcome
        self._accepted += outcome.accepted
        self._rejected += outcome.rejected
        self._retries += max(0, outcome.attempts - 1)
        self._message = outcome.message if outcome.reason else self._message or outcome.message
        self._throttled_until = outcome.throttled_until
        if outcome.reason is None:
            return True
        self._reason = outcome.reason
        if outcome.reason is not DropReason.NOT_RETRYABLE:
            return False
        self._refused += count - outcome.accepted - outcome.rejected
        return True

    def together(self, duration: float) -> Outcome:
        """As if they had been one request: refusals for the size are part of it, not failures."""
        if self._only is not None:
            return self._only
        return Outcome(
            accepted=self._accepted,
            rejected=self._rejected,
            reason=self._reason,
            message=self._message,
            attempts=1 + self._retries,
            duration=duration,
            throttled_until=self._throttled_until,
            refused=0 if self._reason is DropReason.NOT_RETRYABLE else self._refused,
        )
