"""The seam between the traces that are held and whoever decides on them: what is asked, and what is answered.

Values only. The rules for a policy: it is asked once for each local trace, in the ledger, so it must not wait; and
where it decides by a threshold, the threshold may depend on anything but the randomness of the trace at hand, or what
is counted from the traces kept is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from enum import Enum
from typing import Any, Protocol

from otel_shed.control.threshold import NEVER
from otel_shed.environment import shown
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.record import Priority


@dataclass(frozen=True, slots=True)
class TraceView:
    """A local trace at the moment of its decision.

    randomness: 0 to 2**56-1. threshold: the highest that one of its spans came with; None if none has any. priority:
    the highest of its spans. failed: one of them has the status ERROR or an exception event. duration: seconds, of the
    local root; None where that has not ended. spans, length: number and bytes, as far as they have ended. now: seconds
    of the shedder's clock. ready: spans that wait for the worker. kept: those of traces that were kept so far, with
    what came late of them.
    """

    trace_id: int
    randomness: int
    threshold: int | None
    priority: Priority
    failed: bool
    duration: float | None
    spans: int
    length: int
    now: float
    ready: int
    kept: int


_Draft: Any = make_dataclass("_Draft", [field.name for field in fields(TraceView)], slots=True)


def view_of(*values: object) -> TraceView:
    """A TraceView of these values, in its order.

    A frozen dataclass takes 2 us to fill itself in, a quarter of what a decision takes; the same fields of one that is
    not take 0.4 us, and then it is frozen.
    """
    view = _Draft(*values)
    view.__class__ = TraceView
    return view  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a local trace.

    reason: why it is shed; None keeps it. threshold: the one that decided, to which the ``th`` of its spans is raised;
    None: none did, it is kept for what it is, with the ``th`` that it came with. min_priority: spans of a lower one are
    left out of a trace that is kept, unless they failed or are its local root. rank: when room is needed, a trace that
    is kept counts for at least this. ValueError for what is out of range.
    """

    reason: DropReason | Fate | None = None
    threshold: int | None = None
    min_priority: Priority = Priority.LOW
    rank: Priority = Priority.LOW

    def __post_init__(self) -> None:
        if self.reason is not None and self.reason is not Fate.SUMMARIZED:
            _check("reason", self.reason, DropReason)
        if self.threshold is not None and not (
            isinstance(self.threshold, int) and 0 <= self.threshold < NEVER + (self.reason is not None)
        ):
            raise ValueError(f"a threshold must be from 0 to 2**56-1, not {shown(self.threshold)}")
        _check("min_priority", self.min_priority, Priority)
        _check("rank", self.rank, Priority)


def _check(name: str, value: Any, kind: type[Enum]) -> None:
    try:
        kind(value)
    except ValueError:
        raise ValueError(f"{name} must be a {kind.__name__}, not {shown(value)}") from None


class Policy(Protocol):
    """Decides on local traces."""

    def __call__(self, trace: TraceView, /) -> Verdict:
        """Keep it, or shed it."""


_KEPT = Verdict()


def keep_all(trace: TraceView) -> Verdict:
    """A policy that sheds nothing."""
    return _KEPT
