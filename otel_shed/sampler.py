"""AdaptiveSampler: decides at the start of a local root whether its trace is recorded at all.

Called by application threads, in start_span(). It owns nothing but its counts and two results that many spans share;
the threshold in force is the budget's to set, the ceiling's is the user's. The rules: it takes no lock and does not
raise; within one process it never tears a trace apart, because a span with a parent here follows that parent; and what
a kept root carries as ``th`` in its tracestate is exactly the threshold that it was held against, or nothing.
"The specification" is https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/ and OTEP 235.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from types import MappingProxyType

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN, Link, SpanContext, SpanKind, TraceFlags, TraceState, get_current_span
from opentelemetry.util.types import Attributes, AttributeValue

from otel_shed.arguments import check_callable, check_instance, check_part
from otel_shed.control.ceiling import Ceiling
from otel_shed.control.threshold import (
    KEEP_ALL,
    OT,
    RANDOMNESS_BITS,
    OtEntry,
    ThresholdInForce,
    parse_ot,
    randomness_of,
    with_threshold,
)
from otel_shed.fork import begin_anew_after_fork
from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit

_RANDOMNESS_MASK = (1 << RANDOMNESS_BITS) - 1
# 2**64 divided by the golden ratio: multiples of it spread evenly (Knuth, The Art of Computer Programming, 6.4).
_SPREAD = 0x9E3779B97F4A7C15
_64_BITS = (1 << 64) - 1

_KEEP, _DROP = Decision.RECORD_AND_SAMPLE, Decision.DROP
_NO_ENTRY = OtEntry()
_NO_ATTRIBUTES: MappingProxyType[str, AttributeValue] = MappingProxyType({})
_parsed = lru_cache(maxsize=256)(parse_ot)


def _keep_all() -> ThresholdInForce:
    return KEEP_ALL


def _told(tally: Iterator[int]) -> int:
    # Taking the next of an itertools.count is one step that no thread can get into the middle of, under the interpreter
    # lock and on free-threaded builds (where that of itertools.repeat is not: CPython gh-117657, gh-123471). Its text
    # is the only way left to read it without taking one: copying is gone from 3.14 on.
    return int(repr(tally)[len("count(") : -1])


def _bare(decision: Decision, state: TraceState | None) -> SamplingResult:
    result = SamplingResult(decision, None, state)
    result.attributes = _NO_ATTRIBUTES
    return result


def check_sampler_parts(root: Sampler | None, ceiling: Ceiling | None) -> None:
    """TypeError, with the argument's name, for what is no sampler, or no ceiling."""
    if root is not None:
        check_part("root", root, "None or a Sampler", "should_sample")
    if ceiling is not None:
        check_part("ceiling", ceiling, "None or a Ceiling", "admit")


class AdaptiveSampler(Sampler):
    """Thins out the local roots that ``root`` would sample (all of them if None); local children follow their parent.

    threshold: gives the threshold in force; it must not wait. ceiling: holds whatever the threshold.
    follow_remote_parent: whether a parent in another process is followed too, as by the SDK's ParentBased; otherwise
    such a span is decided on like one without a parent, whatever was decided there.

    A root is kept if the trace's randomness, ``rv`` in the parent's tracestate or else the last 7 bytes of the trace
    id, reaches both thresholds. Its tracestate is the parent's with ``th`` set to the higher one. A ``root`` other than
    None and ALWAYS_ON decides first; ``th`` is then left out, because nobody knows with what probability it kept the
    trace, unless it says so by a ``th`` of its own, which is raised where ours is higher.
    """

    def __init__(
        self,
        root: Sampler | None = None,
        *,
        threshold: Callable[[], ThresholdInForce] = _keep_all,
        ceiling: Ceiling | None = None,
        follow_remote_parent: bool = False,
    ) -> None:
        check_sampler_parts(root, ceiling)
        check_callable("threshold", threshold, "a function that returns the threshold in force")
        check_instance("follow_remote_parent", follow_remote_parent, bool, "True or False")
        self._root = ALWAYS_ON if root is None or (follow_remote_parent and root is DEFAULT_ON) else root
        self._threshold = threshold
        self._ceiling = ceiling
        self._follow_remote_parent = follow_remote_parent
        self._log = LogLimit(logging.getLogger("otel_shed"))
        # What roots and children without attributes get, of which there are the most. A sampler around this one may
        # change its results, so each is looked at before it is given again.
        self._usual = _bare(_KEEP, KEEP_ALL.trace_state)
        self._dropped = _bare(_DROP, None)
        self.after_fork_in_child()
        begin_anew_after_fork(self)

    def after_fork_in_child(self) -> None:
        """The counts are one process's own, as the ledger's are."""
        self._kept = count()
        self._thinned_out = count()
        self._refused = count()
        self._only_recorded = count()

    @property
    def started(self) -> int:
        """Local roots that were decided on, in this process."""
        return self.kept + self.sampled_out + _told(self._only_recorded)

    @property
    def kept(self) -> int:
        """Those among them that are sampled."""
        return _told(self._kept)

    @property
    def sampled_out(self) -> int:
        """Those among them that are not recorded."""
        return _told(self._thinned_out) + _told(self._refused)

    @property
    def eligible(self) -> int:
        """Those among them that would have been sampled with a threshold of 0 and no ceiling."""
        return self.kept + _told(self._thinned_out)

    @property
    def ceiling_probability(self) -> float:
        """The most that the ceiling lets be recorded now, 0..1."""
        return 1.0 if self._ceiling is None else self._ceiling.probability

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
        """Decide on a span that starts; the tracestate that counts is the one in ``parent_context``."""
        inherited = None
        span = get_current_span(parent_context)
        if span is not INVALID_SPAN:  # most roots have nothing else about them
            parent = span.get_span_context()
            if parent is not None and parent.is_valid:
                if self._follow_remote_parent or not parent.is_remote:
                    return self._follow(parent, trace_id, attributes)
                inherited = parent.trace_state or None
        if self._root is not ALWAYS_ON:
            return self._decide_after_root(inherited, parent_context, trace_id, name, kind, attributes, links)
        if inherited is not None:
            return self._decide(inherited, _read_ot(inherited), self._in_force(), trace_id, attributes)
        in_force = self._in_force()
        if trace_id & _RANDOMNESS_MASK < in_force.threshold:
            next(self._thinned_out)
            return self._drop()
        next(self._kept)
        if attributes:
            return SamplingResult(_KEEP, attributes, in_force.trace_state)
        return self._keep(in_force.trace_state)

    def _keep(self, state: TraceState | None) -> SamplingResult:
        usual = self._usual
        if usual.trace_state is state and usual.decision is _KEEP and usual.attributes is _NO_ATTRIBUTES:
            return usual
        self._usual = usual = _bare(_KEEP, state)
        return usual

    def _drop(self) -> SamplingResult:
        dropped = self._dropped
        if dropped.trace_state is None and dropped.decision is _DROP and dropped.attributes is _NO_ATTRIBUTES:
            return dropped
        self._dropped = dropped = _bare(_DROP, None)
        return dropped

    def _in_force(self) -> ThresholdInForce:
        try:
            in_force = self._threshold()
            threshold = in_force.threshold
        except Exception as error:
            if is_applications(error):
                raise
            self._log.warning("threshold", "the sampler keeps all, its threshold failed: %r", error)
            in_force, threshold = KEEP_ALL, 0
        if self._ceiling is not None and (admitted := self._ceiling.admit()).threshold > threshold:
            return admitted
        return in_force

    def _follow(self, parent: SpanContext, trace_id: int, attributes: Attributes) -> SamplingResult:
        state = parent.trace_state
        if not parent.trace_flags & TraceFlags.SAMPLED:
            return SamplingResult(_DROP, None, state) if state else self._drop()
        if state is self._usual.trace_state and not attributes:
            return self._keep(state)
        if parent.is_remote and OT in state:
            # The specification: a th that the parent cannot have been sampled by is to be erased.
            entry = _parsed(state[OT])
            if entry.threshold and randomness_of(trace_id, entry) < entry.threshold:
                return SamplingResult(_KEEP, attributes, with_threshold(state, entry, None))
        return SamplingResult(_KEEP, attributes, state)

    def _decide_after_root(
        self,
        inherited: TraceState | None,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Attributes,
        links: Sequence[Link] | None,
    ) -> SamplingResult:
        # As the SDK calls it, which leaves the tracestate out; where there is one, samplers of thresholds need it.
        more = () if inherited is None else (inherited,)
        try:
            result = self._root.should_sample(parent_context, trace_id, name, kind, attributes, links, *more)
            decision, state = result.decision, result.trace_state
            entry = _read_ot(state)
        except Exception as error:
            if is_applications(error):
                raise
            self._log.warning("root", "the sampler %s failed and is passed over: %r", type(self._root).__name__, error)
            return self._decide(inherited, _read_ot(inherited), self._in_force(), trace_id, attributes)
        if decision is not _KEEP:
            next(self._refused if decision is _DROP else self._only_recorded)
            without = _without_threshold(state, entry)
            return result if without is state else SamplingResult(decision, result.attributes, without)
        # A th that may only have come with the parent's tracestate tells nothing of this decision.
        own = entry.threshold
        if own is None or own == _read_ot(inherited).threshold or randomness_of(trace_id, entry) < own:
            own = None
        return self._decide(state, entry, self._in_force(), trace_id, result.attributes, own=own)

    def _decide(
        self,
        state: TraceState | None,
        entry: OtEntry,
        in_force: ThresholdInForce,
        trace_id: int,
        attributes: Attributes,
        *,
        own: int | None = 0,
    ) -> SamplingResult:
        """Hold a root against a threshold. own: that of what has been decided before; None if it is not known."""
        threshold = in_force.threshold
        # Whatever decided before may have gone by the same bits (TraceIdRatioBased keeps low ones, so that none of its
        # traces would reach a threshold), so where that is not known, others are made of them.
        randomness = randomness_of(trace_id, entry) if own is not None else _other_randomness(trace_id, entry)
        if randomness < threshold:
            next(self._thinned_out)
            return SamplingResult(_DROP, None, _without_threshold(state, entry))
        next(self._kept)
        if own is None:
            return SamplingResult(_KEEP, attributes, _without_threshold(state, entry))
        written = with_threshold(state, entry, max(threshold, own))
        return SamplingResult(_KEEP, attributes, written)

    def get_description(self) -> str:
        """``AdaptiveSampler{root:...}``, with the ceiling if there is one; in ``ParentBased{}`` where it follows."""
        ceiling = "" if self._ceiling is None else f",ceiling:{self._ceiling!r}"
        description = f"AdaptiveSampler{{root:{self._root.get_description()}{ceiling}}}"
        return f"ParentBased{{root:{description}}}" if self._follow_remote_parent else description


def _read_ot(state: TraceState | None) -> OtEntry:
    return _parsed(state[OT]) if state is not None and OT in state else _NO_ENTRY


def _without_threshold(state: TraceState | None, entry: OtEntry) -> TraceState | None:
    return with_threshold(state, entry, None) if state is not None and OT in state else state


def _other_randomness(trace_id: int, entry: OtEntry) -> int:
    if entry.randomness is not None:
        return entry.randomness
    return ((trace_id & _64_BITS) * _SPREAD & _64_BITS) >> (64 - RANDOMNESS_BITS)
