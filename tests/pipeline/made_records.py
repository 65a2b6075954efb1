"""Headers of spans that never were, for what reads no more than those."""

from __future__ import annotations

from dataclasses import dataclass

from otel_shed.control.threshold import NEVER, format_ot
from otel_shed.record import IS_REMOTE, Priority


@dataclass(eq=False, slots=True)
class MadeRecord:
    """What decisions on traces read of a record."""

    trace_id: int
    span_id: int
    parent_span_id: int
    flags: int
    priority: Priority
    failed: bool
    duration_ns: int
    length: int
    name: str
    kind: int
    status: int
    order: int
    body: bytes
    randomness: int
    threshold: int | None

    @property
    def is_local_root(self) -> bool:
        return not self.parent_span_id or bool(self.flags & IS_REMOTE)

    @property
    def trace_state(self) -> dict[str, str]:
        return {"ot": format_ot(self.threshold, (f"rv:{self.randomness:014x}",))}


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
) -> MadeRecord:
    """A span without parent is a local root, and so is one whose parent ``is_remote``; duration in seconds."""
    return MadeRecord(
        trace_id,
        span_id,
        parent_span_id,
        1 | (IS_REMOTE if is_remote else 0),
        priority,
        failed,
        int(duration * 1e9),
        length,
        "work",
        0,
        2 if failed else 0,
        0,
        b"",
        trace_id % NEVER if randomness is None else randomness,
        threshold,
    )
