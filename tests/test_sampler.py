"""AdaptiveSampler: local roots are decided here, local children follow, the tracestate is the parent's."""

from __future__ import annotations

import os
import threading

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

from otel_shed.sampler import AdaptiveSampler


def parent(*, sampled: bool, remote: bool) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    state = TraceState([("ot", "th:8"), ("vendor", "v1")])
    return set_span_in_context(NonRecordingSpan(SpanContext(1, 2, remote, flags, state)), Context())


def test_a_root_is_recorded() -> None:
    """A span without a parent is recorded, sampled, and counted."""
    sampler = AdaptiveSampler()
    result = sampler.should_sample(None, 1, "root", attributes={"a": 1})
    assert result.decision is Decision.RECORD_AND_SAMPLE
    assert dict(result.attributes) == {"a": 1}
    assert result.trace_state is None
    assert (sampler.started, sampler.sampled_out) == (1, 0)


def test_a_local_root_is_decided_whatever_the_remote_parent_says() -> None:
    """With a parent in another process it decides anew and keeps the tracestate, foreign entries too."""
    sampler = AdaptiveSampler()
    for sampled in (True, False):
        result = sampler.should_sample(parent(sampled=sampled, remote=True), 1, "local root")
        assert result.decision is Decision.RECORD_AND_SAMPLE
        assert result.trace_state == TraceState([("ot", "th:8"), ("vendor", "v1")])
    assert sampler.started == 2


@pytest.mark.parametrize(("sampled", "decision"), [(True, Decision.RECORD_AND_SAMPLE), (False, Decision.DROP)])
def test_a_local_child_follows(sampled: bool, decision: Decision) -> None:
    """With a parent in this process it follows, asks nobody, counts nothing, and keeps the tracestate."""
    sampler = AdaptiveSampler(ALWAYS_OFF)
    result = sampler.should_sample(parent(sampled=sampled, remote=False), 1, "child")
    assert result.decision is decision
    assert result.trace_state == TraceState([("ot", "th:8"), ("vendor", "v1")])
    assert sampler.started == 0


def test_the_root_sampler_decides_first() -> None:
    """What the given sampler drops is dropped, and counted as sampled out."""
    sampler = AdaptiveSampler(TraceIdRatioBased(0.5))
    decisions = [sampler.should_sample(None, trace_id, "root").decision for trace_id in (1, 2**64 - 1)]
    assert decisions == [Decision.RECORD_AND_SAMPLE, Decision.DROP]
    assert (sampler.started, sampler.sampled_out) == (2, 1)


def test_under_parent_based_remote_parents_are_followed() -> None:
    """ParentBased(AdaptiveSampler()) does not record what another process decided against."""
    sampler = ParentBased(AdaptiveSampler())
    assert sampler.should_sample(parent(sampled=False, remote=True), 1, "x").decision is Decision.DROP


def test_the_description() -> None:
    """It says what it is and what it asks."""
    assert AdaptiveSampler().get_description() == "AdaptiveSampler{root:AlwaysOnSampler}"
    assert AdaptiveSampler(ALWAYS_OFF).get_description() == "AdaptiveSampler{root:AlwaysOffSampler}"


def test_no_decision_is_miscounted() -> None:
    """Eight threads at once are counted to the last decision."""
    sampler = AdaptiveSampler(ALWAYS_OFF)
    start = threading.Barrier(8)

    def decide() -> None:
        start.wait()
        for _ in range(500):
            sampler.should_sample(None, 1, "root")

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sampler.started, sampler.sampled_out) == (4000, 4000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_counts_its_own() -> None:
    """After a fork the child's counts begin at nothing."""
    sampler = AdaptiveSampler()
    sampler.should_sample(None, 1, "root")
    child = os.fork()
    if not child:
        os._exit(sampler.started)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sampler.started == 1
