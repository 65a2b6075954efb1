"""Asks the policy, which may be the application's, and survives what it does.

Owned by the Traces, called in the ledger. The rule: there is always a verdict; where the policy has none, the trace is
kept, and counted.
"""

from __future__ import annotations

from otel_shed.pipeline.held import HeldTrace
from otel_shed.pipeline.verdict import Policy, Verdict

_KEPT = Verdict()


class Judge:
    """faults: traces that were kept because the policy failed. last_fault: why."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.restart()

    def restart(self) -> None:
        """Forget the faults."""
        self.faults = 0
        self.last_fault: Exception | None = None

    def ask(self, trace: HeldTrace, now: float, ready: int, kept: int) -> Verdict:
        """The verdict on a trace; ``ready`` and ``kept`` as in its view."""
        try:
            verdict = self._policy(trace.view(now, ready, kept))
            if isinstance(verdict, Verdict):
                return verdict
            raise TypeError(f"a policy must return a Verdict, not {verdict!r}")
        except Exception as error:  # this may be the middle of the application's Span.end()
            self.faults += 1
            self.last_fault = error
            return _KEPT
