"""A sender that is watched: what its calls come to is told to the pressure signals and to the budget.

Called as the sender that it stands before: all but ``hurry`` and ``abort`` by the worker thread, one call at a time.
The rule: it changes nothing of what is sent or said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from otel_shed.control.signals.exports import Exports
from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.otlp.encode import Encoder
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.sender import Sender
from otel_shed.record import SpanRecord

# Told of each call: when it began, and what became of it.
Told = Callable[[float, Outcome], None]


_FAULT = Outcome(accepted=0, reason=DropReason.EXPORTER_ERROR)


class ObservedSender:
    """Stands before ``sender``."""

    def __init__(
        self, sender: Sender, *, exports: Exports, told: Told, closed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """``closed`` is called when the sender is about to be shut down."""
        self._sender = sender
        self._exports = exports
        self._told = told
        self._closed = closed
        self._clock = clock
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self.at_once, self.where = sender.at_once, sender.where
        self.record: Encoder = sender.record
        self.fits = sender.fits
        self.most_bytes = sender.most_bytes
        self.split = sender.split
        self.amend = sender.amend
        self.flush = sender.flush
        self.hurry = sender.hurry
        self.abort = sender.abort
        self.after_fork_in_child = sender.after_fork_in_child

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        """Send, and tell."""
        began = self._clock()
        self._exports.began()
        outcome = _FAULT
        try:
            outcome = self._sender.send(records)
        finally:
            self._tell(began, outcome)
        return outcome

    def send_all(self, pieces: Sequence[Sequence[SpanRecord]]) -> Iterator[Outcome]:
        """Send, and tell; of requests that are made at once, as of one call."""
        if self.at_once == 1:
            yield from map(self.send, pieces)
            return
        began = self._clock()
        self._exports.began()
        whole = Outcome(accepted=0, attempts=1)
        ended = False
        try:
            for outcome in self._sender.send_all(pieces):
                whole = _together(whole, outcome)
                yield outcome
            ended = True
        finally:
            self._tell(began, whole if ended else replace(whole, reason=DropReason.EXPORTER_ERROR))

    def _tell(self, began: float, outcome: Outcome) -> None:
        try:
            self._exports.ended(outcome)
            self._told(began, outcome)
        except Exception as error:  # a fault of ours, which is not the batch's
            if is_applications(error):
                raise
            self._log.warning("told", "fault in the control: %s: %s", type(error).__name__, error)

    def shutdown(self, timeout: float) -> None:
        """Close the exporter, once; what it said says nothing of others any more, even if it never comes back."""
        self._closed()
        self._sender.shutdown(timeout)


def _together(one: Outcome, other: Outcome) -> Outcome:
    """What two requests came to, as if they had been one: an attempt beyond the first was one that failed."""
    return Outcome(
        accepted=one.accepted + other.accepted,
        rejected=one.rejected + other.rejected,
        reason=one.reason or other.reason,
        message=one.message or other.message,
        attempts=one.attempts + max(0, other.attempts - 1),
        duration=max(one.duration, other.duration),
        throttled_until=max(one.throttled_until or 0.0, other.throttled_until or 0.0) or None,
        refused=one.refused + other.refused,
    )
