"""Spans that go one by one: in the order in which they came, and the least worth first where there are too many."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from otel_shed.pipeline.stream import Stream
from otel_shed.record import Priority, SpanRecord

PRIORITIES = st.lists(st.sampled_from(Priority), max_size=40)


def streamed(priorities: Iterable[Priority]) -> tuple[Stream, list[SpanRecord]]:
    """Spans of these priorities, of 10 bytes each, in a stream."""
    records = [
        SpanRecord(1, number + 1, 0, 1, str(number), 0, 0, priority, 10, None, b"", None)
        for number, priority in enumerate(priorities)
    ]
    stream = Stream()
    for record in records:
        stream.add(record)
    return stream, records


@given(PRIORITIES, st.integers(0, 50), st.integers(0, 500))
def test_takes_the_oldest_whatever_their_priority(priorities: list[Priority], most: int, most_bytes: int) -> None:
    """No more than asked for, and no more once they are of so many bytes."""
    stream, records = streamed(priorities)
    taken = stream.take(most, most_bytes)
    assert taken == records[: min(most, -(-most_bytes // 10))]
    left = records[len(taken) :]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert stream.oldest == (left[0].order if left else stream.admitted)
    assert stream.take(100, 10_000) == left


@given(PRIORITIES)
def test_drops_the_oldest_of_the_lowest_priority(priorities: list[Priority]) -> None:
    """Until none is left."""
    stream, records = streamed(priorities)
    dropped = [stream.drop() for _ in records]
    assert dropped == sorted(records, key=lambda record: (record.priority, record.order))
    assert (stream.spans, stream.length) == (0, 0)


@given(PRIORITIES, st.integers(0, 45))
def test_takes_back_what_came_since(priorities: list[Priority], since: int) -> None:
    """In its order; what came before stays."""
    stream, records = streamed(priorities)
    assert stream.take_back(since) == records[since:]
    assert (stream.spans, stream.length) == (len(records[:since]), 10 * len(records[:since]))
    assert stream.take(100, 10_000) == records[:since]


@given(PRIORITIES, st.sets(st.integers(0, 40)))
def test_parts_with_those_that_go(priorities: list[Priority], numbers: set[int]) -> None:
    """The others stay, in their order."""
    stream, records = streamed(priorities)
    gone = stream.part(lambda record: record.order in numbers)
    assert set(gone) == {record for record in records if record.order in numbers}
    left = [record for record in records if record.order not in numbers]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert set(stream) == set(left)
    assert stream.take(100, 10_000) == left


def test_orders_go_on() -> None:
    """What a flush waits for is told by them, so none is given twice, whatever is forgotten."""
    stream, records = streamed([Priority.NORMAL] * 3)
    stream.clear()
    assert (stream.spans, stream.length, stream.oldest) == (0, 0, 3)
    stream.add(records[0])
    assert (records[0].order, stream.oldest, stream.admitted) == (3, 3, 4)
