"""Ended spans that say what they are worth."""

from __future__ import annotations

import itertools
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_shed.control.threshold import format_ot
from otel_shed.record import Priority

_trace_ids = itertools.count(0xABC)


def span(
    name: str = "work",
    priority: Priority | None = None,
    *,
    trace_id: int | None = None,
    threshold: int | None = None,
    failed: bool = False,
    kind: SpanKind = SpanKind.INTERNAL,
    seconds: float = 0.001,
    **attributes: Any,
) -> ReadableSpan:
    """A sampled span, of a trace of its own if no ``trace_id`` is given.

    ``threshold``: that of the ``th`` in its tracestate, which it does without if None.
    """
    if priority is not None:
        attributes["otlp.priority"] = priority.name.lower()
    state = None if threshold is None else TraceState([("ot", format_ot(threshold))])
    return ReadableSpan(
        name,
        SpanContext(
            next(_trace_ids) if trace_id is None else trace_id,
            1,
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
            trace_state=state,
        ),
        resource=Resource.get_empty(),
        attributes=attributes,
        kind=kind,
        status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
        start_time=1,
        end_time=1 + round(seconds * 1e9),
    )
