"""RatioSampler: the traces that the SDK's TraceIdRatioBased keeps, with the threshold that they were held against."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from otel_shed.control.threshold import probability_of, randomness_of, read_ot, threshold_of
from otel_shed.ratio import RatioSampler, named_ratio_sampler

KEPT = Decision.RECORD_AND_SAMPLE


def remote(trace_id: int, state: str) -> Context:
    """The context of a span whose parent came with this tracestate."""
    parsed = TraceState.from_header([state])
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 1, True, TraceFlags(1), parsed)), Context())


@given(trace_id=st.integers(1, 2**128 - 1), rate=st.sampled_from([0.0, 2**-20, 0.1, 0.25, 1 / 3, 0.5, 0.999, 1.0]))
def test_it_keeps_what_the_sdks_keeps(trace_id: int, rate: float) -> None:
    """Root by root the decision is that of the stock sampler, and what is kept says the rate, and reaches it."""
    result = RatioSampler(rate).should_sample(None, trace_id, "root")
    assert result.decision is TraceIdRatioBased(rate).should_sample(None, trace_id, "root").decision
    if result.decision is KEPT:
        entry = read_ot(result.trace_state)
        assert entry.threshold is not None
        assert probability_of(entry.threshold) == pytest.approx(rate)
        assert randomness_of(trace_id, entry) >= entry.threshold
        assert (entry.randomness is None) is (rate == 1.0)


def test_at_the_bound_to_the_last_id() -> None:
    """The last id that the stock sampler keeps is kept, the first that it drops is not."""
    bound = TraceIdRatioBased.get_bound_for_rate(0.25)
    sampler = RatioSampler(0.25)
    assert sampler.should_sample(None, bound - 1, "root").decision is KEPT
    assert sampler.should_sample(None, bound, "root").decision is Decision.DROP


def test_of_a_trace_all_spans_fare_alike() -> None:
    """A child finds the randomness of its root in the tracestate, or none, and is decided on as the root was."""
    provider = TracerProvider(sampler=RatioSampler(0.5), shutdown_on_exit=False)
    tracer = provider.get_tracer("program")
    fates = Counter()
    for _ in range(200):
        with tracer.start_as_current_span("root") as root, tracer.start_as_current_span("child") as child:
            assert child.is_recording() is root.is_recording()
            assert child.get_span_context().trace_state == root.get_span_context().trace_state
            fates[root.is_recording()] += 1
    assert min(fates[True], fates[False]) > 50


@pytest.mark.parametrize(
    ("state", "decided_by"),
    [
        ("ot=rv:ffffffffffffff", 2**56 - 1),
        ("ot=rv:00000000000000;x:y", 0),
        ("ot=th:4", 0x80000000000000),
        ("ot=th:4;rv:90000000000000", 0x90000000000000),
    ],
)
def test_what_a_parent_was_decided_by_decides(state: str, decided_by: int) -> None:
    """Where the trace has a randomness already, in whatever form, it is not given another one."""
    trace_id = (7 << 64) | (0xAA << 56) | 0x80000000000000
    result = RatioSampler(0.5).should_sample(remote(trace_id, state), trace_id, "span")
    assert (result.decision is KEPT) is (decided_by >= 2**55)
    entry, before = read_ot(result.trace_state), read_ot(TraceState.from_header([state]))
    assert entry.others == before.others
    assert entry.threshold == (2**55 if result.decision is KEPT else before.threshold)


def test_what_others_say_stays() -> None:
    """Other vendors' entries go on, and one of ours that cannot be read gives way."""
    result = RatioSampler(0.5).should_sample(remote(1, "ot=rv:zz;x:y,vendor=v"), 1, "span")
    assert result.decision is KEPT
    assert result.trace_state is not None
    assert result.trace_state.to_header() == "ot=th:8;rv:ffffffffffffff;x:y,vendor=v"


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_none(rate: float) -> None:
    """It is refused, by name."""
    with pytest.raises(ValueError, match="rate must be from 0 to 1"):
        RatioSampler(rate)


def test_by_its_name() -> None:
    """The two standard names make it, at a rate of 1 where none is given; no other name does."""
    environ = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    sampler = named_ratio_sampler(environ)
    assert sampler is not None
    assert sampler.get_description() == "RatioSampler{0.25}"
    assert isinstance(named_ratio_sampler({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}), ParentBased)
    assert named_ratio_sampler({"OTEL_TRACES_SAMPLER": "always_on"}) is None


def test_what_it_keeps_is_shed_by_its_share() -> None:
    """Of what a rate of 1/4 keeps, a threshold of 1/8 lets half through: those that the rate of 1/8 keeps."""
    quarter, eighth = RatioSampler(0.25), RatioSampler(0.125)
    chance, left = random.Random(5), 0
    for _ in range(2000):
        trace_id = chance.getrandbits(128)
        result = quarter.should_sample(None, trace_id, "root")
        holds = result.decision is KEPT and randomness_of(trace_id, read_ot(result.trace_state)) >= threshold_of(1 / 8)
        assert holds is (eighth.should_sample(None, trace_id, "root").decision is KEPT)
        left += holds
    assert 200 < left < 300
