"""The control as metrics: what stats() says of phase, pressure, probability and budget."""

from __future__ import annotations

import os

import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_shed import LoadShedder, Phase, PressureReading, ShedConfig, SheddingSpanProcessor
from otel_shed.control.ceiling import FixedCeiling
from otel_shed.instruments import SDK_METRICS_ENABLED
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.metrics.readings import collected, in_a_child, values

PHASE = "otel_shed.phase"
SIGNAL = "otel_shed.signal"


class Dial:
    """A signal that a test turns."""

    name = "dial"

    def __init__(self, pressure: float = 0.0) -> None:
        self.pressure = pressure

    def read(self, now: float) -> PressureReading:
        return PressureReading(self.pressure, "turned")


def phases(reader: InMemoryMetricReader) -> set[str]:
    """The phases that have a 1, where there is one shedder."""
    found = values(reader, PHASE, PHASE)
    assert set(found) == {phase.value for phase in Phase}
    assert set(found.values()) <= {0, 1}
    return {phase for phase, value in found.items() if value}


def test_one_phase_is_1_and_all_others_are_0(
    reader: InMemoryMetricReader, provider: MeterProvider, clock: FakeClock
) -> None:
    """Found as any reader of stats finds it: evaluated when it is asked for, if that is due."""
    dial = Dial()
    shedder = LoadShedder(ShedConfig(), signals=[dial], meter_provider=provider, clock=clock)
    assert phases(reader) == {"normal"}
    dial.pressure = 0.8
    clock.advance(0.2)
    assert phases(reader) == {"degrade"} == {shedder.stats().phase.value}
    shedder.force_phase(Phase.SHED_OPTIONAL, "test")
    assert phases(reader) == {"shed_optional"}


def test_pressure_is_there_by_signal(reader: InMemoryMetricReader, provider: MeterProvider, clock: FakeClock) -> None:
    """All signals, not only the worst; of two pipelines' signals of one name the worse."""
    dials = [Dial(0.3), Dial(0.6)]
    shedder = LoadShedder(ShedConfig(), signals=dials, meter_provider=provider, clock=clock)
    processors = [shedder.span_processor(RecordingExporter()) for _ in range(2)]
    clock.advance(0.2)
    pressures = values(reader, "otel_shed.pressure", SIGNAL)
    assert pressures["dial"] == 0.6 == shedder.stats().pressure
    assert pressures == {
        **dict.fromkeys(["intake_fill", "drop_rate", "held_bytes", "memory"], 0.0),
        **dict.fromkeys(["throttled", "export_failures", "export_latency", "over_budget"], 0.0),
        "dial": 0.6,
    }
    for processor in processors:
        processor.shutdown()


def test_probability_is_that_of_stats(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """1 where nothing is shed; the ceiling where a sampler has one."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    assert list(values(reader, "otel_shed.probability").values()) == [1.0]
    shedder.sampler(ceiling=FixedCeiling(0.25))
    assert list(values(reader, "otel_shed.probability").values()) == [shedder.stats().sample_probability] == [0.25]


def test_budget_is_there_once_it_is_known(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit known is no point, which is not the same as none allowed."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    processor = shedder.span_processor(RecordingExporter())
    assert "otel_shed.budget" not in collected(reader)
    (flow,) = shedder.assembly.control._flows
    monkeypatch.setattr(flow.budget, "state", type(flow.state)(spans_per_second=480.0))
    assert list(values(reader, "otel_shed.budget").values()) == [shedder.stats().budget_spans_per_second] == [480.0]
    processor.shutdown()


def test_two_shedders_are_told_apart(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """By the component's name, which all of a shedder's own metrics share."""
    shedders = [LoadShedder(ShedConfig(), meter_provider=provider) for _ in range(2)]
    shedders[0].force_phase(Phase.DEGRADE, "test")
    names = list(values(reader, "otel_shed.probability"))
    assert len(names) == 2
    degraded = [point.attributes for point in collected(reader)[PHASE] if point.value and "degrade" in str(point)]
    assert [attributes["otel.component.name"] for attributes in degraded] == names[:1]
    assert {attributes["otel.component.type"] for attributes in degraded} == {"otel_shed.LoadShedder"}


def test_a_provider_that_is_set_late_sees_the_state(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Neither a switch nor an order is needed: a shedder that is there before the provider is seen."""
    shedder = LoadShedder(ShedConfig())
    shedder.force_phase(Phase.DEGRADE, "test")
    set_meter_provider(provider)
    assert phases(reader) == {"degrade"}


def test_the_conventions_scope_is_the_first(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made for the stock processor, the SDK's own tests for one, reads the first that there is."""
    monkeypatch.setenv(SDK_METRICS_ENABLED, "true")
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    data = reader.get_metrics_data()
    assert data is not None
    names = [scope.scope.name for scope in data.resource_metrics[0].scope_metrics]
    assert names == ["opentelemetry-sdk", "otel_shed"]
    processor.shutdown()


def test_disabled_has_none(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """With enabled false it is exactly the stock SDK."""
    shedder = LoadShedder(ShedConfig(enabled=False), meter_provider=provider)
    shedder.span_processor(RecordingExporter()).shutdown()
    assert collected(reader) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_goes_on_in_the_phase(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """What was learned holds in the child too, and can be read there."""
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    shedder.force_phase(Phase.DEGRADE, "test")
    assert in_a_child(lambda: phases(reader)) == {"degrade"}
