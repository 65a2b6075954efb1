"""A set of trace ids: the compiled class and the plain one say the same of every id."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
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
def test_zero_is_an_id_as_others_are(made: type[TraceIds]) -> None:
    """It is in it from when it was added until it was cleared, and counts once."""
    ids = made()
    for _ in range(3):
        assert 0 not in ids
        ids.add(0)
        ids.add_of([made_record(0), made_record(5)])
        assert (0 in ids, len(ids)) == (True, 2)
        ids.clear()
        assert (0 in ids, len(ids)) == (False, 0)


@every_class
def test_a_look_for_what_is_not_there_ends_at_any_size(made: type[TraceIds]) -> None:
    """Also where a table is as full as it gets."""
    ids = made()
    for number in range(1, 5_000):
        ids.add(number)
        assert number + 1 not in ids
        assert len(ids) == number


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
    """Counted up, at whichever of their bits: none of them is searched for through all the others."""
    # In one place these would be 4.5 * 10^10 steps for each shift, which is more than a test has time for.
    for shift in range(0, 109, 4):
        ids = TraceIds()
        for number in range(1, 300_001):
            ids.add(number << shift)
        assert len(ids) == 300_000
        assert 300_000 << shift in ids
        assert 300_001 << shift not in ids


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
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the most memory of a process is told there")
def test_is_small_and_gives_back_what_it_does_not_need() -> None:
    """What had 30,000 ids, cleared and then with a few, keeps room for few."""
    program = """
from otel_shed.pipeline.trace_ids import TraceIds
held = []
for _ in range({sets}):
    ids = TraceIds()
    for number in range(1, 30_001):
        ids.add(number)
    for last in range(3):
        ids.clear()
        ids.add(last)
    held.append(ids)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""

    def most_kib(sets: int) -> int:
        command = [sys.executable, "-c", program.format(sets=sets)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # Of 30,000 it is 1024 KiB, and twice as much as it grows.
    assert most_kib(40) - most_kib(1) < 40 * 200


def test_which_class_is_in_use() -> None:
    """The compiled one goes with the compiled record, of which it reads the ids."""
    assert (TraceIds is PlainTraceIds) == (SpanRecord is PlainSpanRecord)
