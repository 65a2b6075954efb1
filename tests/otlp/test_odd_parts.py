"""Odd parts of a span: the line names the span and the part, of whichever encoder, and there is one a minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanContext

from otel_shed import OTLPSpanExporter, SheddingSpanExporter, SheddingSpanProcessor
from otel_shed import exporter as exporter_module
from otel_shed import processor as processor_module
from otel_shed.log_limit import PREFIX, LogLimit
from otel_shed.otlp import odd_parts
from otel_shed.otlp.encode import EncodeError, Encoder
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.otlp.encoders import every_encoder
from tests.otlp.made_spans import CONTEXT, bounded, made_span

SPAN = f"the span 'checkout' (trace {0xABC:032x}, span {0xDEF:016x})"


@pytest.fixture(autouse=True)
def lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, from the first line on."""
    for module in (odd_parts, processor_module, exporter_module):
        monkeypatch.setattr(module, "_log", LogLimit(logging.getLogger("otel_shed"), clock=clock))
    with caplog.at_level(logging.WARNING, "otel_shed"):
        yield caplog


def odd_span(**fields: Any) -> ReadableSpan:
    return made_span("checkout", **fields)


class _Broken:
    def __str__(self) -> str:
        raise OSError("s3cr3t")

    __repr__ = __str__


@every_encoder
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"start_time": "now"}, f"{SPAN}: its start_time is 'now' (str)"),
        ({"end_time": float("nan")}, f"{SPAN}: its end_time is nan (float)"),
        ({"end_time": -1}, f"{SPAN}: its end_time is -1 (int)"),
        ({"end_time": object()}, f"{SPAN}: its end_time is of type object"),
        ({"parent": SpanContext(1, -1, False)}, f"{SPAN}: its parent's span_id is -1 (int)"),
        ({"context": None}, "the span 'checkout': its context is missing"),
        (
            {"context": SpanContext(1 << 128, 1, False)},
            f"the span 'checkout' (trace {1 << 128:032x}, span {1:016x}): its trace_id is {1 << 128} (int)",
        ),
        ({"resource": Mock(attributes={}, schema_url=_Broken())}, f"{SPAN}: its resource is of type Mock"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_error_names_the_span_and_the_part(encoder: Encoder, fields: dict[str, Any], words: str) -> None:
    """And what is in it, where that is short, and no value of an attribute."""
    with pytest.raises(EncodeError) as caught:
        encoder(odd_span(**fields))
    assert str(caught.value) == words


@every_encoder
def test_a_name_that_cannot_be_told(encoder: Encoder) -> None:
    """Its span is known by its ids."""
    with pytest.raises(EncodeError) as caught:
        encoder(made_span(_Broken()))
    ids = SPAN.partition(" (")[2]
    assert str(caught.value) == f"a span whose name cannot be read ({ids}: its name is of type _Broken"


@every_encoder
@pytest.mark.parametrize("span", [None, object(), Mock()], ids=["None", "object", "Mock"])
def test_what_is_no_span_has_words_too(encoder: Encoder, span: Any) -> None:
    """The text of an error can always be had."""
    with pytest.raises(EncodeError) as caught:
        encoder(span)
    assert "its " in str(caught.value)


@every_encoder
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"attributes": {"a": 1, "key": {1, 2}}}, "an attribute: 'key', a value of type set"),
        ({"attributes": {5: "x"}}, "an attribute: its key is 5 (int)"),
        ({"attributes": {"key": _Broken()}}, "an attribute: 'key', a value of type _Broken"),
        ({"events": [Event("e", bounded({}), "x")]}, "an event: its timestamp is 'x' (str)"),  # type: ignore[arg-type]
        ({"events": [Event("e", bounded({"key": object()}), 1)]}, "an attribute: 'key', a value of type object"),
        ({"links": [Link(SpanContext(-1, 1, False), bounded({}))]}, "a link: its trace_id is -1 (int)"),
        ({"links": [Link(CONTEXT, bounded({"key": object()}))]}, "an attribute: 'key', a value of type object"),
    ],
    ids=["value", "key", "broken", "event", "in an event", "link", "in a link"],
)
def test_what_is_left_out_is_one_line_a_minute(
    encoder: Encoder,
    limit: int | None,
    fields: dict[str, Any],
    words: str,
    lines: pytest.LogCaptureFixture,
    clock: FakeClock,
) -> None:
    """It names the span and the part, and tells no value."""
    for _ in range(5):
        encoder(odd_span(**fields), limit)
    assert [line.removeprefix(PREFIX) for line in lines.messages] == [f"{SPAN} goes out without {words}"]
    clock.advance(60.0)
    encoder(odd_span(**fields), limit)
    assert len(lines.messages) == 2


@every_encoder
def test_a_usual_span_is_no_news(encoder: Encoder, lines: pytest.LogCaptureFixture) -> None:
    """Nor one whose name or times are of another type that can be used."""
    encoder(odd_span(attributes={"a": 1}, events=[Event("e", bounded({}), 1)]))
    encoder(made_span(5, start_time=1.5e9, end_time=None, attributes={"a": 1 << 70}))
    assert lines.messages == []


@pytest.mark.parametrize("way", ["processor", "exporter", "ours under the SDK's"])
def test_the_line_of_a_span_that_is_dropped(way: str, lines: pytest.LogCaptureFixture) -> None:
    """Wherever the span comes in, the line says which span it is, and what of it."""
    exporter = OTLPSpanExporter(endpoint="http://127.0.0.1:1", environ={})
    processor: Any = {
        "processor": SheddingSpanProcessor,
        "exporter": lambda inner: SimpleSpanProcessor(SheddingSpanExporter(inner)),
        "ours under the SDK's": SimpleSpanProcessor,
    }[way](exporter)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer(__name__).start_span("checkout").end(end_time="soon")  # type: ignore[arg-type]
    provider.shutdown()
    (line,) = (line for line in lines.messages if "could not be encoded and" in line)
    assert line.startswith(f"{PREFIX}a span could not be encoded and was dropped: the span 'checkout' (trace ")
    assert line.endswith("): its end_time is 'soon' (str)")


def test_the_line_of_a_span_that_cannot_be_read(lines: pytest.LogCaptureFixture) -> None:
    """One whose context raises is named as well."""

    class Unreadable(ReadableSpan):
        @property
        def context(self) -> Any:
            raise OSError("no")

    span = Unreadable("checkout", CONTEXT)
    processor = SheddingSpanProcessor(RecordingExporter())
    processor.on_end(span)
    exporter = SheddingSpanExporter(RecordingExporter())
    assert exporter.export([span]) is SpanExportResult.SUCCESS
    processor.shutdown()
    exporter.shutdown()
    found = [line for line in lines.messages if "cannot be read was dropped" in line]
    assert len(found) == 2
    assert all("the span 'checkout'" in line for line in found)
