"""Room is made from below, and what stays owes a threshold that it reaches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_shed.control.threshold import NEVER
from otel_shed.pipeline.bucket import bucket_of, edge_of
from otel_shed.pipeline.held import HeldTrace
from otel_shed.pipeline.ranked import Ranked
from otel_shed.record import Priority
from tests.pipeline.made_records import made_record

# Half of them near to the end, where each bucket is a small part of what is left.
randomnesses = st.integers(0, NEVER - 1) | st.integers(0, 56).map(lambda bits: NEVER - (1 << bits)) | st.just(0)
ranks = st.sampled_from(Priority)


def held(randomness: int, rank: Priority = Priority.NORMAL) -> HeldTrace:
    return HeldTrace(made_record(priority=rank, randomness=randomness), 0.0)


@given(randomnesses, randomnesses)
def test_a_bucket_ends_where_its_edge_says(one: int, other: int) -> None:
    """What is in a higher bucket reaches the edge, and what is in this one or a lower one does not."""
    edge = edge_of(bucket_of(one))
    if bucket_of(other) > bucket_of(one):
        assert other >= edge
    elif bucket_of(one) < bucket_of(NEVER - 1):
        assert other < edge


@given(randomnesses, randomnesses)
def test_the_higher_the_randomness_the_higher_the_bucket(one: int, other: int) -> None:
    """Buckets keep the order."""
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


@given(randomnesses)
def test_a_bucket_is_a_small_part_of_what_is_left(randomness: int) -> None:
    """At most an eighth of it, so that hardly more goes than has to; but for the last few values there are."""
    bucket = bucket_of(randomness)
    if bucket and edge_of(bucket) <= NEVER - 16:
        below = edge_of(bucket - 1)
        assert edge_of(bucket) - below <= (NEVER - below) / 8 + 1


def test_the_lowest_rank_goes_first_and_in_it_the_lowest_randomness() -> None:
    """Priority counts more than randomness; within one bucket the oldest comes first."""
    ranked = Ranked()
    traces = [
        held(NEVER - 1, Priority.HIGH),
        held(0, Priority.HIGH),
        held(NEVER // 2),
        held(1),
        held(0),
        held(NEVER - 1, Priority.LOW),
    ]
    for trace in traces:
        ranked.add(trace)
    swept = []
    while (rank := ranked.lowest) is not None:
        swept.append(ranked.sweep(rank)[0])
    high_last, high, half, one, zero, low = traces
    assert swept == [[low], [one, zero], [half], [high], [high_last]]


@given(
    st.lists(
        st.tuples(st.just("add"), randomnesses, ranks)
        | st.tuples(st.just("remove"), st.integers(0, 100), ranks)
        | st.tuples(st.just("raise"), st.integers(0, 100), ranks)
        | st.tuples(st.just("sweep"), st.integers(0, 0), ranks),
        max_size=60,
    )
)
def test_what_stays_owes_the_edges_of_what_went_before_it(steps: list[tuple[str, int, Priority]]) -> None:
    """Its floor is the highest edge of its rank that went while it was there, and it reaches it."""
    ranked = Ranked()
    owed: dict[HeldTrace, int] = {}
    for step, number, rank in steps:
        trace = list(owed)[number % len(owed)] if owed else None
        if step == "add":
            trace = held(number, rank)
            ranked.add(trace)
            owed[trace] = 0
        elif step == "sweep" and ranked.lowest is not None:
            lowest = ranked.lowest
            gone, edge = ranked.sweep(lowest)
            ranked.owe(lowest, edge)
            for each in gone:
                assert each.floor == owed.pop(each)
            for each, before in owed.items():
                if each.rank is lowest:
                    owed[each] = max(before, edge)
        elif step == "remove" and trace is not None:
            ranked.remove(trace)
            assert trace.floor == owed.pop(trace) <= trace.randomness
        elif step == "raise" and trace is not None and rank > trace.rank:
            ranked.raise_rank(trace, rank)
    for trace, floor in owed.items():
        ranked.remove(trace)
        assert trace.floor == floor <= trace.randomness
    assert ranked.lowest is None


def test_of_several_thresholds_those_count_that_came_since() -> None:
    """The highest of them."""
    ranked = Ranked()
    traces = [held(NEVER - 1) for _ in range(4)]
    for trace, threshold in zip(traces, (5000, 3000, 4000, 2000), strict=True):
        ranked.add(trace)
        ranked.owe(Priority.NORMAL, threshold)
    for trace in traces:
        ranked.remove(trace)
    assert [trace.floor for trace in traces] == [5000, 4000, 4000, 2000]


def test_what_comes_later_owes_nothing_for_what_went_before() -> None:
    """A threshold counts for those that were held against it."""
    ranked = Ranked()
    early, late, lowest = held(NEVER - 1), held(NEVER - 1), held(0)
    ranked.add(early)
    ranked.add(lowest)
    ranked.owe(Priority.NORMAL, ranked.sweep(Priority.NORMAL)[1])
    ranked.add(late)
    for trace in (early, late):
        ranked.remove(trace)
    assert early.floor == edge_of(0)
    assert late.floor == 0
