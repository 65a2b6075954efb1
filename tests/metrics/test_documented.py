"""docs/metrics.md and the code say the same, and no point has an attribute that is not in the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig
from otel_shed.control.budget import BudgetState
from otel_shed.instruments import SDK_METRICS_ENABLED, Instruments
from otel_shed.metrics.pipeline import LEDGER, PROCESSOR
from otel_shed.metrics.shedder import CONTROL
from otel_shed.metrics.summary import SUMMARY
from otel_shed.otlp import exporter as exporter_module
from otel_shed.otlp import transport_http
from otel_shed.otlp.operations import DURATION, ERROR, EXPORTER, HTTP_STATUS, RPC_STATUS
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.pipeline.summary import MAX_ROWS
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.testing.transport import ScriptedTransport
from tests.conftest import ended_span
from tests.metrics.readings import collected

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ALL: list[Instruments[Any]] = [CONTROL, LEDGER, SUMMARY, PROCESSOR, EXPORTER]


def documented() -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """The tables' instrument, unit and attributes, by name."""
    rows = re.findall(r"^\| `(\S+)` \| ([\w -]+) \| `(\S+)` \| (.*?) ?\| .+ \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, *_ in rows})
    return {name: (kind, unit, tuple(re.findall(r"`(\S+)`", attributes))) for name, kind, unit, attributes in rows}


def test_the_tables_are_the_code() -> None:
    """Every instrument is in the tables as it is, and nothing else is."""
    words = {"counter": "counter", "up_down_counter": "up-down counter", "gauge": "gauge"}
    expected = {
        each.name: (f"observable {words[each.kind.value]}", each.unit, each.attributes)
        for instruments in ALL
        for each in instruments.instruments
    }
    expected[DURATION] = ("histogram", "s", (ERROR, HTTP_STATUS, RPC_STATUS))
    assert documented() == expected


def test_no_other_attributes_are_used(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parity D14: a closed set; each metric of the tables is emitted with what it has there, and nothing else is."""
    monkeypatch.setenv(SDK_METRICS_ENABLED, "true")
    answers = [Attempt(Verdict.PERMANENT, "404"), Attempt(Verdict.PERMANENT, "INTERNAL")]
    monkeypatch.setattr(exporter_module, "_transport", lambda *_: ScriptedTransport(answers))
    shedder = LoadShedder(ShedConfig(max_export_batch_size=1), meter_provider=provider)
    processor = shedder.span_processor(OTLPSpanExporter(meter_provider=provider))
    for _ in answers:
        processor.on_end(ended_span())
    processor.force_flush()
    processor.shutdown()
    processor.on_end(ended_span())
    shedder.assembly.control.summary.add("work", SpanKind.SERVER.value, True, 1)
    for _, flow in shedder.assembly._pipelines:
        monkeypatch.setattr(flow.budget, "state", BudgetState(spans_per_second=1.0))

    common = {each.name: set(instruments.common) for instruments in ALL for each in instruments.instruments}
    common[DURATION] = set(EXPORTER.common)
    found = {name: {key for point in points for key in point.attributes} for name, points in collected(reader).items()}
    assert found == {name: common[name] | set(attributes) for name, (_, _, attributes) in documented().items()}


def test_what_is_written_of_the_numbers_is_so(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Points of a pipeline, of a shedder while its budget is known, of a row; and the words for what came instead."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    processor = shedder.span_processor(RecordingExporter())
    shedder.assembly.control.summary.add("work", SpanKind.SERVER.value, True, 1)
    points, text = collected(reader), DOCUMENT.read_text()
    ledger, control, row = [
        sum(len(points.get(each.name, [])) for each in instruments.instruments)
        for instruments in (LEDGER, CONTROL, SUMMARY)
    ]
    assert f"A pipeline has {ledger} points, a shedder about {control + 1}. A row of the summary has {row}," in text
    assert f"{row * (MAX_ROWS + 1):,} points at the worst" in text
    for _, code in transport_http._CODES:
        assert f"`{code.replace(' ', '_')}`" in text or code == "timed out"
    processor.shutdown()
