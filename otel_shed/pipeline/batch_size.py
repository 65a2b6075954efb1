"""How many spans go out together: as many as may, and fewer after a request that took too long.

Owned by the worker. A collector that takes fewer spans a second than a full batch has in the time that a request may
take would otherwise never see one through: at 512 spans and OTLP's ten seconds that is one of 51 a second. The rule: it
is halved with each request that is given up for its time, not below a sixteenth, and doubled again with each that took
less than a quarter of that time, so that twice as many spans would take half of it.
"""

from __future__ import annotations

import math

from otel_shed.outcome import DropReason, Outcome

LEAST_SHARE = 1 / 16
QUICK_SHARE = 1 / 4


class BatchSize:
    """spans: of the next batch, at most."""

    def __init__(self, most: int) -> None:
        self.spans = self._most = most
        self._least = max(1, int(most * LEAST_SHARE))
        self._too_long = math.inf  # seconds that one request took that was given up

    def sent(self, spans: int, outcome: Outcome) -> None:
        """A request of so many spans has come to this."""
        if outcome.reason is DropReason.EXPORT_TIMEOUT and outcome.attempts:
            self._too_long = outcome.duration / outcome.attempts
            self.spans = max(self._least, min(self.spans, spans) // 2)
        elif outcome.accepted and outcome.duration <= QUICK_SHARE * self._too_long:
            self.spans = min(self._most, 2 * self.spans)
