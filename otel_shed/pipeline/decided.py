"""What became of local traces that are no longer held, remembered for as long as a late span is likely.

Owned by the Traces, called in the ledger. Two generations, so that forgetting costs nothing: what is asked for is
remembered anew, what is not goes with its generation. The rule: what is remembered is bounded, in time and in number,
and while all of it went out as it came, nobody needs to ask. Then it has to cost next to nothing, too: so what is just
sent is in a set of its own.
"""

from __future__ import annotations

import math

from otel_shed.pipeline.held import Decision
from otel_shed.pipeline.trace_ids import TraceIds
from otel_shed.record import SpanRecord

# In one generation: 1 MiB of what was just sent (plain Python: 3.4), and at 500 traces a second a minute's worth of it.
MOST_REMEMBERED = 32_768
# Of traces of which something went out, as it came: all that still comes does too.
SENT = Decision()


class _Generation:
    """What was remembered between two turns: decisions that make a difference, and the traces that are just SENT."""

    __slots__ = ("decisions", "sent")

    def __init__(self) -> None:
        self.decisions: dict[int, Decision] = {}
        self.sent = TraceIds()

    def __len__(self) -> int:
        return len(self.decisions) + len(self.sent)

    def clear(self) -> None:
        self.decisions.clear()
        self.sent.clear()

    def get(self, trace_id: int) -> Decision | None:
        decision = self.decisions.get(trace_id)
        return SENT if decision is None and trace_id in self.sent else decision


class Decided:
    """Decisions by trace id."""

    def __init__(self, *, lifetime: float, most: int = MOST_REMEMBERED) -> None:
        """``lifetime``: seconds that a decision is remembered at least, but for ``most`` of them in each of these."""
        self._lifetime = lifetime
        self._most = most
        self.restart()

    def restart(self) -> None:
        """Forget everything."""
        self._young, self._old = _Generation(), _Generation()
        self._turned_at = -math.inf

    @property
    def binds(self) -> bool:
        """Whether there may be a late span for which the decision makes a difference."""
        return bool(self._young.decisions or self._old.decisions)

    def get(self, trace_id: int) -> Decision | None:
        """The decision on a trace; None if it is not known."""
        young, old = self._young, self._old
        if (decision := young.decisions.get(trace_id)) is not None:
            return decision
        if trace_id in young.sent:
            return SENT
        if (decision := old.decisions.get(trace_id)) is None and trace_id in old.sent:
            decision = SENT
        if decision is not None:
            self.remember(trace_id, decision)
        return decision

    def remember(self, trace_id: int, decision: Decision) -> None:
        """From now on this is what became of the trace."""
        young = self._young
        if len(young.decisions) + len(young.sent) >= self._most:
            self._turn()
            young = self._young
        if decision is SENT:
            young.decisions.pop(trace_id, None)
            young.sent.add(trace_id)
        else:
            young.decisions[trace_id] = decision

    def sent(self, records: list[SpanRecord]) -> None:
        """These have been sent: of their traces, those on which there is no decision go on as they come."""
        if self.binds:
            records = [record for record in records if self.get(record.trace_id) is None]
        if len(self._young) >= self._most:
            self._turn()
        self._young.sent.add_of(records)

    def look(self, now: float) -> None:
        """Forget what is old."""
        if now >= self._turned_at + self._lifetime or now < self._turned_at:
            self._turned_at = now
            self._turn()

    def _turn(self) -> None:
        self._old, self._young = self._young, self._old
        self._young.clear()
