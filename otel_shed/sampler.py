"""AdaptiveSampler: decides at the start of a local root whether its trace is recorded at all.

Called by application threads, in start_span(). The rule: it takes no lock, and within one process it never tears a
trace apart: a span with a parent here follows that parent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from itertools import repeat
from operator import length_hint

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

_UNCOUNTED = 2**62


class _Tally:
    """A count that threads raise without a lock: taking one from ``repeat`` is a single step of the interpreter."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = repeat(None, _UNCOUNTED)

    def add_one(self) -> None:
        next(self._left)

    def read(self) -> int:
        return _UNCOUNTED - length_hint(self._left)


class AdaptiveSampler(Sampler):
    """Records and samples local roots as ``root`` says, all of them if None, and lets local children follow.

    The tracestate is the parent's. ``ParentBased(AdaptiveSampler())`` follows parents in other processes too.
    """

    def __init__(self, root: Sampler | None = None) -> None:
        self._root = root or ALWAYS_ON
        self._restart()
        _samplers.add(self)

    def _restart(self) -> None:
        self._started = _Tally()
        self._sampled_out = _Tally()

    @property
    def started(self) -> int:
        """Local roots that were decided on, in this process."""
        return self._started.read()

    @property
    def sampled_out(self) -> int:
        """Those among them that are not recorded."""
        return self._sampled_out.read()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on a span that starts."""
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid and not parent.is_remote:
            followed = ALWAYS_ON if parent.trace_flags.sampled else ALWAYS_OFF
            return followed.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        result = self._root.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        self._started.add_one()
        if result.decision is Decision.DROP:
            self._sampled_out.add_one()
        return result

    def get_description(self) -> str:
        """``AdaptiveSampler{root:...}``."""
        return f"AdaptiveSampler{{root:{self._root.get_description()}}}"


_samplers: weakref.WeakSet[AdaptiveSampler] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The counts are one process's own, as the ledger's are.
    for sampler in list(_samplers):
        sampler._restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
