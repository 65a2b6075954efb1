"""The record that travels: the compiled class and the plain one are the same to whoever reads and writes them."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from otel_shed import compiled
from otel_shed.otlp.encode import encode_public
from otel_shed.otlp.proof import encode_span
from otel_shed.record import PlainSpanRecord, Priority, ScopeGroup, SpanRecord, record_class
from tests.interpreter import IS_FREE_THREADED
from tests.otlp.made_spans import made_span

CLASSES = {"plain": PlainSpanRecord, "in use": SpanRecord}
every_class = pytest.mark.parametrize("made", CLASSES.values(), ids=CLASSES)

GROUP = ScopeGroup(b"resource", b"scope")
FIELDS: dict[str, Any] = {
    "trace_id": (1 << 128) - 1,
    "span_id": (1 << 64) - 1,
    "parent_span_id": (1 << 64) - 2,
    "flags": 0x3FF,
    "name": "work",
    "status": 2,
    "duration_ns": (1 << 64) - 3,
    "priority": Priority.CRITICAL,
    "length": 1 << 40,
    "group": GROUP,
    "body": b"body",
    "span": None,
    "kind": 4,
    "failed": True,
    "trace_state": {"ot": "th:8"},
}

HELD = ("name", "priority", "group", "body", "span", "trace_state")


def read(record: SpanRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in [*FIELDS, "order", "is_local_root"]}


@every_class
def test_what_is_put_in_is_read(made: type[SpanRecord]) -> None:
    """Every field, at its largest, comes back as it was given, by position or by name; the order is 0 at first."""
    expected = FIELDS | {"order": 0, "is_local_root": True}
    by_position, by_name = made(*FIELDS.values()), made(**FIELDS)
    assert read(by_position) == expected
    assert read(by_name) == expected
    assert by_position.priority is Priority.CRITICAL
    assert (by_position.group, by_position.body) == (GROUP, b"body")
    assert by_position != by_name
    assert len({by_position, by_name, by_position}) == 2


@every_class
def test_what_may_be_left_out(made: type[SpanRecord]) -> None:
    """A record without a kind is of kind 0, has not failed, has no tracestate; one without anything else is none."""
    needed = list(FIELDS.values())[:-3]
    record = made(*needed)
    assert (record.kind, record.failed, record.trace_state) == (0, False, None)
    assert made(*needed, failed=True).failed is True
    with pytest.raises(TypeError):
        made(*needed[:-1])


@every_class
def test_a_tracestate_is_shared(made: type[SpanRecord]) -> None:
    """The very mapping that was given is there, in every record that it was given to."""
    assert made(**FIELDS).trace_state is made(**FIELDS).trace_state is FIELDS["trace_state"]


@every_class
def test_a_record_can_be_written(made: type[SpanRecord]) -> None:
    """The intake writes the order, the pipeline the priority: every field can be, and no other."""
    record = made(*FIELDS.values())
    for name, value in (FIELDS | {"order": 1 << 60, "priority": Priority.LOW, "flags": 1, "span": record}).items():
        setattr(record, name, value)
        assert getattr(record, name) == value
    record.span = None
    with pytest.raises(AttributeError):
        record.colour = "red"  # type: ignore[attr-defined]


@every_class
@pytest.mark.parametrize(
    ("parent", "flags", "is_root"), [(0, 0x100, True), (5, 0x300, True), (5, 0x100, False), (1 << 63, 1, False)]
)
def test_a_local_root(made: type[SpanRecord], parent: int, flags: int, is_root: bool) -> None:
    """A local root has no parent, or one in another process."""
    assert made(**FIELDS | {"parent_span_id": parent, "flags": flags}).is_local_root is is_root


@every_class
def test_a_record_lets_go_what_it_held(made: type[SpanRecord]) -> None:
    """Whether made, written or refused, a record leaves no reference behind."""
    held: dict[str, Any] = {name: object() for name in HELD}
    before = {name: sys.getrefcount(value) for name, value in held.items()}
    for _ in range(100):
        record = made(**FIELDS | held)
        for name, value in held.items():
            setattr(record, name, value)
            setattr(record, name, None)
        with pytest.raises(TypeError):
            made(**FIELDS | held | {"colour": 1})
    del record, value
    assert {name: sys.getrefcount(value) for name, value in held.items()} == before


@pytest.mark.skipif(SpanRecord is PlainSpanRecord, reason="the compiled parts are not built, or not wanted")
def test_the_compiled_record_is_small_and_not_walked_over() -> None:
    """It takes no part in garbage collection, is smaller than the plain one, and refuses numbers that do not fit."""
    record = SpanRecord(*FIELDS.values())
    assert not gc.is_tracked(record)
    assert sys.getsizeof(record) <= (168 if IS_FREE_THREADED else 152)
    for name, value in (
        ("trace_id", 1 << 128),
        ("trace_id", -1),
        ("span_id", 1 << 64),
        ("parent_span_id", -1),
        ("flags", 1 << 32),
        ("status", 256),
    ):
        with pytest.raises(OverflowError):
            SpanRecord(**FIELDS | {name: value})
    with pytest.raises(TypeError):
        SpanRecord(**FIELDS | {"duration_ns": 1.5})


def test_the_bytes_of_an_encoded_span_can_be_replaced() -> None:
    """They are in the record itself, which is as much larger, until others are put in their place."""
    span = made_span(attributes={"a": "b"})
    record = encode_span(span)
    body = record.body
    assert body == encode_public(span).body
    assert record.length == len(body)
    if SpanRecord is not PlainSpanRecord:
        assert sys.getsizeof(record) == sys.getsizeof(SpanRecord(*FIELDS.values())) + len(body)
    for other in (b"another", body, b""):
        record.body = other
        assert record.body is other


@pytest.mark.skipif(SpanRecord is PlainSpanRecord, reason="the compiled parts are not built, or not wanted")
def test_a_compiled_record_always_has_a_body() -> None:
    """It cannot be deleted, before or after it was replaced."""
    record = encode_span(made_span(attributes={"a": "b"}))
    for _ in range(2):
        with pytest.raises(AttributeError):
            del record.body
        record.body = None
    assert record.body is None


@every_class
@pytest.mark.parametrize("trace_id", [0, 1, (1 << 64) - 1, 1 << 64, (1 << 64) + 1, 0x0123456789ABCDEF0F1E2D3C4B5A6978])
def test_a_trace_id_is_an_int_of_128_bits(made: type[SpanRecord], trace_id: int) -> None:
    """Whatever it is, it is read as it was given, and as it was written."""
    record = made(**FIELDS | {"trace_id": trace_id})
    assert record.trace_id == trace_id
    record.trace_id = trace_id ^ 1 << 127
    assert record.trace_id == trace_id ^ 1 << 127


@pytest.mark.skipif(SpanRecord is PlainSpanRecord, reason="the compiled parts are not built, or not wanted")
def test_a_trace_id_that_is_none_is_refused() -> None:
    """Also when it is written: the record stays as it was."""
    record = SpanRecord(*FIELDS.values())
    for value, error in ((1 << 128, OverflowError), (-1, OverflowError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error):
            record.trace_id = value  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        del record.trace_id
    assert record.trace_id == FIELDS["trace_id"]
    record.trace_id = True
    assert record.trace_id == 1


def test_a_class_that_lacks_something_is_not_used() -> None:
    """A compiled record of another version, without an attribute that the plain one has, is left aside."""

    class Older:
        trace_id = span_id = 0

    assert record_class(PlainSpanRecord, Older) is PlainSpanRecord
    assert record_class(PlainSpanRecord, None) is PlainSpanRecord
    assert record_class(PlainSpanRecord, PlainSpanRecord) is PlainSpanRecord
    if compiled.extension is not None:
        assert record_class(PlainSpanRecord, compiled.extension.SpanRecord) is compiled.extension.SpanRecord
