"""What an exporter that is not ours is given: the spans, as long as they may be when they ended, and no longer."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed import LoadShedder, Phase, ShedConfig
from otel_shed.pipeline.sender import SpanExporterSender
from otel_shed.pipeline.store import Change
from otel_shed.testing.exporters import RecordingExporter
from tests.otlp.made_spans import made_span


def sent(span: ReadableSpan, limit: int | None, change: Change | None = None) -> Any:
    inner = RecordingExporter()
    sender = SpanExporterSender(inner, export_timeout=1.0, clock=lambda: 0.0)
    record = sender.record(span, limit)
    if change is not None:
        sender.amend(record, change)
    assert sender.send([record]).accepted == 1
    (found,) = inner.spans
    return found


@pytest.mark.parametrize(("limit", "text"), [(None, "x" * 20), (20, "x" * 20), (5, "xxxx…"), (0, "")])
def test_values_are_cut_when_they_are_exported(limit: int | None, text: str) -> None:
    """The copy that the exporter gets is cut; the span that others have too is as it was."""
    span = made_span(attributes={"text": "x" * 20, "number": 7})
    found = sent(span, limit)
    assert dict(found.attributes) == {"text": text, "number": 7}
    assert dict(span.attributes or {}) == {"text": "x" * 20, "number": 7}
    assert (found is span) is (text == "x" * 20)


def test_a_change_and_a_cut_go_together() -> None:
    """A span with another parent is cut as any other."""
    found = sent(made_span(attributes={"text": "x" * 20}), 5, Change(parent_span_id=77, threshold=None))
    assert (found.parent.span_id, found.attributes["text"]) == (77, "xxxx…")


class _Broken(ReadableSpan):
    @property
    def attributes(self) -> Any:
        raise OSError("no attributes")


def test_a_span_that_cannot_be_cut_goes_as_it_is() -> None:
    """It is the exporter's to read, or not to."""
    span = _Broken("work")
    assert sent(span, 5) is span


def test_what_ended_while_spans_are_shed_is_cut() -> None:
    """At the public seam: by the phase in which it ended, whatever the phase is when it is exported."""
    inner = RecordingExporter()
    shedder = LoadShedder(ShedConfig(memory_limit_bytes=2**50, degraded_attribute_length=5), exporter=inner)
    processor = shedder.span_processor()
    processor.on_end(made_span(attributes={"text": "before" * 9}))
    shedder.force_phase(Phase.DEGRADE)
    processor.on_end(made_span("degraded", attributes={"text": "during" * 9}))
    shedder.force_phase(Phase.NORMAL)
    assert processor.force_flush()
    assert [len((span.attributes or {})["text"]) for span in inner.spans] == [54, 5]
    processor.shutdown()
