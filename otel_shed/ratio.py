"""RatioSampler: what OTEL_TRACES_SAMPLER=traceidratio names here. It keeps what the SDK's keeps, and tells how much.

Called by application threads, in start_span(); it has no state. The rule: what a kept span carries as ``th`` is exactly
the threshold that its trace's randomness was held against. "The specification" is
https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/ and OTEP 235.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from otel_shed.control.threshold import NEVER, RANDOMNESS_BITS, OtEntry, randomness_of, read_ot, with_threshold
from otel_shed.environment import Environment
from otel_shed.sdk_environment import RATIO_SAMPLERS, TRACES_SAMPLER, TRACES_SAMPLER_ARG

_64_BITS = (1 << 64) - 1


class RatioSampler(Sampler):
    """Keeps this share of the traces, by their ids: those that the SDK's TraceIdRatioBased keeps, here and elsewhere.

    That one keeps ids whose last 8 bytes are low, and a threshold keeps those whose last 7 are high, so of the id alone
    no ``th`` would be true. A trace that comes without randomness of its own therefore gets one with its first span
    (``rv``, which the specification leaves to root samplers): the 8 bytes, turned upside down. Where a parent's
    tracestate has an ``rv`` or a ``th`` already, it is decided by what that ``th`` was held against.
    """

    def __init__(self, rate: float) -> None:
        """``rate``: 0 to 1; ValueError otherwise."""
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"a sampler's rate must be from 0 to 1, not {rate!r}")
        self._rate = rate
        self._threshold = NEVER - round(rate * NEVER)

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
        parent = get_current_span(parent_context).get_span_context()
        inherited = parent.trace_state if parent is not None and parent.is_valid else None
        entry = read_ot(inherited)
        if entry.randomness is None and entry.threshold is None and self._threshold:
            entry = _with_randomness(trace_id, entry)
        if randomness_of(trace_id, entry) < self._threshold:
            return SamplingResult(Decision.DROP, None, inherited)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, with_threshold(inherited, entry, self._threshold))

    def get_description(self) -> str:
        """``RatioSampler{0.25}``."""
        return f"RatioSampler{{{self._rate:g}}}"


def _with_randomness(trace_id: int, entry: OtEntry) -> OtEntry:
    randomness = (_64_BITS - (trace_id & _64_BITS)) >> (64 - RANDOMNESS_BITS)
    others = (member for member in entry.others if not member.startswith("rv:"))  # one that cannot be read
    return OtEntry(None, randomness, (f"rv:{randomness:014x}", *others))


def named_ratio_sampler(environ: Mapping[str, str]) -> Sampler | None:
    """What stands for the SDK's ``traceidratio`` or ``parentbased_traceidratio``; None if neither is named."""
    environment = Environment(environ)
    named = environment.text(TRACES_SAMPLER)
    if named not in RATIO_SAMPLERS:
        return None
    sampler = RatioSampler(environment.number(TRACES_SAMPLER_ARG, 1.0, low=0, high=1))
    return sampler if named == "traceidratio" else ParentBased(sampler)
