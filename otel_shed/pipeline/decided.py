"""What became of local traces that are no longer held, remembered for as long as a late span is likely.

Owned by the Traces, called in the ledger. Two generations of a dict, so that forgetting costs nothing: what is asked
for is remembered anew, what is not goes with its generation. The rule: what is remembered is bounded, in time and in
number, and while all of it went out as it came, nobody needs to ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from otel_shed.pipeline.held import Decision

# In one generation: some 100 bytes each, and at 500 traces a second a minute's worth of them.
MOST_REMEMBERED = 32_768
# Of traces of which something went out, as it came: all that still comes does too.
SENT = Decision()


class Decided:
    """Decisions by trace id."""

    def __init__(self, *, lifetime: float, most: int = MOST_REMEMBERED) -> None:
        """``lifetime``: seconds that a decision is remembered at least, but for ``most`` of them in each of these."""
        self._lifetime = lifetime
        self._most = most
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self._young: dict[int, Decision] = {}
        self._old: dict[int, Decision] = {}
        self._turned_at = -math.inf
        self._young_binds = self._old_binds = False

    @property
    def binds(self) -> bool:
        """Whether there may be a late span for which the decision makes a difference."""
        return self._young_binds or self._old_binds

    def get(self, trace_id: int) -> Decision | None:
        """The decision on a trace; None if it is not known."""
        decision = self._young.get(trace_id)
        if decision is None and (decision := self._old.get(trace_id)) is not None:
            self.remember(trace_id, decision)
        return decision

    def remember(self, trace_id: int, decision: Decision) -> None:
        """From now on this is what became of the trace."""
        if len(self._young) >= self._most:
            self._turn()
        self._young[trace_id] = decision
        if decision is not SENT:
            self._young_binds = True

    def sent(self, trace_ids: Iterable[int]) -> None:
        """Something of these traces has been sent; those on which there is no decision go on as they come."""
        if self.binds:
            trace_ids = [trace_id for trace_id in trace_ids if self.get(trace_id) is None]
        if len(self._young) >= self._most:
            self._turn()
        self._young.update(dict.fromkeys(trace_ids, SENT))

    def look(self, now: float) -> None:
        """Forget what is old."""
        if now >= self._turned_at + self._lifetime or now < self._turned_at:
            self._turned_at = now
            self._turn()

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._old_binds, self._young_binds = self._young_binds, False
