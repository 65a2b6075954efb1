"""Held traces by what they are worth, so that room can be made at once: lowest priority, then lowest randomness first.

Owns buckets for each priority, by the leading bits of the randomness; to add, to remove and to find the lowest costs
the same however many traces are held. Called in the ledger. The rule that must stay true: a bucket goes whole, and what
then stays of that priority owes the bucket's upper edge as its threshold: with a randomness below it, it would have
gone too. So what survives is a sample whose probability is known.
"""

from __future__ import annotations

from bisect import bisect_right

from otel_shed.pipeline.bucket import bucket_of, edge_of
from otel_shed.pipeline.held import HeldTrace
from otel_shed.record import Priority

# Of traces that have been held since before a thousand sweeps, each at a lower threshold than the one before, what they
# owe for the first is forgotten.
_MOST_OWED = 1024


class Ranked:
    """Traces by rank and randomness; ``HeldTrace.rank`` is not to be changed while it is in here."""

    def __init__(self) -> None:
        self._buckets: list[dict[int, dict[HeldTrace, None]]] = [{} for _ in Priority]
        # By rank, a bit for each bucket that has traces.
        self._occupied = [0 for _ in Priority]
        # By rank: the numbers of sweeps, rising, and the thresholds owed by what was held before them, falling.
        self._swept: list[tuple[list[int], list[int]]] = [([], []) for _ in Priority]
        self._sweeps = 0

    def add(self, trace: HeldTrace) -> None:
        """Hold ``trace`` from now on."""
        trace.held_since = self._sweeps
        rank, bucket = trace.rank, trace.bucket
        if bucket is None:
            bucket = trace.bucket = bucket_of(trace.randomness)
        traces = self._buckets[rank].get(bucket)
        if traces is None:
            self._buckets[rank][bucket] = {trace: None}
            self._occupied[rank] |= 1 << bucket
        else:
            traces[trace] = None

    def remove(self, trace: HeldTrace) -> None:
        """Let go of ``trace``; what it owes becomes its ``floor``."""
        rank, bucket = trace.rank, trace.bucket
        assert bucket is not None
        traces = self._buckets[rank][bucket]
        del traces[trace]
        if not traces:
            del self._buckets[rank][bucket]
            self._occupied[rank] &= ~(1 << bucket)
        self._collect(trace)

    def raise_rank(self, trace: HeldTrace, rank: Priority) -> None:
        """It has turned out to be worth more."""
        self.remove(trace)
        trace.rank = rank
        self.add(trace)

    @property
    def lowest(self) -> Priority | None:
        """The lowest rank of which there is a trace; None without any."""
        for rank, occupied in enumerate(self._occupied):
            if occupied:
                return Priority(rank)
        return None

    def sweep(self, rank: Priority) -> tuple[list[HeldTrace], int]:
        """Let go of the lowest bucket of a rank that has traces, the oldest of them first; and its edge.

        Whoever calls this says with ``owe`` what the others owe for it.
        """
        occupied = self._occupied[rank]
        bucket = (occupied & -occupied).bit_length() - 1
        self._occupied[rank] = occupied & occupied - 1
        traces = list(self._buckets[rank].pop(bucket))
        for trace in traces:
            self._collect(trace)
        return traces, edge_of(bucket)

    def owe(self, rank: Priority, threshold: int) -> None:
        """From now on all that is held at ``rank`` owes at least ``threshold``."""
        if not threshold:
            return
        numbers, thresholds = self._swept[rank]
        self._sweeps += 1
        while thresholds and thresholds[-1] <= threshold:
            numbers.pop()
            thresholds.pop()
        if not self._occupied[rank]:
            numbers.clear()
            thresholds.clear()
            return
        numbers.append(self._sweeps)
        thresholds.append(threshold)
        if len(numbers) > _MOST_OWED:
            del numbers[0], thresholds[0]

    def _collect(self, trace: HeldTrace) -> None:
        numbers, thresholds = self._swept[trace.rank]
        if numbers and numbers[-1] > trace.held_since:
            trace.floor = max(trace.floor, thresholds[bisect_right(numbers, trace.held_since)])
