"""How much a store holds, of how much it may: in spans and in bytes.

Owned by the store, changed in the ledger. The rule: what was added counts until it is shed or released.
"""

from __future__ import annotations


class Bounds:
    """spans, length: number and bytes of all that is held; taken_spans, taken_length: of what the worker has of it."""

    __slots__ = ("length", "max_length", "max_spans", "max_waiting", "spans", "taken_length", "taken_spans")

    def __init__(self, *, max_spans: int, max_waiting: int, max_length: int) -> None:
        """``max_waiting``: of the spans that the worker does not have."""
        self.max_spans = max_spans
        self.max_waiting = max_waiting
        self.max_length = max_length
        self.restart()

    def restart(self) -> None:
        """Nothing is held."""
        self.spans = self.length = self.taken_spans = self.taken_length = 0

    def keep_taken(self) -> None:
        """Nothing is held but what the worker has."""
        self.spans, self.length = self.taken_spans, self.taken_length

    def add(self, spans: int, length: int) -> None:
        """So many more are held."""
        self.spans += spans
        self.length += length

    def take(self, spans: int, length: int) -> None:
        """The worker has so many more."""
        self.taken_spans += spans
        self.taken_length += length

    @property
    def are_exceeded(self) -> bool:
        spans = self.spans
        return spans > self.max_spans or self.length > self.max_length or spans - self.taken_spans > self.max_waiting

    @property
    def waiting(self) -> int:
        """Spans that the worker does not have."""
        return self.spans - self.taken_spans

    def are_less_than(self, share: float, spans: int, length: int) -> bool:
        """Whether so much is more than this share of them."""
        return spans > share * min(self.max_spans, self.max_waiting) or length > share * self.max_length
