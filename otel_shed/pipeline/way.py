"""When those who fill the queue let others have the interpreter, and for how long.

A thread that never waits keeps it for 5 ms at a time (sys.getswitchinterval), once or more for each request, in which
it may end more spans than fit into one. So while the queue fills, who ends spans sleeps now and then, for longer the
fuller it is: then there is room for what would be lost. Other threads that go on ending spans meanwhile sleep until the
same time, or they would have the interpreter instead of the worker; one that ends a few goes on. Asked by application
threads, which may lose each other's writing: as near as matters. The rules: this is for an exporter that is kept from
its work, and not where a call waits for the collector; it rides over a burst, and takes no more than a twentieth of a
load that lasts.
"""

from __future__ import annotations

from collections.abc import Callable

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
# A sleep takes so much longer (Linux, prctl(2): PR_SET_TIMERSLACK).
_SLACK_SECONDS = 5e-5
# With so many that it ends while others sleep, a thread is one of those that fill the queue. A request's thread, or an
# event loop, ends fewer within some milliseconds.
FEW_SPANS = 4
# What a call may take that is kept from its work. One alone may be longer by chance, by so much.
QUICK_SECONDS = 0.05
PATIENCE_SECONDS = 0.1


class Way:
    """Of one intake, whose inbox has so much ``room``: who fills a small one is asked the more often."""

    def __init__(self, *, room: int) -> None:
        self._scale = room / INBOX_ROOM
        self._left = BURST_SECONDS
        self._asked_at = 0.0
        # The last sleep that was given: its beginning and its end; and how often each thread asked in it.
        self._sleep: tuple[float, float] | None = None
        self._came: dict[int, int] = {}

    def is_given(self, clock: Callable[[], float]) -> bool:
        """Whether somebody sleeps now."""
        sleep = self._sleep
        return sleep is not None and sleep[0] <= clock() < sleep[1]

    def seconds(self, fill: float, now: float, thread: int) -> float:
        """For how long the thread is to sleep, where so much of the queue waits, more than GIVES_WAY_AT; 0 is not.

        While somebody sleeps it is asked for each span. To wake up with others takes nothing of what is left.
        """
        sleep = self._sleep
        if sleep is not None and sleep[0] <= now < sleep[1]:
            left = sleep[1] - now
            self._came[thread] = came = self._came.get(thread, 0) + 1
            return left if came == FEW_SPANS and left >= MOMENT_SECONDS else 0.0
        wanted = self._scale * min(LONGEST_SECONDS, 2 * MOMENT_SECONDS * (fill / GIVES_WAY_AT) ** _POWER)
        earned = SHARE * max(0.0, now - self._asked_at)
        self._asked_at = max(now, self._asked_at)
        self._left = left = min(BURST_SECONDS, self._left + earned)
        given = max(MOMENT_SECONDS, wanted)
        if given + _SLACK_SECONDS > left:
            return 0.0
        self._left = left - given - _SLACK_SECONDS
        self._came = {thread: FEW_SPANS}
        self._sleep = now, now + given
        return given


def is_quick(outcome: Outcome) -> bool:
    """Whether a call was of use, and did not take long."""
    return outcome.reason is None and outcome.duration < QUICK_SECONDS
