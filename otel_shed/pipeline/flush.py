"""A flush: a barrier that all that ended before it has to pass. The worker changes it, who asked for it waits."""

from __future__ import annotations

from otel_shed.native import Signal


class Flush:
    """Passed when everything admitted before it has left the pipeline, one way or another.

    order: of the queue, behind all that the flush waits for. mark: the store's, once that has decided on all of it.
    lost_at_end, told: losses as spans ended until then, and those that flushes had told of. deadline: seconds of the
    pipeline's clock. delivered: whether none was lost; to be asked once it is ``done``.
    """

    def __init__(self, *, deadline: float, told: tuple[int, int]) -> None:
        self.deadline, self.told = deadline, told
        self.order = self.lost_at_end = 0
        self.mark: int | None = None
        self.delivered = False
        self.done = Signal()
