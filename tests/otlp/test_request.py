"""Requests: grouped as stock groups them, and split so that none is larger than allowed, with as few as can be."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_shed.compiled import extension
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.encode import encode_public, wrap_span
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.request import (
    build_plain,
    build_request,
    choose,
    most_plain,
    proved,
    request_size,
    split_by_size,
)
from otel_shed.record import Priority, ScopeGroup, SpanRecord
from tests.otlp.made_spans import canonical, made_span, stock_canonical

RESOURCES = [Resource({"service.name": "a"}), Resource({}, "https://schema.example/r"), Resource({"x": "y" * 200})]
SCOPES = [None, InstrumentationScope("s", "1"), InstrumentationScope("t" * 150, None, "https://schema.example/s")]


def record(size: int, group: ScopeGroup) -> SpanRecord:
    return SpanRecord(1, 1, 0, 0, "n", 0, 0, Priority.NORMAL, size, group, bytes(size), None)


def encoded(size: int, group: ScopeGroup) -> SpanRecord:
    """One whose bytes an encoder has put in, instead of being given them."""
    made = encode_span(made_span("n" * size))
    made.group = group
    return made


groups = st.builds(
    ScopeGroup,
    st.sampled_from([b"\x0a\x00", b"\x0a\x7f" + bytes(127), b"\x0a\x80\x80\x01" + bytes(16_384)]),
    st.sampled_from([b"\x0a\x00", b"\x0a\x10" + bytes(16)]),
)
compiled_only = pytest.mark.skipif(extension is None, reason="the compiled parts are not built, or not wanted")

sizes = st.sampled_from([0, 1, 90, 126, 127, 128, 129, 250, 16_383, 16_384, 20_000]) | st.integers(0, 400)
batches = st.lists(st.builds(record, sizes, groups) | st.builds(encoded, sizes, groups), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(RESOURCES), st.sampled_from(SCOPES)), max_size=20))
def test_a_request_is_what_stock_makes_of_the_batch(owners: list[tuple[Resource, InstrumentationScope | None]]) -> None:
    """Resources and scopes in the order of their first span, spans in their own, schema URLs in place."""
    batch = [
        made_span(f"{number}", resource=resource, instrumentation_scope=scope)
        for number, (resource, scope) in enumerate(owners)
    ]
    assert canonical([encode_public(span) for span in batch]) == stock_canonical(batch)


def test_spans_without_attributes_of_their_own_are_grouped_too() -> None:
    """Groups that are equal but not identical, such as from before a cache was cleared, are one."""
    first, second = (encode_public(made_span(name)) for name in ("first", "second"))
    assert first.group is not None
    second.group = ScopeGroup(bytes(bytearray(first.group.resource)), bytes(bytearray(first.group.scope)))
    request = encode_spans([]).FromString(build_request([first, second]))
    assert [span.name for span in request.resource_spans[0].scope_spans[0].spans] == ["first", "second"]


def test_no_records_are_no_envelope() -> None:
    """Nothing makes an empty request and no pieces."""
    assert build_request([]) == b""
    assert split_by_size([], 100) == []


def _grown_too_far(piece: Sequence[SpanRecord], following: SpanRecord, limit: int) -> bool:
    return len(build_request([*piece, following])) > limit


@settings(max_examples=200, deadline=None)
@given(batch=batches, limit=st.integers(1, 60_000))
def test_pieces_fit_and_are_as_few_as_can_be(batch: list[SpanRecord], limit: int) -> None:
    """Consecutive, complete, each within the limit unless it is one record alone, each as long as it could be."""
    pieces = split_by_size(batch, limit)
    assert [one for piece in pieces for one in piece] == batch
    for piece in pieces:
        assert piece
        assert len(piece) == 1 or len(build_request(piece)) <= limit
    for piece, following in pairwise(pieces):
        assert _grown_too_far(piece, following[0], limit)


@settings(max_examples=100, deadline=None)
@given(batch=batches)
def test_the_size_of_a_record_alone_is_exact(batch: list[SpanRecord]) -> None:
    """request_size is the length of the request that build_request would make."""
    for one in batch:
        assert request_size(one) == len(build_request([one]))


@settings(max_examples=60, deadline=None)
@given(batch=batches.filter(bool))
def test_the_limit_itself_is_allowed(batch: list[SpanRecord]) -> None:
    """A batch of exactly the limit is one piece; one byte less makes two, unless it is one record."""
    size = len(build_request(batch))
    assert split_by_size(batch, size) == [batch]
    if len(batch) > 1:
        assert len(split_by_size(batch, size - 1)) == 2


def test_what_is_too_large_alone_has_a_piece_alone() -> None:
    """It does not take its neighbours with it."""
    group = ScopeGroup(b"\x0a\x00", b"\x0a\x00")
    batch = [record(10, group), record(1_000, group), record(10, group), record(10, group)]
    assert split_by_size(batch, 100) == [batch[:1], batch[1:2], batch[2:]]


def test_a_record_without_bytes_is_refused() -> None:
    """Records that carry span objects cannot be put in a request."""
    wrapped = wrap_span(made_span())
    for use in (lambda: build_request([wrapped]), lambda: request_size(wrapped), lambda: split_by_size([wrapped], 0)):
        with pytest.raises(TypeError):
            use()


def test_a_batch_of_stock_size_is_split_by_the_bytes_of_a_usual_receiver() -> None:
    """Five hundred spans of 20 kB each go to a gRPC receiver of 4 MiB in three requests."""
    batch: list[ReadableSpan] = [made_span(f"{n}", attributes={"payload": "x" * 20_000}) for n in range(500)]
    records = [encode_public(span) for span in batch]
    pieces = split_by_size(records, 4_000_000)
    assert [len(piece) for piece in pieces] == [199, 199, 102]
    assert all(len(build_request(piece)) <= 4_000_000 for piece in pieces)


@compiled_only
@settings(max_examples=300, deadline=None)
@given(batch=batches)
def test_the_compiled_request_is_the_plain_one(batch: list[SpanRecord]) -> None:
    """The same bytes, of the size that is told beforehand, whatever the groups and the lengths."""
    plain = build_plain(batch)
    assert extension.build_request(batch) == plain
    assert extension.build_request(tuple(batch)) == plain
    assert extension.total_size(batch) == len(plain) <= most_plain(batch)
    for each in batch:
        each.group = batch[0].group
    plain = build_plain(batch)
    assert extension.build_request(batch) == plain
    assert extension.total_size(batch) == len(plain)


@compiled_only
def test_what_is_compiled_is_used() -> None:
    """Built and wanted, it is what builds requests here."""
    assert build_request is extension.build_request


@compiled_only
@pytest.mark.parametrize("build", [extension and extension.build_request, extension and extension.total_size])
def test_the_compiled_way_refuses_what_is_no_record(build: Any) -> None:
    """Anything but records with bytes and groups of bytes is a TypeError, a group that is none an AttributeError."""
    group = ScopeGroup(b"\x0a\x00", b"\x0a\x00")
    whole, headless, bodiless = record(1, group), record(1, group), record(1, group)
    headless.group = None
    bodiless.body = bytearray(1)
    text, empty, deleted = record(1, ScopeGroup("a", "b")), record(1, object()), record(1, group)  # type: ignore[arg-type]
    del deleted.group
    wrong = [headless, bodiless, deleted, text]
    for bad in (None, 1, [1], [whole, None], *([one] for one in wrong), *([whole, one] for one in wrong)):
        with pytest.raises(TypeError):
            build(bad)
    for bad in ([empty], [whole, empty]):
        with pytest.raises(AttributeError):
            build(bad)


@compiled_only
def test_a_group_that_runs_code_changes_nothing_under_way() -> None:
    """What a group's property does to the batch comes too late."""

    class Meddler:
        scope = b"\x0a\x00"

        @property
        def resource(self) -> bytes:
            batch[0].body = b""
            del batch[2:]
            return b"\x0a\x00"

    meddler: Any = Meddler()
    for make in (record, encoded):
        batch = [make(200, ScopeGroup(b"\x0a\x00", b"\x0a\x00")) for _ in range(100)]
        expected = build_plain(batch)
        for meddled in (batch[1:2], batch):
            whole = list(batch)
            for each in meddled:
                each.group = meddler
            assert extension.build_request(batch) == expected
            assert len(batch) == 2
            batch[:] = whole
            batch[0].body = whole[1].body


@compiled_only
def test_a_group_that_runs_code_as_it_goes_is_held() -> None:
    """The list that it was in is empty by then, and full again when it has gone: the request is of what was there."""
    batch: list[SpanRecord] = []

    class Meddler:
        scope = b"\x0a\x00"

        @property
        def resource(self) -> bytes:
            batch.clear()
            return b"\x0a\x00"

        def __del__(self) -> None:
            batch.extend([record(1, ScopeGroup(b"", b""))] * 200)

    batch.append(record(5, Meddler()))  # type: ignore[arg-type]
    assert extension.build_request(batch) == build_plain([record(5, ScopeGroup(b"\x0a\x00", b"\x0a\x00"))])
    assert len(batch) == 200


@compiled_only
def test_nothing_is_kept_of_a_request() -> None:
    """References are as they were, also where it failed half-way."""
    group = ScopeGroup(b"\x0a\x10" + bytes(16), b"\x0a\x10" + bytes(16))
    one, text = record(300, group), record(1, ScopeGroup(bytes(1000), "text"))  # type: ignore[arg-type]
    held = (one, one.body, group, group.resource, group.scope, text.group.resource)  # type: ignore[union-attr]
    before, of_type = [sys.getrefcount(each) for each in held], sys.getrefcount(SpanRecord)
    for _ in range(100):
        extension.build_request([one, one])
        extension.total_size([one])
        for bad in ([one, None], [text], [one, text]):
            with pytest.raises(TypeError):
                extension.build_request(bad)
    del bad
    assert [sys.getrefcount(each) for each in held] == before
    assert sys.getrefcount(SpanRecord) - of_type < 100  # each record has one, and others may come and go meanwhile


def test_the_plain_way_proves_itself() -> None:
    """The samples are no riddle: what is right passes."""
    assert proved(build_plain, lambda records: len(build_plain(records)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda records: build_plain(records) + b"\x00",
        lambda records: b"".join(build_plain([one]) for one in records),
        lambda records: build_plain(sorted(records, key=lambda one: one.length)),
        lambda records: build_plain(records[:5]),
        lambda records: 1 / 0,
    ],
    ids=["longer", "not grouped", "in another order", "not all", "raises"],
)
def test_a_way_that_is_not_equal_is_not_used(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A compiled way that makes other bytes of a sample is passed over, with one line of warning."""
    compiled = SimpleNamespace(SpanRecord=SpanRecord, build_request=wrong, total_size=lambda r: len(build_plain(r)))
    with caplog.at_level(logging.WARNING, "otel_shed"):
        assert choose(compiled) == (build_plain, most_plain)
    assert [entry.message.removeprefix(PREFIX) for entry in caplog.records] == [
        "Requests are built in plain Python: the compiled way is not proved equal"
    ]


def test_a_size_that_is_not_exact_is_not_used() -> None:
    """The size told beforehand is part of the proof."""
    assert not proved(build_plain, most_plain)


@pytest.mark.parametrize("compiled", [None, SimpleNamespace(SpanRecord=object), SimpleNamespace(SpanRecord=SpanRecord)])
def test_without_it_requests_are_plain(compiled: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not built, or of another version: plain Python, without a word."""
    assert choose(compiled) == (build_plain, most_plain)
    assert caplog.records == []
