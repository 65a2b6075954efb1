"""A sender that is watched: what its calls come to is told to the pressure signals and to the budget.

Called as the sender that it stands before: all but ``hurry`` and ``abort`` by the worker thread, one call at a time.
The rule: it changes nothing of what is sent or said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otel_shed.control.signals.exports import Exports
from otel_shed.otlp.encode import Encoder
from otel_shed.outcome import Outcome
from otel_shed.pipeline.sender import Sender
from otel_shed.record import SpanRecord

# Told of each call: spans, when it began, and what became of it.
Told = Callable[[int, float, Outcome], None]


class ObservedSender:
    """Stands before ``sender``."""

    def __init__(self, sender: Sender, *, exports: Exports, told: Told, clock: Callable[[], float]) -> None:
        self._sender = sender
        self._exports = exports
        self._told = told
        self._clock = clock
        self.record: Encoder = sender.record
        self.fits = sender.fits
        self.split = sender.split
        self.flush = sender.flush
        self.hurry = sender.hurry
        self.abort = sender.abort
        self.shutdown = sender.shutdown

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        """Send, and tell."""
        began = self._clock()
        self._exports.began()
        outcome = self._sender.send(records)
        self._exports.ended(outcome)
        self._told(len(records), began, outcome)
        return outcome

    def after_fork_in_child(self) -> None:
        self._exports.after_fork_in_child()
        self._sender.after_fork_in_child()
