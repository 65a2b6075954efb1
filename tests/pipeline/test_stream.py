"""Spans that go one by one: in the order in which they came, and the least worth first where there are too many."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_shed.pipeline.stream import PlainStream, Stream
from otel_shed.record import PlainSpanRecord, Priority, SpanRecord

CLASSES = {"plain": PlainStream, "in use": Stream}
every_class = pytest.mark.parametrize("made", CLASSES.values(), ids=CLASSES)
only_compiled = pytest.mark.skipif(Stream is PlainStream, reason="the compiled parts are not built, or not wanted")
PRIORITIES = st.lists(st.sampled_from(Priority), max_size=40)


def record(number: int, priority: Priority = Priority.NORMAL, length: int = 10) -> SpanRecord:
    return SpanRecord(1, number + 1, 0, 1, str(number), 0, 0, priority, length, None, b"", None)


def streamed(made: type[Stream], priorities: Iterable[Priority]) -> tuple[Stream, list[SpanRecord]]:
    """Spans of these priorities, of 10 bytes each, in a stream."""
    records = [record(number, priority) for number, priority in enumerate(priorities)]
    stream = made()
    for each in records:
        stream.add(each)
    return stream, records


@every_class
@given(PRIORITIES, st.integers(0, 50), st.integers(0, 500))
def test_takes_the_oldest_whatever_their_priority(
    made: type[Stream], priorities: list[Priority], most: int, most_bytes: int
) -> None:
    """No more than asked for, and no more once they are of so many bytes."""
    stream, records = streamed(made, priorities)
    taken = stream.take(most, most_bytes)
    assert taken == records[: min(most, most_bytes // 10)]
    left = records[len(taken) :]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert stream.oldest == (left[0].order if left else stream.admitted)
    assert stream.take(100, 10_000) == left


@every_class
@given(PRIORITIES)
def test_drops_the_oldest_of_the_lowest_priority(made: type[Stream], priorities: list[Priority]) -> None:
    """Until none is left."""
    stream, records = streamed(made, priorities)
    dropped = [stream.drop() for _ in records]
    assert dropped == sorted(records, key=lambda record: (record.priority, record.order))
    assert (stream.spans, stream.length) == (0, 0)


@every_class
@given(PRIORITIES, st.integers(-5, 45), st.integers(-50, 450))
def test_drops_what_is_too_many(made: type[Stream], priorities: list[Priority], spans: int, length: int) -> None:
    """As one by one, until no more than so many wait, and of no more bytes; less than none is none."""
    stream, records = streamed(made, priorities)
    stay = max(0, min(spans, length // 10, len(records)))
    dropped = stream.drop_to(spans, length)
    ranked = sorted(records, key=lambda record: (record.priority, record.order))
    assert dropped == ranked[: len(records) - stay]
    assert (stream.spans, stream.length) == (stay, 10 * stay)
    assert stream.take(100, 10_000) == [record for record in records if record not in dropped]


@every_class
@given(PRIORITIES, st.integers(0, 45))
def test_takes_back_what_came_since(made: type[Stream], priorities: list[Priority], since: int) -> None:
    """In its order; what came before stays."""
    stream, records = streamed(made, priorities)
    assert stream.take_back(since) == records[since:]
    assert (stream.spans, stream.length) == (len(records[:since]), 10 * len(records[:since]))
    assert stream.take(100, 10_000) == records[:since]


@every_class
@given(PRIORITIES, st.sets(st.integers(0, 40)))
def test_parts_with_those_that_go(made: type[Stream], priorities: list[Priority], numbers: set[int]) -> None:
    """The others stay, in their order."""
    stream, records = streamed(made, priorities)
    gone = stream.part(lambda record: record.order in numbers)
    assert set(gone) == {record for record in records if record.order in numbers}
    left = [record for record in records if record.order not in numbers]
    assert (stream.spans, stream.length) == (len(left), 10 * len(left))
    assert set(stream) == set(left)
    assert stream.take(100, 10_000) == left


@every_class
def test_orders_go_on(made: type[Stream]) -> None:
    """What a flush waits for is told by them, so none is given twice, whatever is forgotten."""
    stream, records = streamed(made, [Priority.NORMAL] * 3)
    stream.clear()
    assert (stream.spans, stream.length, stream.oldest) == (0, 0, 3)
    stream.add(records[0])
    assert (records[0].order, stream.oldest, stream.admitted) == (3, 3, 4)


class TwoStreams(RuleBasedStateMachine):
    """Whatever is done with them, the stream in use does as the plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = (PlainStream(), Stream())
        self.number = 0

    def told(self, *told: Iterable[SpanRecord]) -> None:
        plain, in_use = [[each.span_id for each in records] for records in told]
        assert plain == in_use

    @rule(priorities=PRIORITIES, length=st.integers(0, 30))
    def extend(self, priorities: list[Priority], length: int) -> None:
        # Often more than there are places, so that they go round in the middle and grow.
        new = [(self.number + index, priority, length + index) for index, priority in enumerate(priorities * 3)]
        self.number += len(new)
        plain, in_use = [stream.extend([record(*each) for each in new]) for stream in self.streams]
        assert plain == in_use == sum(each[2] for each in new)

    @rule(priority=st.sampled_from(Priority))
    def add(self, priority: Priority) -> None:
        self.number += 1
        for stream in self.streams:
            stream.add(record(self.number, priority))

    @rule()
    def drop(self) -> None:
        if self.streams[0].spans:
            self.told(*[[stream.drop()] for stream in self.streams])

    @rule(more=st.integers(-3, 60), bytes_more=st.integers(-50, 1_000))
    def drop_some(self, more: int, bytes_more: int) -> None:
        spans, length = self.streams[0].spans - more, self.streams[0].length - bytes_more
        self.told(*[stream.drop_to(spans, length) for stream in self.streams])

    @rule(most=st.integers(0, 70), most_bytes=st.integers(0, 2_000))
    def take(self, most: int, most_bytes: int) -> None:
        self.told(*[stream.take(most, most_bytes) for stream in self.streams])

    @rule(back=st.integers(0, 50))
    def take_back(self, back: int) -> None:
        self.told(*[stream.take_back(stream.admitted - back) for stream in self.streams])

    @rule(divisor=st.integers(1, 5))
    def part(self, divisor: int) -> None:
        self.told(*[stream.part(lambda record: record.span_id % divisor == 0) for stream in self.streams])

    @rule()
    def clear(self) -> None:
        for stream in self.streams:
            stream.clear()

    @invariant()
    def are_alike(self) -> None:
        self.told(*self.streams)
        plain, in_use = [(each.spans, each.length, each.admitted, each.oldest) for each in self.streams]
        assert plain == in_use


TestTwoStreams = TwoStreams.TestCase
TestTwoStreams.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def used(stream: Stream, records: list[SpanRecord]) -> None:
    """All that can be done with them, four times 500: more places are made, and given back."""
    stream.extend(records[:1_500])
    stream.take(500, 1 << 40)
    for each in records[1_500:]:
        stream.add(each)
    stream.drop_to(1_000, 1 << 40)
    stream.drop()
    list(stream)
    stream.part(lambda each: each.span_id % 2 == 0)
    stream.take_back(1_800)
    stream.extend(records)
    stream.drop_to(0, 0)


@every_class
def test_a_stream_lets_go_what_it_held(made: type[Stream]) -> None:
    """What has gone, is forgotten, or was there when the stream ended leaves no reference behind."""
    records = [record(number, Priority(number % 4)) for number in range(2_000)]
    before = [sys.getrefcount(each) for each in records]
    stream = made()
    used(stream, records)
    assert [sys.getrefcount(each) for each in records] == before
    stream.extend(records)
    stream.clear()
    assert [sys.getrefcount(each) for each in records] == before
    stream.extend(records)
    del stream
    assert [sys.getrefcount(each) for each in records] == before


@only_compiled
def test_the_compiled_stream_is_not_walked_over() -> None:
    """By the collector of garbage: what waits would cost it time, and has no part in cycles."""
    assert not gc.is_tracked(Stream())


@only_compiled
def test_what_is_no_record_is_refused() -> None:
    """And nothing of what came with it is in the stream."""
    stream = Stream()
    odd, plain = record(1), PlainSpanRecord(1, 1, 0, 1, "", 0, 0, Priority.LOW, 1, None, b"", None)
    odd.priority = 4  # type: ignore[assignment]
    with pytest.raises(ValueError, match="priority"):
        stream.extend([record(0), odd])
    for other in (plain, None):
        with pytest.raises(TypeError, match="SpanRecord"):
            stream.extend([record(0), other])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        stream.extend(7)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        stream.drop()
    assert (stream.spans, stream.length, stream.admitted, list(stream)) == (0, 0, 0, [])


@only_compiled
def test_parting_is_all_or_nothing() -> None:
    """Where the question fails, or changes the stream, all that is there stays."""
    stream, records = streamed(Stream, [Priority.NORMAL] * 3)

    def fails(each: SpanRecord) -> bool:
        if each is records[2]:
            raise LookupError
        return True

    with pytest.raises(LookupError):
        stream.part(fails)
    with pytest.raises(RuntimeError, match="changed"):
        stream.part(lambda each: stream.add(record(3)) is None)
    assert list(stream)[:3] == records
    assert (stream.spans, stream.length) == (6, 60)
