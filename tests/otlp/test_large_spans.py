"""Large and deep spans: whole as far as a receiver can take them, bounded beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Link

from otel_shed.otlp.encode import Encoder
from otel_shed.otlp.values import MAX_ELEMENTS
from tests.otlp.encoders import every_encoder
from tests.otlp.made_spans import CONTEXT, bounded, canonical, made_span, message, stock_canonical


def _nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@every_encoder
@pytest.mark.parametrize(("wrap", "whole"), [(lambda inner: [inner], 46), (lambda inner: {"k": inner}, 31)])
def test_deep_values_do_not_cost_the_request(encoder: Encoder, wrap: Callable[[Any], Any], whole: int) -> None:
    """Values are whole as deep as protobuf parsers read, and empty below: a deeper one would cost its whole request."""
    deep = {"deep": _nested(whole, wrap)}
    span = made_span(attributes=deep, events=[Event("event", bounded(deep), 1)], links=[Link(CONTEXT, bounded(deep))])
    assert canonical([encoder(span)]) == stock_canonical([span])
    deeper = {"deep": _nested(500, wrap)}
    span = made_span(attributes=deeper, events=[Event("event", bounded(deeper), 1)])
    value = message(encoder(span)).events[0].attributes[0].value
    depth = 0
    while value.WhichOneof("value"):
        value = value.array_value.values[0] if value.HasField("array_value") else value.kvlist_value.values[0].value
        depth += 1
    assert depth == whole
    assert canonical([encoder(span)])


@every_encoder
def test_a_very_long_value_is_encoded(encoder: Encoder) -> None:
    """Ten megabytes are for the caller to drop as too large: the record says its length."""
    record = encoder(made_span(attributes={"long": "x" * 10_000_000}))
    assert record.length > 10_000_000
    assert len(message(record).attributes[0].value.string_value) == 10_000_000


@every_encoder
def test_very_many_events_are_encoded(encoder: Encoder) -> None:
    """A hundred thousand events make one large record."""
    event = Event("event", bounded({"a": 1}), 1)
    assert len(message(encoder(made_span(events=[event] * 100_000))).events) == 100_000


@every_encoder
def test_as_many_elements_as_fit_a_request_are_encoded(encoder: Encoder) -> None:
    """A long list is whole up to the bound, and one attribute lost beyond it."""
    found = message(encoder(made_span(attributes={"most": [0] * MAX_ELEMENTS, "more": [0] * (MAX_ELEMENTS + 1)})))
    assert [attribute.key for attribute in found.attributes] == ["most"]
    assert found.dropped_attributes_count == 1
