"""What was shed, told in the trace back end itself: at most one span a minute, ``otel_shed.report``.

Owns what was told last, for one pipeline; called by its worker. The rules: nothing is told where nothing was shed; what
is told goes the way of all spans, as CRITICAL, under the resource of the program's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.util.types import AttributeValue

from otel_shed.pipeline.ledger import Account
from otel_shed.pipeline.summary import Summary

NAME = "otel_shed.report"
EVERY_SECONDS = 60.0
# Names of spans that are told, of those of which most were shed.
HEAVIEST = 10

_SCOPE = InstrumentationScope("otel_shed")


class Report:
    """Makes the reports on one pipeline."""

    def __init__(
        self,
        *,
        account: Callable[[], Account],
        shed: Callable[[], int],
        state: Callable[[], Mapping[str, AttributeValue]],
        summary: Summary,
        clock: Callable[[], float],
        time_ns: Callable[[], int],
    ) -> None:
        """``shed``: spans that have been, which is asked at each turn. ``state``: attributes that say how things stand.

        ``clock``: seconds, monotonic; ``time_ns``: of the epoch.
        """
        self._account = account
        self._shed = shed
        self._state = state
        self._summary = summary
        self._clock = clock
        self._time_ns = time_ns
        self._ids = RandomIdGenerator()
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child, what was shed is the parent's to tell."""
        self._told, self._told_shed = Account(), 0
        self._names: dict[tuple[str, str], int] = {}
        self._at, self._began = self._clock(), self._time_ns()

    def due(self, now: float, resource: Resource) -> ReadableSpan | None:
        """The span to send, under ``resource``; None if it is not time, or nothing was shed since the last one."""
        if now - self._at < EVERY_SECONDS:
            return None
        if (shed := self._shed()) == self._told_shed:
            return None
        account, before = self._account(), self._told
        began, ended = self._began, self._time_ns()
        attributes = dict(self._state()) | self._counts(account, before) | self._heaviest()
        self._told, self._told_shed, self._at, self._began = account, shed, now, ended
        context = SpanContext(
            self._ids.generate_trace_id(), self._ids.generate_span_id(), False, TraceFlags(TraceFlags.SAMPLED)
        )
        return ReadableSpan(
            NAME,
            context,
            resource=resource,
            attributes=attributes,
            start_time=min(began, ended),
            end_time=ended,
            instrumentation_scope=_SCOPE,
        )

    def wait(self, now: float) -> float | None:
        """Seconds after which there is something to tell; None while nothing was shed since the last time."""
        if self._shed() == self._told_shed:
            return None
        return max(0.0, self._at + EVERY_SECONDS - now)

    def _counts(self, account: Account, before: Account) -> dict[str, AttributeValue]:
        counts = {
            "ended": account.ended - before.ended,
            "exported": account.exported - before.exported,
            "unsampled": account.unsampled - before.unsampled,
            "summarized": account.summarized - before.summarized,
        }
        counts |= {reason.value: count - before.dropped.get(reason, 0) for reason, count in account.dropped.items()}
        return {f"otel_shed.spans.{outcome}": count for outcome, count in counts.items() if count}

    def _heaviest(self) -> dict[str, AttributeValue]:
        rows = self._summary.snapshot()
        counts = {(row.name, row.kind): row.count - self._names.get((row.name, row.kind), 0) for row in rows}
        self._names = {(row.name, row.kind): row.count for row in rows}
        heaviest = sorted(counts.items(), key=lambda each: -each[1])[:HEAVIEST]
        named = [(name, count) for (name, _), count in heaviest if count]
        return {
            "otel_shed.heaviest.names": [name for name, _ in named],
            "otel_shed.heaviest.counts": [count for _, count in named],
        }
