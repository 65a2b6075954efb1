"""What was lost, not shed by choice, and who has been told of it: flushes, and the log.

Owned by the worker, which reports what comes of each request; flushes ask on any thread, in the ledger. The rule: of
each loss one flush is told, that was asked for after it or while it happened, and the counts keep it for good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from otel_shed.log_limit import LogLimit
from otel_shed.outcome import LOST_IN_EXPORT, DropReason, Outcome
from otel_shed.pipeline.flush import Flush
from otel_shed.pipeline.ledger import Ledger

_IN_WORDS = {
    DropReason.NOT_RETRYABLE: "the collector refuses them",
    DropReason.RETRY_EXHAUSTED: "the collector was not there for as long as was tried",
    DropReason.EXPORT_TIMEOUT: "the export took too long",
    DropReason.EXPORTER_ERROR: "the exporter failed",
    DropReason.TOO_LARGE: "they are too large for one request",
}

# Lost by the thread that ended them; all other losses come to light in the order in which spans are exported.
_LOST_AT_END = (DropReason.TOO_LARGE, DropReason.ENCODE_FAILED, DropReason.ALREADY_SHUTDOWN)


class Losses:
    """The losses of one pipeline. told: those that flushes have told of, as spans ended and in export."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self.restart()

    def restart(self) -> None:
        """In a forked child: what was lost before is the parent's to tell."""
        self.told = self._counts()

    def begin(self, flush: Flush) -> None:
        """In the ledger, when all that was offered before the flush is held."""
        flush.lost_at_end, _ = self._counts()

    def since(self, flush: Flush | None = None) -> bool:
        """Whether spans were lost that no flush had told of when this one was asked for; from now on it has.

        Of those that were lost as they ended, later ones are for the next flush; without ``flush`` all count.
        """
        with self._ledger.lock:
            at_end, in_export = self._counts()
            if flush is not None:
                at_end = flush.lost_at_end
            told = self.told if flush is None else flush.told
            self.told = max(self.told[0], at_end), max(self.told[1], in_export)
            return at_end > told[0] or in_export > told[1]

    def _counts(self) -> tuple[int, int]:
        """Spans lost as they ended, and spans lost in export."""
        dropped = self._ledger.dropped
        at_end = sum([dropped[reason] for reason in _LOST_AT_END])
        return at_end, sum([dropped[reason] for reason in LOST_IN_EXPORT]) - at_end

    def report(self, spans: int, outcome: Outcome) -> None:
        """Log what was lost of a request of so many spans."""
        lost = spans - outcome.accepted - outcome.rejected - outcome.refused
        if outcome.rejected:
            self._log.warning(
                "rejected", "the collector rejected %d of %d spans: %s", outcome.rejected, spans, outcome.message
            )
        if outcome.refused:
            reason = DropReason.NOT_RETRYABLE
            self._log.warning(str(reason), "%d spans lost, %s", outcome.refused, _IN_WORDS[reason])
        if lost > 0 and outcome.reason in _IN_WORDS:
            self._log.warning(
                str(outcome.reason),
                "%d spans lost, %s%s",
                lost,
                _IN_WORDS[outcome.reason],
                f": {outcome.message}" if outcome.message else "",
            )
