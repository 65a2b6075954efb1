"""Headers of spans that never were, for what reads no more than those."""

from __future__ import annotations

from otel_shed.control.threshold import NEVER, format_ot, randomness_of, read_ot
from otel_shed.record import IS_REMOTE, Priority, SpanRecord


def made_record(
    trace_id: int = 1,
    span_id: int = 1,
    parent_span_id: int = 0,
    *,
    priority: Priority = Priority.NORMAL,
    failed: bool = False,
    is_remote: bool = False,
    threshold: int | None = None,
    randomness: int | None = None,
    duration: float = 0.0,
    length: int = 100,
) -> SpanRecord:
    """A span without parent is a local root, and so is one whose parent ``is_remote``; duration in seconds."""
    record = SpanRecord(
        trace_id,
        span_id,
        parent_span_id,
        1 | (IS_REMOTE if is_remote else 0),
        "work",
        2 if failed else 0,
        int(duration * 1e9),
        priority,
        length,
        None,
        b"",
        None,
        failed=failed,
        trace_state={"ot": format_ot(None, (f"rv:{trace_id % NEVER if randomness is None else randomness:014x}",))},
    )
    owe(record, threshold)
    return record


def owe(record: SpanRecord, threshold: int | None) -> None:
    """Have the record's tracestate say this threshold, None for none."""
    record.trace_state = {"ot": format_ot(threshold, (f"rv:{randomness_in(record):014x}",))}


def randomness_in(record: SpanRecord) -> int:
    """What its tracestate says."""
    return randomness_of(record.trace_id, read_ot(record.trace_state))
