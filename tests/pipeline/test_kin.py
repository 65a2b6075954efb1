"""What is left out of a trace leaves no orphans."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_shed.pipeline.kin import Kin
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.made_records import made_record

LOW, NORMAL = Priority.LOW, Priority.NORMAL


@st.composite
def trees(draw: st.DrawFn) -> list[SpanRecord]:
    """All spans of a trace, in any order; each but the root has one of a lower number for a parent."""
    size = draw(st.integers(1, 20))
    records = [
        made_record(
            1,
            number,
            number and draw(st.integers(0, number - 1)) + 1000,
            priority=draw(st.sampled_from([LOW, LOW, NORMAL])),
            failed=draw(st.sampled_from([False, False, True])),
        )
        for number in range(size)
    ]
    for record in records:
        record.span_id += 1000
    return draw(st.permutations(records))


@given(trees())
def test_every_kept_span_has_a_kept_parent(records: list[SpanRecord]) -> None:
    """The nearest ancestor that is kept; the root and what failed are."""
    kin = Kin(NORMAL)
    kept, left_out = kin.part(records)
    assert [record for record in records if record in kept] == kept
    assert [record for record in records if record not in kept] == left_out
    assert all(record.priority is LOW and not record.failed and record.parent_span_id for record in left_out)
    parents = {record.span_id: record.parent_span_id for record in records}
    kept_ids = {record.span_id for record in kept}
    for record in kept:
        nearest = record.parent_span_id
        while nearest and nearest not in kept_ids:
            nearest = parents[nearest]
        assert (kin.parent(record) or record.parent_span_id) == nearest


@given(trees(), st.integers(0, 20))
def test_nobody_is_left_out_late_who_is_needed(records: list[SpanRecord], held: int) -> None:
    """Spans that end after the decision are left out as well, but for the parents of those kept."""
    kin = Kin(NORMAL)
    kept, _ = kin.part(records[:held])
    kept += [record for record in records[held:] if not kin.leaves_out(record)]
    kept_ids = {record.span_id for record in kept}
    seen: set[int] = set()
    for record in records:
        seen.add(record.span_id)
        if record in kept and record.parent_span_id and record.parent_span_id not in seen:
            # It had not ended when its child was kept.
            assert record.parent_span_id in kept_ids or record in records[:held]
    for record in kept:
        parent = kin.parent(record)
        assert not record.parent_span_id or (record.parent_span_id if parent is None else parent) in kept_ids


def test_ancestors_in_a_circle_become_roots() -> None:
    """No program makes such spans, and none must hang in here."""
    for one, other in ((2, 3), (2, 2), (0, 3)):
        kin = Kin(NORMAL)
        records = [made_record(1, one, other, priority=LOW), made_record(1, other, one or 5, priority=LOW)]
        child, *_ = kin.part([made_record(1, 4, other), *records, made_record(1, 5, one or 3, priority=LOW)])[0]
        assert kin.parent(child) == 0


def test_an_id_of_zero_is_nobody() -> None:
    """A span without an id that is left out, held or late, is nobody's parent: a root stays one."""
    for held in (0, 1):
        kin = Kin(NORMAL)
        nobody = made_record(1, 0, 2, priority=LOW)
        root = made_record(1, 3)
        kept, left_out = kin.part([nobody, root][:held])
        assert (kept, left_out) == ([], [nobody][:held])
        if not held:
            assert kin.leaves_out(nobody)
        assert not kin.leaves_out(root)
        assert kin.parent(root) is None
