"""How much may be in the inbox, and how much of it is worth telling whoever sweeps.

Values, made once for an intake. The rule: what may wait to be swept is bounded, in spans and in bytes, by what may be
held.
"""

from __future__ import annotations

from dataclasses import dataclass

# What may wait to be swept, beside what is held, is as many spans, and an eighth of the bytes: with more, who comes
# waits for the sweeper. Half of it, a batch, is worth a wake-up: there is room for what comes until the sweeper has the
# interpreter, which is 5 ms. An eighth is where the queue fills, and a few are where spans are decided on, which takes
# ten times as long: so nobody has the interpreter for more than some tenths of a millisecond.
INBOX_ROOM = 1024
FEW = 64
INBOX_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class InboxSizes:
    """Of one inbox.

    room: entries; with more, who comes waits. gathered: entries that are worth a wake-up; many: the same while the
    worker is away and the queue fills; few: the same where each is decided on. most_bytes: of all that waits. largest:
    bytes of a span, of which as many as there may be are within these without being added up.
    """

    room: int
    gathered: int
    many: int
    few: int
    most_bytes: int
    largest: int

    @classmethod
    def of(cls, *, capacity: int, max_bytes: int) -> InboxSizes:
        """Those before a store of that capacity, in spans, and that many bytes."""
        room = max(1, min(INBOX_ROOM, capacity))
        many = max(1, room // 8)
        most_bytes = int(INBOX_SHARE * max_bytes)
        return cls(
            room=room,
            gathered=max(1, room // 2),
            many=many,
            few=min(FEW, many),
            most_bytes=most_bytes,
            largest=most_bytes // (2 * room),
        )
