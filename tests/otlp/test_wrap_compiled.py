"""The compiled wrap: the record that carries a span itself is the plain one's, whatever the span is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from otel_shed.otlp.encode import wrap_span
from otel_shed.otlp.encode_compiled import compiled_encoder, wrap_compiled
from otel_shed.otlp.proof import wraps_alike
from otel_shed.otlp.samples import sample_spans
from otel_shed.record import SpanRecord
from tests.otlp.encoders import compiled_only, everything
from tests.otlp.made_spans import CONTEXT, bounded, made_span, spans
from tests.otlp.test_compiled import ODD_FIELDS

pytestmark = compiled_only


def refuse(*_: Any) -> Any:
    raise AssertionError("left to the plain one")


def agree(span: Any) -> SpanRecord:
    found: SpanRecord = wrap_compiled(span)
    assert everything(found) == everything(wrap_span(span))
    assert (found.span is span, type(found.name)) == (True, str)
    return found


@settings(max_examples=200, deadline=None)
@given(span=spans())
def test_any_span_is_wrapped_alike(span: ReadableSpan) -> None:
    """Every span that the SDK can make."""
    agree(span)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), like_sdk=st.booleans())
def test_odd_spans_are_wrapped_alike(data: st.DataObject, like_sdk: bool) -> None:
    """Whatever its fields are."""
    fields = {name: data.draw(st.sampled_from(found)) for name, found in ODD_FIELDS.items()}
    agree(made_span(fields.pop("name"), like_sdk=like_sdk, **fields))


class _Raising:
    @property
    def name(self) -> str:
        raise OSError("no name")


class _Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "events",
    [
        [Event("exception", bounded({}), 1)],
        [Event("exceptions", bounded({}), 1), Event("", bounded({}), 1)],
        [Event(_Name("exception"), bounded({}), 1)],
        [Event("exception", bounded({}), -1)],
        [_Raising(), Event("exception", bounded({}), 1)],
        [object(), Event(None, bounded({}), 1)],  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("status", [Status(), Status(StatusCode.OK), Status(StatusCode.ERROR), None])
def test_failures_are_found_alike(events: list[Any], status: Status | None) -> None:
    """By status or by an event's name, whatever else the events are."""
    agree(made_span(events=events, status=status))
    agree(made_span(events=events, status=status, like_sdk=False))


@pytest.mark.parametrize("state", [None, TraceState(), TraceState([("ot", "th:8")]), {"ot": "th:8"}, "ot=th:8"])
def test_a_tracestate_is_handed_on_as_it_is(state: Any) -> None:
    """The mapping itself, if there is anything in it."""
    span = made_span(context=SpanContext(5, 6, False, trace_state=state))
    assert agree(span).trace_state is wrap_span(span).trace_state


@pytest.mark.parametrize(
    "flags", [-1, 0, 1, 0x1FF, (1 << 64) - 1, 1 << 64, TraceFlags(-1), TraceFlags(1 << 70), True, "x"]
)
def test_flags_are_kept_in_range_alike(flags: Any) -> None:
    """Of whatever type and size."""
    agree(made_span(context=SpanContext(1, 2, False, trace_flags=flags)))


@pytest.mark.parametrize("thing", [None, object(), 5, "span", ReadableSpan("work"), ReadableSpan("work", CONTEXT)])
def test_what_is_hardly_a_span_is_wrapped_alike(thing: Any) -> None:
    """Things that are no span, and spans made by hand."""
    agree(thing)


@pytest.mark.parametrize("limit", [None, 0, 5, 255, (1 << 31) - 2])
def test_a_limit_is_remembered(limit: int | None) -> None:
    """What is to be cut is cut when it is exported, and no reason to be slow."""
    span = made_span(attributes={"a": "x" * 50})
    record = compiled_encoder(careful_wrap=refuse).wrap(span, limit)
    assert (record.limit, record.span) == (limit, span)
    assert everything(record) == everything(wrap_span(span, limit))


@pytest.mark.parametrize("limit", [1 << 31, 1 << 80])
def test_a_limit_that_cuts_nothing_is_none(limit: int) -> None:
    """By either of them."""
    span = made_span(attributes={"a": "x" * 50})
    assert wrap_span(span, limit).limit is wrap_compiled(span, limit).limit is None
    assert everything(wrap_compiled(span, limit)) == everything(wrap_span(span, limit))


@pytest.mark.parametrize("limit", [1 << 80, True, "x"])
def test_a_limit_that_is_no_small_number_is_left_to_the_plain_one(limit: Any) -> None:
    """Whatever it makes of it."""
    asked: list[Any] = []
    span, encoder = (
        made_span(attributes={"a": "x" * 50}),
        compiled_encoder(careful_wrap=lambda *given: asked.append(given)),
    )
    encoder.wrap(span, limit)
    assert asked == [(span, limit)]
    with pytest.raises(TypeError):
        encoder.wrap()
    with pytest.raises(TypeError):
        encoder.wrap(span, None, None)


def test_usual_spans_are_not_left_to_the_plain_one() -> None:
    """What the samples use, and times without a parent, is wrapped quickly."""
    wrap = compiled_encoder(careful_wrap=refuse).wrap
    for span in (*sample_spans(), made_span("a\ud800"), made_span(resource=None)):
        assert everything(wrap(span)) == everything(wrap_span(span))
        assert everything(wrap(span, None)) == everything(wrap_span(span))


def test_it_is_proved() -> None:
    """With this SDK it is used; one that differs in anything, or fails, is not, nor is one that is not there."""

    def other(span: ReadableSpan, limit: int | None = None) -> SpanRecord:
        record = wrap_span(span)
        record.kind = 0
        return record

    assert wraps_alike(wrap_compiled)
    for wrong in (other, refuse, None):
        assert not wraps_alike(wrong)
