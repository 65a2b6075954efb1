"""What was lost, not shed by choice, and who has been told of it: flushes, and the log.

Owned by the worker, which reports what comes of each request; flushes ask on any thread, in the ledger. The rule: of
each loss one flush is told, that was asked for after it or while it happened, and the counts keep it for good.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

from otel_shed.log_limit import LogLimit, counted
from otel_shed.outcome import LOST_IN_EXPORT, UNDELIVERED, DropReason, Outcome
from otel_shed.pipeline.flush import Flush
from otel_shed.pipeline.ledger import Account, Ledger

# Why, and where to read on. What is lost because nobody answered (UNDELIVERED) is told by the control's ShedLog.
_DOCTOR = "to see why, run: otel-shed doctor"
_IN_WORDS = {
    DropReason.REJECTED: ("{where} took the request and rejected them", _DOCTOR),
    DropReason.NOT_RETRYABLE: ("{where} refuses them", _DOCTOR),
    DropReason.EXPORTER_ERROR: ("{where} failed", "README.md, Read the account"),
    DropReason.TOO_LARGE: ("they are too large for one request", "README.md, Read the account"),
}
_SHED = (DropReason.LOW_PRIORITY, DropReason.OVER_BUDGET)
_NOT_THE_COLLECTOR = (
    DropReason.QUEUE_FULL,
    DropReason.EXPORTER_ERROR,
    DropReason.TOO_LARGE,
    DropReason.ENCODE_FAILED,
)
_AT_THE_END: Mapping[str, tuple[DropReason, ...]] = {
    "dropped from the full queue": (DropReason.QUEUE_FULL,),
    "lost undelivered": tuple(UNDELIVERED),
    "still waiting when shutdown gave up": (DropReason.SHUTDOWN,),
    "refused": (DropReason.NOT_RETRYABLE, DropReason.REJECTED),
    "lost in the exporter": (DropReason.EXPORTER_ERROR,),
    "too large": (DropReason.TOO_LARGE,),
    "that could not be encoded": (DropReason.ENCODE_FAILED,),
}

# Lost by the thread that ended them; all other losses come to light in the order in which spans are exported.
_LOST_AT_END = (DropReason.TOO_LARGE, DropReason.ENCODE_FAILED, DropReason.ALREADY_SHUTDOWN)


class Losses:
    """The losses of one pipeline. told: those that flushes have told of, as spans ended and in export."""

    def __init__(self, ledger: Ledger, *, where: str, clock: Callable[[], float]) -> None:
        """``where`` spans are exported to, for log lines."""
        self._ledger = ledger
        self._where = where
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self.restart()

    def restart(self) -> None:
        """In a forked child: what was lost before is the parent's to tell."""
        self.told = self._counts()
        self._untold: Counter[DropReason] = Counter()

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
        self._say(DropReason.REJECTED, outcome.rejected, outcome.message)
        self._say(DropReason.NOT_RETRYABLE, outcome.refused, outcome.message)
        if outcome.reason in _IN_WORDS:
            self._say(outcome.reason, spans - outcome.accepted - outcome.rejected - outcome.refused, outcome.message)

    def _say(self, reason: DropReason, lost: int, message: str) -> None:
        if lost <= 0:
            return
        self._untold[reason] += lost
        if not self._log.is_due(reason):
            return
        why, read_on = _IN_WORDS[reason]
        self._log.warning(
            reason,
            "%s lost: %s%s. The program goes on and is not affected (%s)",
            counted(self._untold.pop(reason), "span"),
            why.format(where=self._where),
            f" ({message})" if message else "",
            read_on,
        )

    def farewell(self, account: Account, last: Outcome | None) -> str | None:
        """What was not delivered of all that ended, for the one line at the end; None if nothing is missing.

        ``last``: what the last request came to, None if there was none.
        """
        missing = {"shed": account.summarized + sum([account.dropped.get(reason, 0) for reason in _SHED])}
        for words, reasons in _AT_THE_END.items():
            missing[words] = sum([account.dropped.get(reason, 0) for reason in reasons])
        if not (total := sum(missing.values())):
            return None
        counts = ", ".join(f"{count:,} {words}" for words, count in missing.items() if count)
        is_ours = missing["shed"] + sum([account.dropped.get(reason, 0) for reason in _NOT_THE_COLLECTOR]) == total
        why = f" (the last request: {last.message})" if last is not None and last.reason and last.message else ""
        return (
            f"at the end {total:,} of {counted(account.ended, 'span')} had not been delivered to {self._where}: "
            f"{counts}{why}. The program was not affected ({'docs/overload.md' if is_ours else _DOCTOR})"
        )
