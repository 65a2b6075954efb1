"""The proof: at import the quickest encoder that equals the installed one is chosen, and another one otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import Event, ReadableSpan

from otel_shed.otlp import proof, samples, slots
from otel_shed.otlp.encode import EncodeError, encode_public
from otel_shed.otlp.encode_compiled import attributes_compiled, compiled_encoder, encode_compiled
from otel_shed.otlp.proof import (
    attributes_in_public,
    attributes_of,
    choose_attribute_reader,
    choose_encoder,
    disprove,
)
from otel_shed.otlp.samples import sample_spans
from otel_shed.otlp.slots import attributes_in_slots, encode_slots
from otel_shed.otlp.stock import encode_stock
from otel_shed.record import SpanRecord
from tests.otlp.encoders import ENCODERS
from tests.otlp.made_spans import CONTEXT, bounded, canonical, made_span, message, stock_canonical

PUBLIC = "otel_shed.otlp.encode:encode_public"
STOCK = "otel_shed.otlp.stock:encode_stock"
CANDIDATES = f"{__name__}:candidate"

# What the stock encoder never writes: the specification has it, the SDK does not say it.
NEVER_WRITTEN = {
    "Resource.dropped_attributes_count",
    "Resource.entity_refs",
    "InstrumentationScope.dropped_attributes_count",
    "Link.trace_state",
    "AnyValue.string_value_strindex",
    "KeyValue.key_strindex",
}


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the library's own logger said, at any level."""
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records]


def use(monkeypatch: pytest.MonkeyPatch, encoder: Callable[[ReadableSpan], Any]) -> str:
    """Make an encoder importable as a candidate."""
    monkeypatch.setitem(globals(), "candidate", encoder)
    return CANDIDATES


def test_the_quickest_encoder_is_proved(warnings: Callable[[], list[str]]) -> None:
    """With this SDK the quickest encoder that there is is used, and nothing is logged."""
    quickest = encode_compiled or encode_slots
    assert proof.encode_span is quickest
    assert choose_encoder() is quickest
    assert choose_encoder(proof.CANDIDATES[1:]) is encode_slots
    assert warnings() == []


def test_one_that_was_not_built_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    """A candidate that is None is passed over without a word."""
    monkeypatch.setitem(globals(), "candidate", None)
    assert choose_encoder((CANDIDATES, PUBLIC)) is encode_public
    assert warnings() == []


def test_the_slots_are_what_the_samples_are_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is of the quick path itself, not of the one that it leaves hard cases to."""

    def refuse(span: ReadableSpan) -> SpanRecord:
        raise EncodeError("left to the public path")

    monkeypatch.setattr(slots, "encode_public", refuse)
    disprove(encode_slots, encode_spans)
    if (encoder := compiled_encoder(careful=refuse)) is not None:
        disprove(encoder.encode, encode_spans)


@pytest.mark.parametrize("encoder", [*ENCODERS.values(), encode_stock], ids=[*ENCODERS, "stock"])
def test_every_encoder_is_proved(encoder: Callable[[ReadableSpan], SpanRecord]) -> None:
    """Each of them makes what the stock encoder makes, the last resort included."""
    disprove(encoder, encode_spans)


def _fields(found: Message) -> Iterator[tuple[str, Message | None]]:
    """The name of every field that is set in a message and in what is inside it."""
    for descriptor, value in found.ListFields():
        yield f"{found.DESCRIPTOR.name}.{descriptor.name}", None
        inner = value if descriptor.is_repeated else [value]
        if descriptor.message_type is not None:
            for part in inner:
                yield part.DESCRIPTOR.name, part
                yield from _fields(part)


def test_the_samples_use_every_field() -> None:
    """There is no field of a message of ours that no sample sets: an encoder cannot be wrong unseen."""
    found = list(_fields(encode_spans(sample_spans())))
    used = {name for name, part in found if part is None}
    types = {name: part.DESCRIPTOR for name, part in found if part is not None}
    every = {f"{name}.{field.name}" for name, descriptor in types.items() for field in descriptor.fields}
    assert every - used <= NEVER_WRITTEN
    assert {"Span", "Event", "Link", "Status", "AnyValue", "KeyValueList", "ArrayValue"} <= set(types)


def _each_changed(body: bytes) -> Iterator[bytes]:
    """The message of a span with one thing missing, each in turn, as deep as its events, links and attributes."""
    whole = trace_pb2.Span.FromString(body)
    for descriptor, _ in whole.ListFields():
        less = trace_pb2.Span.FromString(body)
        less.ClearField(descriptor.name)
        yield less.SerializeToString()
    for part in ("attributes", "events", "links", "status"):
        for number in range(len(getattr(whole, part)) if part != "status" else 1):
            inner = getattr(whole, part)[number] if part != "status" else whole.status
            for descriptor, _ in inner.ListFields():
                less = trace_pb2.Span.FromString(body)
                changed = getattr(less, part)[number] if part != "status" else less.status
                changed.ClearField(descriptor.name)
                yield less.SerializeToString()


def test_any_difference_is_found() -> None:
    """An encoder that leaves out one field of one sample is disproved, whichever it is."""
    full = sample_spans()[0]
    body = encode_public(full).body
    assert body is not None
    count = 0
    for changed in _each_changed(body):
        count += 1

        def encoder(span: ReadableSpan, changed: bytes = changed) -> SpanRecord:
            record = encode_public(span)
            if span.name == full.name:
                record.body, record.length = changed, len(changed)
            return record

        with pytest.raises(proof.DisprovedError):
            disprove(encoder, encode_spans)
    assert count > 80


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *((field, lambda value: value ^ 1) for field in ("trace_id", "span_id", "parent_span_id", "flags", "status")),
        *((field, lambda value: value ^ 1) for field in ("duration_ns", "length", "kind")),
        ("name", lambda value: "another"),
        ("failed", lambda value: not value),
        ("failed", lambda value: False),
        ("trace_state", lambda value: None),
        ("trace_state", lambda value: value or {"ot": "th:8"}),
        ("trace_state", lambda value: value and {**value, "vendor": "another"}),
    ],
)
def test_a_wrong_header_is_found(field: str, wrong: Callable[[Any], Any]) -> None:
    """The header is proved as well as the bytes."""

    def encoder(span: ReadableSpan) -> SpanRecord:
        record = encode_public(span)
        setattr(record, field, wrong(getattr(record, field)))
        return record

    with pytest.raises(proof.DisprovedError):
        disprove(encoder, encode_spans)


def _changes_when_warm() -> Callable[[ReadableSpan], SpanRecord]:
    seen: set[int] = set()

    def encoder(span: ReadableSpan) -> SpanRecord:
        record = encode_public(span)
        name = hash(span.name)
        if name in seen:
            record.body = (record.body or b"") + b"\x50\x01"
            record.length = len(record.body)
        seen.add(name)
        return record

    return encoder


def _raises(span: ReadableSpan) -> SpanRecord:
    raise AttributeError("'ReadableSpan' object has no attribute '_name'")


@pytest.mark.parametrize("encoder", [_changes_when_warm(), _raises, lambda span: None], ids=["warm", "raises", "none"])
def test_an_encoder_that_differs_is_not_used(
    encoder: Callable[[ReadableSpan], Any], monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    """The next one is used instead, and one line says so."""
    assert choose_encoder((use(monkeypatch, encoder), PUBLIC)) is encode_public
    assert len(warnings()) == 1
    assert PUBLIC in warnings()[0]


def test_what_cannot_be_imported_is_passed_over(warnings: Callable[[], list[str]]) -> None:
    """A candidate that is not there, such as one that was not compiled, is one that did not prove itself."""
    assert choose_encoder(("otel_shed.otlp.nothing:encode", "otel_shed.otlp.encode:nothing", PUBLIC)) is encode_public
    assert len(warnings()) == 1


def test_without_proof_the_installed_encoder_is_used(
    monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    """Where neither of ours proves itself, each span goes through the installed encoder; one line says so."""
    assert choose_encoder((use(monkeypatch, _raises),)) is encode_stock
    assert len(warnings()) == 1
    assert STOCK in warnings()[0]


def test_without_samples_nothing_is_proved(monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]) -> None:
    """Should the SDK lack what the samples are made of, the installed encoder is used."""

    def broken() -> list[ReadableSpan]:
        raise TypeError("no such argument")

    monkeypatch.setattr(samples, "sample_spans", broken)
    assert choose_encoder() is encode_stock
    assert len(warnings()) == 1


def test_without_an_installed_encoder_ours_is_used(warnings: Callable[[], list[str]]) -> None:
    """With nothing to compare with, the path over public properties is used, and one line says so."""
    assert choose_encoder(stock="otel_shed.otlp.nothing:encode") is encode_public
    assert len(warnings()) == 1


def test_a_module_is_imported_only_by_name() -> None:
    """The candidates are functions that can be imported, quickest first."""
    assert [proof._imported(name) for name in proof.CANDIDATES] == [encode_compiled, encode_slots, encode_public]
    assert isinstance(slots, ModuleType)


def test_the_installed_encoder_alone_counts_and_raises_like_ours() -> None:
    """The last resort gives the same record, counts what it cannot encode, and raises EncodeError alone."""
    span = made_span(attributes={"good": 1}, events=[Event("e", bounded({"a": 1}), 1)])
    assert canonical([encode_stock(span)]) == stock_canonical([span])
    bad = made_span(attributes={"good": 1, "bad": object()})
    found = message(encode_stock(bad))
    assert (len(found.attributes), found.dropped_attributes_count) == (1, 1)
    for broken in (made_span(context=None), made_span("\ud800"), made_span(start_time=-1), None):
        with pytest.raises(EncodeError):
            encode_stock(broken)  # type: ignore[arg-type]
    assert encode_stock(made_span(context=CONTEXT)).group is encode_stock(made_span()).group


def test_the_quick_attribute_reader_is_in_use_here() -> None:
    """With the installed SDK the slots give what the public property gives, so they are read, compiled if can be."""
    assert attributes_of is (attributes_compiled or attributes_in_slots)
    assert choose_attribute_reader(proof.ATTRIBUTE_READERS[1:]) is attributes_in_slots


@pytest.mark.parametrize(
    "candidate", ["otel_shed.no_such_module:reader", "builtins:id", "tests.otlp.test_proof:broken"]
)
def test_an_attribute_reader_that_differs_is_not_used(candidate: str) -> None:
    """A reader that cannot be had, or reads something else, gives way to the public property."""
    assert choose_attribute_reader((candidate,)) is attributes_in_public


def broken(span: ReadableSpan) -> dict[str, str]:
    """A reader that has lost the attributes."""
    return {}
