"""Spans that go one by one: in the order in which they were added, each with a number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_shed.pipeline.ready import Stream
from otel_shed.record import SpanRecord
from tests.pipeline.made_records import made_record

COUNTS = st.integers(0, 40)


def streamed(count: int) -> tuple[Stream, list[SpanRecord]]:
    """So many spans, of 10 bytes each, in a stream."""
    records = [made_record(1, number + 1, length=10) for number in range(count)]
    stream = Stream()
    for each in records:
        stream.add(each)
    return stream, records


@given(COUNTS, st.integers(0, 50), st.integers(0, 500))
def test_takes_the_oldest(count: int, most: int, most_bytes: int) -> None:
    """No more than asked for, and no more once they are of so many bytes."""
    stream, records = streamed(count)
    taken = stream.take(most, most_bytes)
    assert taken == records[: min(most, most_bytes // 10)]
    left = records[len(taken) :]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert stream.oldest == len(taken)
    assert stream.take(100, 10_000) == left


@given(COUNTS, COUNTS, st.integers(0, 45))
def test_takes_back_what_came_since(count: int, taken: int, since: int) -> None:
    """In its order; what came before stays."""
    stream, records = streamed(count)
    waits = records[len(stream.take(taken, 10_000)) :]
    back = stream.take_back(since)
    assert back == [record for record in waits if record in records[since:]]
    assert (stream.spans, stream.length) == (len(waits) - len(back), 10 * (len(waits) - len(back)))
    assert stream.take(100, 10_000) == waits[: len(waits) - len(back)]


@given(COUNTS, st.sets(COUNTS))
def test_parts_with_those_that_go(count: int, numbers: set[int]) -> None:
    """The others stay, in their order and with their numbers."""
    stream, records = streamed(count)
    gone = stream.part(lambda record: records.index(record) in numbers)
    assert gone == [record for number, record in enumerate(records) if number in numbers]
    left = [record for number, record in enumerate(records) if number not in numbers]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert list(stream) == left
    assert stream.oldest == (records.index(left[0]) if left else count)
    assert stream.take(100, 10_000) == left


def test_numbers_go_on() -> None:
    """What a flush waits for is told by them, so none is given twice; the queue's number of a span stays its own."""
    stream, records = streamed(3)
    records[0].order = 77
    stream.take_back(0)
    assert (stream.spans, stream.length, stream.oldest) == (0, 0, 3)
    stream.add(records[0])
    assert (records[0].order, stream.oldest, stream.admitted) == (77, 3, 4)
