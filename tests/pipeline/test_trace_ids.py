"""A set of trace ids: the compiled class and the plain one say the same of every id."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_shed.pipeline.trace_ids import PlainTraceIds, TraceIds
from otel_shed.record import PlainSpanRecord, SpanRecord
from tests.pipeline.made_records import made_record

CLASSES = {"plain": PlainTraceIds, "in use": TraceIds}
every_class = pytest.mark.parametrize("made", CLASSES.values(), ids=CLASSES)
only_compiled = pytest.mark.skipif(TraceIds is PlainTraceIds, reason="the compiled parts are not built, or not wanted")
# Few of them, so that they come again, and such as differ in one half, or in all but the bits that a table looks at.
IDS = st.one_of(
    st.integers(0, 4),
    st.integers(0, 4).map(lambda high: high << 64),
    st.integers(0, 4).map(lambda top: top << 125 | 7),
    st.integers(0, (1 << 128) - 1),
)


@every_class
@given(st.lists(st.one_of(st.lists(IDS, max_size=40), IDS, st.none()), max_size=8), st.lists(IDS))
def test_has_what_was_added_and_nothing_else(
    made: type[TraceIds], steps: list[list[int] | int | None], others: list[int]
) -> None:
    """One by one or by the batch, once or many times; after it was cleared, none of what came before."""
    ids, expected = made(), set[int]()
    for step in steps:
        if step is None:
            ids.clear()
            expected.clear()
        elif isinstance(step, int):
            ids.add(step)
            expected.add(step)
        else:
            ids.add_of([made_record(trace_id) for trace_id in step])
            expected.update(step)
        assert len(ids) == len(expected)
    assert all(trace_id in ids for trace_id in expected)
    assert {trace_id for trace_id in others if trace_id in ids} == expected.intersection(others)


@every_class
@pytest.mark.parametrize("count", [200, 5_000])
def test_is_used_again_at_any_size(made: type[TraceIds], count: int) -> None:
    """What is added after it was cleared is in it, whether more or less than before."""
    randoms, ids = random.Random(count), made()
    for size in (count, 10, count // 2, 2 * count, 0, count):
        batch = [randoms.getrandbits(128) for _ in range(size)]
        ids.add_of([made_record(trace_id) for trace_id in batch])
        assert len(ids) == size
        assert all(trace_id in ids for trace_id in batch)
        assert not any(randoms.getrandbits(128) in ids for _ in range(100))
        ids.clear()
        assert len(ids) == 0
        assert not any(trace_id in ids for trace_id in batch)


@only_compiled
def test_ids_that_differ_in_few_bits_are_told_apart_as_fast() -> None:
    """Counted up, at whichever of their bits, they have places of their own: nothing is searched through for them."""
    # As many steps as there are ids for each of them would be 10^9 at each place: it would be seen.
    for shift in range(0, 113, 4):
        ids = TraceIds()
        for number in range(1, 30_001):
            ids.add(number << shift)
        assert len(ids) == 30_000
        assert 30_000 << shift in ids
        assert 30_001 << shift not in ids


@only_compiled
def test_what_is_no_trace_id_is_refused() -> None:
    """Before anything of the batch is added."""
    ids: Any = TraceIds()
    for bad in (-1, 1 << 128, "1", None, 1.0):
        with pytest.raises(ValueError, match="128 bits"):
            ids.add(bad)
        assert bad not in ids
    plain = PlainSpanRecord(1, 1, 0, 1, "work", 0, 0, 1, 0, None, b"", None)  # type: ignore[arg-type]
    for batch in ((made_record(1),), [made_record(1), plain], [made_record(1), None], None):
        with pytest.raises(TypeError):
            ids.add_of(batch)
    assert len(ids) == 0
    with pytest.raises(TypeError):
        type(ids)(1)


@only_compiled
def test_is_small_and_gives_back_what_it_does_not_need() -> None:
    """16 bytes an id and no more than four times that; what had many and then has few keeps room for few."""
    program = """
import resource, sys
from otel_shed.pipeline.trace_ids import TraceIds
held = []
for _ in range(40):
    ids = TraceIds()
    for number in range(1, 30_001):
        ids.add(number)
    for last in range(100):
        ids.clear()
        ids.add(last)
    held.append(ids)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    nothing = subprocess.run(
        [sys.executable, "-c", program.replace("range(40)", "range(1)")], capture_output=True, text=True, check=True
    )
    assert int(told.stdout) - int(nothing.stdout) < 40 * 200  # KiB; a table of 30,000 has 1024


def test_which_class_is_in_use() -> None:
    """The compiled one goes with the compiled record, of which it reads the ids."""
    assert (TraceIds is PlainTraceIds) == (SpanRecord is PlainSpanRecord)
