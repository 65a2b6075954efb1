"""The summary as metrics: its rows, and a histogram that adds up and that histogram_quantile can read."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind

from otel_shed import LoadShedder, Phase, ShedConfig
from otel_shed.metrics.summary import SUMMARY
from otel_shed.pipeline.summary import MAX_ROWS, Summary
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.metrics.readings import collected, in_a_child, values

SECOND = 1_000_000_000
NAMES = ("spans", "errors", "duration", "duration.max")


def rows(reader: InMemoryMetricReader, name: str) -> dict[tuple[str, str], float]:
    """The values of one metric by span name and kind."""
    return {
        (point.attributes["span.name"], point.attributes.get("span.kind", "")): point.value
        for point in collected(reader).get(f"otel_shed.summary.{name}", [])
    }


def buckets(summary: Summary) -> dict[str, int]:
    """The histogram of a summary with one row, as it is read."""
    (instrument,) = [each for each in SUMMARY.instruments if each.name.endswith("bucket")]
    return {str(attributes["le"]): int(value) for value, attributes in instrument.read(summary)}


def test_rows_are_those_of_stats(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Count, errors, total and max of what was shed, by name and kind as the spanmetrics connector writes them."""
    shedder = LoadShedder(ShedConfig(keep_share=0.0), meter_provider=provider)
    processor = shedder.span_processor(RecordingExporter())
    shedder.force_phase(Phase.SHED_OPTIONAL, "test")
    for name in ("GET /", "GET /", "POST /"):
        processor.on_end(ended_span(name))
    assert processor.force_flush()
    expected = shedder.stats().summary
    assert [(row.name, row.count) for row in expected] == [("GET /", 2), ("POST /", 1)]
    for name, field in zip(NAMES, ("count", "errors", "total", "max"), strict=True):
        assert rows(reader, name) == {(row.name, "SPAN_KIND_INTERNAL"): getattr(row, field) for row in expected}
    processor.shutdown()
    assert rows(reader, "spans") == {("GET /", "SPAN_KIND_INTERNAL"): 2, ("POST /", "SPAN_KIND_INTERNAL"): 1}


def test_every_row_has_the_same_bounds(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """So that they can be added up over names: a bound that is missing in one would make the sum go down."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    summary = shedder.assembly.control.summary
    summary.add("quick", SpanKind.SERVER.value, False, 1000)
    summary.add("slow", SpanKind.CLIENT.value, True, 100 * SECOND)
    bounds: dict[str, list[str]] = {}
    for point in collected(reader)["otel_shed.summary.duration.bucket"]:
        bounds.setdefault(point.attributes["span.name"], []).append(point.attributes["le"])
    assert bounds["quick"] == bounds["slow"]
    assert bounds["quick"][-1] == "+Inf"
    numbers = [float(bound) for bound in bounds["quick"]]
    assert numbers == sorted(numbers)
    assert (len(numbers), numbers[0], numbers[-2]) == (18, 2**20 / 1e9, 2**36 / 1e9)


@settings(max_examples=200)
@given(st.lists(st.integers(-SECOND, 2**60), min_size=1))
def test_buckets_are_exact(durations: list[int]) -> None:
    """Each bound has the spans that took at most so long, not an estimate; +Inf has all of them."""
    summary = Summary()
    for duration in durations:
        summary.add("work", SpanKind.SERVER.value, False, duration)
    for bound, count in buckets(summary).items():
        limit = math.inf if bound == "+Inf" else round(float(bound) * 1e9)
        assert count == sum(duration <= limit for duration in durations)


def test_points_are_bounded(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Parity D14: whatever the names are, 1,001 rows, the last of which is other and has no kind."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    for number in range(MAX_ROWS + 500):
        shedder.assembly.control.summary.add(f"GET /{number}", SpanKind.SERVER.value, False, SECOND)
    found = collected(reader)
    assert sum(len(points) for name, points in found.items() if name.startswith("otel_shed.summary.")) == 22_022
    assert rows(reader, "spans")["other", ""] == 500


def test_two_shedders_have_a_summary_each(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Told apart by the component's name; the same name in both is no conflict."""
    shedders = [LoadShedder(ShedConfig(), meter_provider=provider) for _ in range(2)]
    for count, shedder in enumerate(shedders, start=1):
        for _ in range(count):
            shedder.assembly.control.summary.add("work", SpanKind.SERVER.value, False, SECOND)
    assert list(values(reader, "otel_shed.summary.spans").values()) == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_sums_up_its_own(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """The parent's spans are in the parent's metrics."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    summary = shedder.assembly.control.summary
    summary.add("parent", SpanKind.SERVER.value, False, SECOND)

    def child() -> dict[tuple[str, str], float]:
        summary.add("child", SpanKind.SERVER.value, False, SECOND)
        return rows(reader, "spans")

    assert in_a_child(child) == {("child", "SPAN_KIND_SERVER"): 1}
