"""When those who fill the queue let others have the interpreter, and for how long.

A thread that never waits keeps it for 5 ms at a time (sys.getswitchinterval), once or more for each request, in which
it may end more spans than fit into one. So while the queue fills, who ends spans gives way, once in a hundred spans or
so, and for the longer the fuller it is: then there is room for what would be lost. All do at the same time: if only one
did, another one would have the interpreter, and not the worker. Asked by application threads, which may lose each
other's writing of what is left: as near as matters. The rules: this is for an exporter that is kept from its work, and
not where a call waits for the collector; and it rides over a burst, while of a load that lasts it takes no more than a
twentieth.
"""

from __future__ import annotations

from otel_shed.native import MOMENT_SECONDS
from otel_shed.outcome import Outcome
from otel_shed.pipeline.inbox import INBOX_ROOM

# Of the queue, waiting to go out.
GIVES_WAY_AT = 1 / 4
# At twice as much it is the longest: a request takes about as long where the interpreter is free.
LONGEST_SECONDS = 0.005
_POWER = 6
# In all, in a burst, and by the second after it.
BURST_SECONDS = 0.4
SHARE = 1 / 20
# What a call may take that is kept from its work. One alone may be longer by chance, by so much.
QUICK_SECONDS = 0.05
PATIENCE_SECONDS = 0.1


class Way:
    """Of one intake, whose inbox has so much ``room``: who fills a small one is asked the more often."""

    def __init__(self, *, room: int) -> None:
        self._scale = room / INBOX_ROOM
        self._left = BURST_SECONDS
        self._asked_at = 0.0
        # The last time that somebody gave way, by himself.
        self._began = self._lasts = 0.0

    def seconds(self, fill: float, now: float) -> float:
        """For how long, where so much of the queue waits to go out, more than GIVES_WAY_AT; 0 is not at all.

        While one thread gives way, others do until the same time, and nothing is taken from what is left.
        """
        if 0.0 <= (passed := now - self._began) < self._lasts:
            return self._lasts - passed
        wanted = self._scale * min(LONGEST_SECONDS, 2 * MOMENT_SECONDS * (fill / GIVES_WAY_AT) ** _POWER)
        earned = SHARE * max(0.0, now - self._asked_at)
        self._asked_at = now
        self._left = left = min(BURST_SECONDS, self._left + earned)
        given = max(MOMENT_SECONDS, wanted)
        if given > left:
            return 0.0
        self._left = left - given
        self._began, self._lasts = now, given
        return given


def is_quick(outcome: Outcome) -> bool:
    """Whether a call was of use, and did not take long."""
    return outcome.reason is None and outcome.duration < QUICK_SECONDS
