"""Instruments: who reports through which provider, that each is there once, and that nobody is kept alive."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest
from opentelemetry.metrics import NoOpMeterProvider, get_meter_provider, set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.test.globals_test import reset_metrics_globals

from otel_shed.instruments import Instrument, Instruments, Kind, sdk_metrics_enabled


class Boiler:
    """Something with a temperature."""

    def __init__(self, degrees: int) -> None:
        self.degrees = degrees


def made() -> Instruments[Boiler]:
    return Instruments(
        "boilers",
        Instrument(
            name="degrees",
            kind=Kind.GAUGE,
            unit="Cel",
            description="How hot.",
            read=lambda boiler: [(boiler.degrees, {})],
        ),
        common=("name",),
    )


@pytest.fixture(autouse=True)
def nothing_global() -> Iterator[None]:
    reset_metrics_globals()  # type: ignore[no-untyped-call]
    yield
    reset_metrics_globals()  # type: ignore[no-untyped-call]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], shutdown_on_exit=False)


def degrees(reader: InMemoryMetricReader) -> dict[str, int]:
    """What is reported, by name."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    points = [
        (point.attributes["name"], point.value)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    assert len(points) == len(dict(points))
    return dict(points)


def test_components_share_the_instruments_of_a_provider(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Those that join later are reported like the first, by their attributes."""
    boilers, instruments = [Boiler(60), Boiler(70)], made()
    for number, boiler in enumerate(boilers):
        instruments.join(boiler, {"name": f"boiler/{number}"}, provider)
    assert degrees(reader) == {"boiler/0": 60, "boiler/1": 70}
    boilers[1].degrees = 75
    assert degrees(reader) == {"boiler/0": 60, "boiler/1": 75}


def test_joining_again_changes_nothing(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attributes are those that it came with, and the provider is asked for instruments once."""
    boiler, instruments = Boiler(60), made()
    asked: list[str] = []
    get_meter = provider.get_meter
    monkeypatch.setattr(provider, "get_meter", lambda name: (asked.append(name), get_meter(name))[1])
    for name in ("first", "second"):
        instruments.join(boiler, {"name": name}, provider)
    assert degrees(reader) == {"first": 60}
    assert asked == ["boilers"]


def test_given_and_then_global_is_there_once(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A component that was joined by both names before they came to be one provider's."""
    boiler, instruments = Boiler(60), made()
    instruments.join(boiler, {"name": "given"}, provider)
    instruments.join(boiler, {"name": "global"})
    set_meter_provider(provider)
    assert degrees(reader) == {"given": 60}


def test_the_stand_in_for_the_global_provider_is_the_global_provider(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    """Given by hand it is no other, and what joins it is reported by what is set later."""
    boiler, instruments = Boiler(60), made()
    instruments.join(boiler, {"name": "boiler"}, get_meter_provider())
    set_meter_provider(provider)
    instruments.join(boiler, {"name": "again"}, provider)
    assert degrees(reader) == {"boiler": 60}


def test_keep_no_component_alive(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Neither the instruments nor a provider, given or global, hold what they report."""
    boiler, instruments = Boiler(60), made()
    instruments.join(boiler, {"name": "given"}, provider)
    instruments.join(boiler, {"name": "global"})
    gone = weakref.ref(boiler)
    del boiler
    assert gone() is None
    assert degrees(reader) == {}


def test_keep_no_provider_alive() -> None:
    """A provider that its owner forgot is gone; its component may then join another."""
    boiler, instruments, reader = Boiler(60), made(), InMemoryMetricReader()
    provider = MeterProvider([], shutdown_on_exit=False)
    gone = weakref.ref(provider)
    instruments.join(boiler, {"name": "boiler"}, provider)
    del provider
    gc.collect()
    assert gone() is None
    other = MeterProvider([reader], shutdown_on_exit=False)
    instruments.join(boiler, {"name": "boiler"}, other)
    assert degrees(reader) == {"boiler": 60}


def test_a_provider_that_does_nothing_is_one() -> None:
    """With OTEL_SDK_DISABLED there is no other."""
    boiler = Boiler(60)
    made().join(boiler, {"name": "boiler"}, NoOpMeterProvider())


def test_join_from_many_threads(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """All are there, and the instruments are made once."""
    boilers, instruments = [Boiler(number) for number in range(16)], made()
    start = threading.Barrier(len(boilers))

    def join(boiler: Boiler) -> None:
        start.wait()
        instruments.join(boiler, {"name": str(boiler.degrees)}, provider)

    threads = [threading.Thread(target=join, args=(boiler,)) for boiler in boilers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert degrees(reader) == {str(number): number for number in range(16)}


def test_a_fork_leaves_nothing_locked(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A child whose parent was in the middle of a join can join."""
    boiler, instruments = Boiler(60), made()
    instruments._lock.acquire()
    instruments.after_fork_in_child()
    instruments.join(boiler, {"name": "boiler"}, provider)
    assert degrees(reader) == {"boiler": 60}


@pytest.mark.parametrize(("text", "enabled"), [(" True ", True), ("false", False), ("", False), ("1", False)])
def test_the_switch_is_the_sdk_s(text: str, enabled: bool) -> None:
    """Read as the SDK reads it: true in any case, and nothing else."""
    assert sdk_metrics_enabled({"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": text}) is enabled
    assert sdk_metrics_enabled({}) is False
