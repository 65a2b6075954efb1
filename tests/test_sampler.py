"""AdaptiveSampler: local roots are held against a threshold, all else follows; the tracestate says what was done."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from otel_shed.control.ceiling import FixedCeiling
from otel_shed.control.threshold import (
    KEEP_ALL,
    ThresholdInForce,
    adjusted_count,
    in_force,
    randomness_of,
    read_ot,
    threshold_of,
    with_threshold,
)
from otel_shed.log_limit import PREFIX
from otel_shed.sampler import AdaptiveSampler

KEPT, DROPPED = Decision.RECORD_AND_SAMPLE, Decision.DROP
HIGH, LOW = (1 << 128) - 1, 1 << 100  # trace ids: reaches every threshold, reaches none but 0

# From the whole range, where integers() and floats() alone would stay near its ends.
RANDOM = st.integers(0, 255).flatmap(lambda first: st.integers(first << 48, (first << 48) + 2**48 - 1))
TRACE_IDS = RANDOM.map(lambda randomness: 1 << 100 | randomness)
PROBABILITIES = st.one_of(st.floats(0.0, 1.0), st.integers(0, 100).map(lambda percent: percent / 100))
RANDOMNESS = RANDOM.map("{:014x}".format)
THRESHOLDS = st.floats(2.0**-40, 1.0).map(lambda p: with_threshold(None, read_ot(None), threshold_of(p)))


def at(probability: float) -> Callable[[], ThresholdInForce]:
    """A threshold that is always in force."""
    answer = in_force(probability)
    return lambda: answer


def parent(
    *, sampled: bool = True, remote: bool = True, state: Sequence[tuple[str, str]] = (("ot", "th:8"), ("vendor", "v1"))
) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    span = NonRecordingSpan(SpanContext(1, 2, remote, flags, TraceState(list(state))))
    return set_span_in_context(span, Context())


def entries(result: SamplingResult) -> list[tuple[str, str]]:
    return list((result.trace_state or TraceState()).items())


@st.composite
def tracestates(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Entries of vendors in some order, and maybe one of OpenTelemetry's among them."""
    keys = draw(st.lists(st.sampled_from([f"vendor{number}" for number in range(6)]), unique=True))
    found = [(key, f"value-of-{key}") for key in keys]
    members = [
        *draw(st.sampled_from([(), ("th:8",), ("th:0",), ("th:fd70a",), ("th:zz",)])),
        *draw(st.one_of(st.just([]), st.lists(RANDOMNESS.map("rv:{}".format), min_size=1, max_size=1))),
        *draw(st.sampled_from([(), ("x:y",)])),
    ]
    if members:
        found.insert(draw(st.integers(0, len(found))), ("ot", ";".join(members)))
    return found


class Scripted(Sampler):
    """A root sampler that answers as it was told, and remembers what it was asked with."""

    def __init__(self, answer: Callable[[], SamplingResult]) -> None:
        self._answer = answer
        self.asked: list[tuple[object, ...]] = []

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
        self.asked.append((parent_context, trace_id, name, kind, attributes, links, trace_state))
        return self._answer()

    def get_description(self) -> str:
        return "Scripted"


def answers(decision: Decision, state: Sequence[tuple[str, str]] = (), **attributes: str) -> Scripted:
    return Scripted(lambda: SamplingResult(decision, attributes, TraceState(list(state))))


# -- roots -----------------------------------------------------------------------------------------------------------


def test_a_root_is_recorded() -> None:
    """With nothing to say against it, a span without a parent is recorded, for itself alone, and counted."""
    sampler = AdaptiveSampler()
    result = sampler.should_sample(None, LOW, "root", attributes={"a": 1})
    assert result.decision is KEPT
    assert dict(result.attributes) == {"a": 1}
    assert entries(result) == [("ot", "th:0")]
    assert (sampler.started, sampler.kept, sampler.eligible, sampler.sampled_out) == (1, 1, 1, 0)


@given(PROBABILITIES, TRACE_IDS)
def test_what_is_written_is_what_decided(probability: float, trace_id: int) -> None:
    """A root is kept if its trace id reaches the rounded threshold, and carries exactly that one; dropped, none."""
    sampler = AdaptiveSampler(threshold=at(probability))
    result = sampler.should_sample(None, trace_id, "root")
    threshold = threshold_of(probability)
    assert (result.decision is KEPT) == (randomness_of(trace_id) >= threshold)
    assert read_ot(result.trace_state).threshold == (threshold if result.decision is KEPT else None)
    assert (sampler.started, sampler.sampled_out) == (1, result.decision is DROPPED)


@given(PROBABILITIES, PROBABILITIES, TRACE_IDS, tracestates(), st.booleans())
def test_what_the_stricter_keeps_the_other_keeps(
    one: float, other: float, trace_id: int, state: list[tuple[str, str]], is_child: bool
) -> None:
    """Processes with different thresholds keep nested sets of traces, also where an rv decides."""
    context = parent(state=state) if is_child else None
    low, high = sorted((one, other))
    strict = AdaptiveSampler(threshold=at(low)).should_sample(context, trace_id, "x")
    loose = AdaptiveSampler(threshold=at(high)).should_sample(context, trace_id, "x")
    assert strict.decision is DROPPED or loose.decision is KEPT


@pytest.mark.parametrize(("trace_id", "rv", "kept"), [(LOW, "f" * 14, True), (HIGH, "0" * 14, False)])
def test_an_rv_goes_before_the_trace_id(trace_id: int, rv: str, kept: bool) -> None:
    """Where the parent's tracestate has one, it decides, and goes on as it came."""
    sampler = AdaptiveSampler(threshold=at(0.5))
    result = sampler.should_sample(parent(state=[("ot", f"rv:{rv}")]), trace_id, "local root")
    assert result.decision is (KEPT if kept else DROPPED)
    assert entries(result) == [("ot", f"th:8;rv:{rv}" if kept else f"rv:{rv}")]


@pytest.mark.parametrize("probability", [0.75, 0.5, 0.25])
def test_a_hundred_thousand_roots(probability: float) -> None:
    """Of so many, the share that is kept is within 1 % of the probability."""
    rng = random.Random(7)
    sampler = AdaptiveSampler(threshold=at(probability))
    for _ in range(100_000):
        sampler.should_sample(None, rng.getrandbits(128), "root")
    assert sampler.kept == pytest.approx(100_000 * probability, rel=0.01)
    assert sampler.eligible == sampler.started == 100_000


def test_counts_stay_honest_while_the_threshold_moves() -> None:
    """Roots kept, each for as many as its th says, add up to the roots started, within 3 % of 100,000."""
    rng = random.Random(8)
    probabilities = (1.0, 0.5, 0.1, 1 / 3, 0.03)
    now = [KEEP_ALL]
    sampler = AdaptiveSampler(threshold=lambda: now[0], ceiling=FixedCeiling(0.4))
    total = 0.0
    for number in range(100_000):
        now[0] = in_force(probabilities[number // 1000 % 5])
        result = sampler.should_sample(None, rng.getrandbits(128), "root")
        if result.decision is KEPT:
            threshold = read_ot(result.trace_state).threshold
            assert threshold is not None
            total += adjusted_count(threshold)
    assert total == pytest.approx(100_000, rel=0.03)


def test_the_stricter_of_threshold_and_ceiling_holds() -> None:
    """A ceiling holds in calm, the threshold below it; what the ceiling lets through can be read."""
    calm = AdaptiveSampler(ceiling=FixedCeiling(0.5))
    storm = AdaptiveSampler(threshold=at(0.25), ceiling=FixedCeiling(0.5))
    assert entries(calm.should_sample(None, HIGH, "root")) == [("ot", "th:8")]
    assert entries(storm.should_sample(None, HIGH, "root")) == [("ot", "th:c")]
    assert (calm.ceiling_probability, AdaptiveSampler().ceiling_probability) == (0.5, 1.0)


def test_an_invalid_parent_is_none() -> None:
    """A context with a span that has no valid ids starts a root."""
    context = set_span_in_context(NonRecordingSpan(INVALID_SPAN_CONTEXT), Context())
    for follow in (True, False):
        sampler = AdaptiveSampler(threshold=at(0.5), follow_remote_parent=follow)
        assert entries(sampler.should_sample(context, HIGH, "root")) == [("ot", "th:8")]
        assert sampler.started == 1


# -- children --------------------------------------------------------------------------------------------------------


@given(st.booleans(), tracestates(), PROBABILITIES, TRACE_IDS, st.booleans())
def test_a_local_child_follows(
    sampled: bool, state: list[tuple[str, str]], probability: float, trace_id: int, follow: bool
) -> None:
    """With a parent in this process it follows whatever the threshold, asks nobody, and its th stays as it is."""
    root = answers(DROPPED)
    sampler = AdaptiveSampler(root, threshold=at(probability), follow_remote_parent=follow)
    context = parent(sampled=sampled, remote=False, state=state)
    result = sampler.should_sample(context, trace_id, "child", attributes={"a": 1})
    assert result.decision is (KEPT if sampled else DROPPED)
    assert entries(result) == state
    assert dict(result.attributes) == ({"a": 1} if sampled else {})
    assert (sampler.started, root.asked) == (0, [])


@given(st.booleans(), tracestates(), PROBABILITIES, TRACE_IDS)
def test_a_remote_parent_can_be_followed(
    sampled: bool, state: list[tuple[str, str]], probability: float, trace_id: int
) -> None:
    """Then the result is ParentBased's, but that a th that cannot have sampled the parent is erased."""
    context = parent(sampled=sampled, state=state)
    sampler = AdaptiveSampler(threshold=at(probability), follow_remote_parent=True)
    result = sampler.should_sample(context, trace_id, "local root", attributes={"a": 1})
    stock = ParentBased(ALWAYS_ON).should_sample(context, trace_id, "local root", attributes={"a": 1})
    entry = read_ot(stock.trace_state)
    if sampled and entry.threshold is not None and randomness_of(trace_id, entry) < entry.threshold:
        assert result.trace_state == with_threshold(stock.trace_state, entry, None)
    else:
        assert entries(result) == entries(stock)
    assert (result.decision, dict(result.attributes)) == (stock.decision, dict(stock.attributes))
    assert sampler.started == 0


@given(st.booleans(), tracestates(), PROBABILITIES, TRACE_IDS)
def test_a_remote_parent_need_not_be_followed(
    sampled: bool, state: list[tuple[str, str]], probability: float, trace_id: int
) -> None:
    """Then only rv counts of what came: th is the threshold that decided here, rv and others stay, in their order."""
    sampler = AdaptiveSampler(threshold=at(probability))
    result = sampler.should_sample(parent(sampled=sampled, state=state), trace_id, "local root")
    before, after = read_ot(TraceState(state)), read_ot(result.trace_state)
    threshold = threshold_of(probability)
    assert (result.decision is KEPT) == (randomness_of(trace_id, before) >= threshold)
    assert after.threshold == (threshold if result.decision is KEPT else None)
    assert after.others == before.others
    assert [entry for entry in entries(result) if entry[0] != "ot"] == [entry for entry in state if entry[0] != "ot"]
    assert sampler.started == 1


@pytest.mark.parametrize(("above", "here"), [(0.5, 1.0), (0.2, 0.5), (0.5, 0.2)])
def test_counts_are_honest_on_both_sides_of_a_call(above: float, here: float) -> None:
    """Where parents are not followed, either process's own spans add up to all calls, whoever keeps more."""
    rng = random.Random(9)
    caller, callee = AdaptiveSampler(threshold=at(above)), AdaptiveSampler(threshold=at(here))
    totals = {caller: 0.0, callee: 0.0}
    for _ in range(40_000):
        trace_id = rng.getrandbits(128)
        results = {caller: caller.should_sample(None, trace_id, "call")}
        sampled, state = results[caller].decision is KEPT, entries(results[caller])
        results[callee] = callee.should_sample(parent(sampled=sampled, state=state), trace_id, "answer")
        for sampler, result in results.items():
            if result.decision is KEPT:
                threshold = read_ot(result.trace_state).threshold
                assert threshold is not None
                totals[sampler] += adjusted_count(threshold)
    assert list(totals.values()) == [pytest.approx(40_000, rel=0.03)] * 2


def test_a_trace_through_two_processes() -> None:
    """By the SDK and its propagator: th and vendors' entries reach a process that follows, and its children."""
    sampler = AdaptiveSampler(threshold=at(0.5))
    first = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("first")
    spans = [first.start_span("root", Context()) for _ in range(64)]
    kept = [span for span in spans if span.is_recording()]
    assert 0 < len(kept) == sampler.kept < 64
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, set_span_in_context(kept[0], Context()))
    assert headers["tracestate"] == "ot=th:8"
    headers["tracestate"] = "vendor=v1,ot=th:8,other=v2"
    context = TraceContextTextMapPropagator().extract(headers, Context())
    follower = AdaptiveSampler(threshold=at(0.0), follow_remote_parent=True)
    second = TracerProvider(sampler=follower, shutdown_on_exit=False).get_tracer("second")
    server = second.start_span("server", context)
    child = second.start_span("child", set_span_in_context(server, Context()))
    for span in (server, child):
        assert span.is_recording()
        assert span.get_span_context().trace_state.to_header() == headers["tracestate"]


# -- other samplers --------------------------------------------------------------------------------------------------


def test_the_root_sampler_decides_first() -> None:
    """What it drops or only records is no decision of ours: its result stands, without a th, and is counted apart."""
    state = [("vendor", "v"), ("ot", "th:8;x:y")]
    for decision in (DROPPED, Decision.RECORD_ONLY):
        sampler = AdaptiveSampler(answers(decision, state, why="rule"), threshold=at(0.5))
        result = sampler.should_sample(None, HIGH, "root")
        assert (result.decision, dict(result.attributes)) == (decision, {"why": "rule"})
        assert entries(result) == [("ot", "x:y"), ("vendor", "v")]
        assert (sampler.started, sampler.eligible, sampler.kept) == (1, 0, 0)
        assert sampler.sampled_out == (decision is DROPPED)


def test_what_the_root_sampler_keeps_is_thinned_out() -> None:
    """Of what it samples the threshold keeps a part, with its attributes and its tracestate."""
    sampler = AdaptiveSampler(answers(KEPT, [("ot", "th:0"), ("vendor", "v")], why="rule"), threshold=at(0.5))
    kept, dropped = sampler.should_sample(None, HIGH, "root"), sampler.should_sample(None, LOW, "root")
    assert (kept.decision, dict(kept.attributes)) == (KEPT, {"why": "rule"})
    assert entries(kept) == [("ot", "th:8"), ("vendor", "v")]
    assert (dropped.decision, entries(dropped)) == (DROPPED, [("vendor", "v")])
    assert (sampler.eligible, sampler.kept, sampler.sampled_out) == (2, 1, 1)


@given(THRESHOLDS, PROBABILITIES, TRACE_IDS)
def test_a_th_of_the_root_sampler_is_raised_and_never_lowered(
    state: TraceState, probability: float, trace_id: int
) -> None:
    """A root sampler that says its threshold is believed, unless the trace cannot have reached it."""
    own = read_ot(state).threshold
    assert own is not None
    sampler = AdaptiveSampler(answers(KEPT, list(state.items())), threshold=at(probability))
    result = sampler.should_sample(None, trace_id, "root")
    if randomness_of(trace_id) < own:
        assert read_ot(result.trace_state).threshold is None
    else:
        highest = max(own, threshold_of(probability))
        assert (result.decision is KEPT) == (randomness_of(trace_id) >= highest)
        assert read_ot(result.trace_state).threshold == (highest if result.decision is KEPT else None)


@pytest.mark.parametrize("root", [TraceIdRatioBased(1.0), answers(KEPT, [("vendor", "v1"), ("ot", "th:8")])])
def test_of_an_unknown_probability_nothing_is_said(root: Sampler) -> None:
    """Without a th of its own, or with its parent's, nobody knows what the root sampler's choice stands for."""
    result = AdaptiveSampler(root).should_sample(parent(), HIGH, "root")
    assert (result.decision, entries(result)) == (KEPT, [("vendor", "v1")])


@pytest.mark.parametrize("rate", [0.5, 0.01, 0.0005])
def test_the_stock_ratio_is_thinned_out_by_other_bits(rate: float) -> None:
    """TraceIdRatioBased keeps low trace ids, thresholds high ones; of what it keeps half is kept all the same."""
    rng = random.Random(10)
    sampler = AdaptiveSampler(TraceIdRatioBased(rate), threshold=at(0.5))
    bound = TraceIdRatioBased.get_bound_for_rate(rate)
    for _ in range(5000):
        sampler.should_sample(None, rng.getrandbits(64) << 64 | rng.randrange(bound), "root")
    assert sampler.eligible == 5000
    assert sampler.kept == pytest.approx(2500, rel=0.1)


def test_a_root_sampler_is_asked_as_the_sdk_asks() -> None:
    """With what the span starts with; and with the tracestate where a remote parent has one."""
    root = answers(KEPT)
    sampler = AdaptiveSampler(root)
    context = parent(state=[("vendor", "v")])
    sampler.should_sample(None, 5, "x", SpanKind.SERVER, {"a": 1}, ())
    sampler.should_sample(context, 5, "x", SpanKind.SERVER, {"a": 1}, ())
    assert root.asked == [
        (None, 5, "x", SpanKind.SERVER, {"a": 1}, (), None),
        (context, 5, "x", SpanKind.SERVER, {"a": 1}, (), TraceState([("vendor", "v")])),
    ]


@pytest.mark.parametrize("root", [None, ALWAYS_ON, DEFAULT_ON])
def test_samplers_that_keep_all_are_known(root: Sampler | None) -> None:
    """The SDK's default as root is none, where parents are followed anyway."""
    sampler = AdaptiveSampler(root, threshold=at(0.5), follow_remote_parent=True)
    assert entries(sampler.should_sample(None, HIGH, "root")) == [("ot", "th:8")]


def test_around_it_the_sdks_parent_based_works() -> None:
    """ParentBased(AdaptiveSampler()) does not record what another process decided against."""
    sampler = ParentBased(AdaptiveSampler())
    assert sampler.should_sample(parent(sampled=False), 1, "x").decision is DROPPED
    assert entries(sampler.should_sample(None, 1, "x")) == [("ot", "th:0")]


def test_a_sampler_around_it_may_change_its_results() -> None:
    """Results are shared; one that was changed is not given again."""
    for probability, context in ((1.0, None), (0.0, None), (1.0, parent(sampled=False, state=()))):
        sampler = AdaptiveSampler(threshold=at(probability), follow_remote_parent=True)
        fresh = sampler.should_sample(context, LOW, "x")
        before = fresh.decision, entries(fresh)
        for name, value in (
            ("attributes", {"user": "somebody's"}),
            ("trace_state", TraceState([("a", "b")])),
            ("decision", Decision.RECORD_ONLY),
        ):
            setattr(sampler.should_sample(context, LOW, "x"), name, value)
            result = sampler.should_sample(context, LOW, "x")
            assert (result.decision, entries(result), dict(result.attributes)) == (*before, {})


def test_the_description() -> None:
    """It says what it is, what it asks, and what limits it."""
    assert AdaptiveSampler().get_description() == "AdaptiveSampler{root:AlwaysOnSampler}"
    limited = AdaptiveSampler(ALWAYS_OFF, ceiling=FixedCeiling(0.25), follow_remote_parent=True)
    assert limited.get_description() == "ParentBased{root:AdaptiveSampler{root:AlwaysOffSampler,ceiling:0.25}}"


# -- faults ----------------------------------------------------------------------------------------------------------


def fails() -> SamplingResult:
    raise RuntimeError("no decision")


def test_a_root_sampler_that_raises_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """The threshold alone decides then, and one line says so."""
    for root in (Scripted(fails), Scripted(lambda: None)):  # type: ignore[arg-type, return-value]
        caplog.clear()
        sampler = AdaptiveSampler(root, threshold=at(0.5))
        decisions = [sampler.should_sample(None, trace_id, "root").decision for trace_id in (HIGH, LOW)]
        assert decisions == [KEPT, DROPPED]
        (line,) = [record.getMessage().removeprefix(PREFIX) for record in caplog.records]
        assert line.startswith("the sampler Scripted failed and is passed over: ")
        assert (sampler.started, sampler.eligible) == (2, 2)


@pytest.mark.parametrize("threshold", [lambda: 1 / 0, lambda: None])
def test_a_threshold_that_fails_keeps_all(
    threshold: Callable[[], ThresholdInForce], caplog: pytest.LogCaptureFixture
) -> None:
    """All but what the ceiling leaves out, and one line says so."""
    sampler = AdaptiveSampler(threshold=threshold)
    limited = AdaptiveSampler(threshold=threshold, ceiling=FixedCeiling(0.5))
    with caplog.at_level(logging.WARNING):
        results = [sampler.should_sample(None, LOW, "root") for _ in range(3)]
    assert [entries(result) for result in results] == [[("ot", "th:0")]] * 3
    assert len(caplog.records) == 1
    assert limited.should_sample(None, LOW, "root").decision is DROPPED


# -- threads and processes -------------------------------------------------------------------------------------------


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads that take turns every microsecond."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_no_decision_is_miscounted(quick_switches: None) -> None:
    """Eight threads at once, turning over every microsecond, are counted to the last decision."""
    sampler = AdaptiveSampler(threshold=at(0.5))
    start = threading.Barrier(8)

    def decide() -> None:
        start.wait()
        for _ in range(2000):
            sampler.should_sample(None, HIGH, "root")
            sampler.should_sample(None, LOW, "root")

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sampler.started, sampler.kept, sampler.sampled_out) == (32_000, 16_000, 16_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_counts_its_own() -> None:
    """After a fork the child's counts begin at nothing."""
    sampler = AdaptiveSampler()
    sampler.should_sample(None, 1, "root")
    child = os.fork()
    if not child:
        sampler.should_sample(None, 1, "root")
        sampler.should_sample(None, 1, "root")
        os._exit(10 * sampler.started + sampler.sampled_out)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 20
    assert sampler.started == 1
