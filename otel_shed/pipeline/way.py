"""When those who fill the queue let others have the interpreter, and for how long.

A thread that never waits keeps it for 5 ms at a time (sys.getswitchinterval), once or more for each request, in which
it may end more spans than fit into one. So while the queue fills, who ends spans gives way, once in a hundred spans or
so, and for the longer the fuller it is: then there is room for what would be lost. Values only. The rule: this is for
an exporter that is kept from its work; where a call waits for the collector instead, nobody waits for that.
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
# What a call may take that is kept from its work. One alone may be longer by chance, by so much.
QUICK_SECONDS = 0.05
PATIENCE_SECONDS = 0.1


def seconds_at(fill: float, room: int) -> float:
    """For how long, where so much of the queue waits to go out, more than GIVES_WAY_AT.

    ``room``: of the inbox. Who fills a small one is asked the more often.
    """
    seconds = min(LONGEST_SECONDS, 2 * MOMENT_SECONDS * (fill / GIVES_WAY_AT) ** _POWER)
    return max(MOMENT_SECONDS, seconds * room / INBOX_ROOM)


def is_quick(outcome: Outcome) -> bool:
    """Whether a call was of use, and did not take long."""
    return outcome.reason is None and outcome.duration < QUICK_SECONDS
