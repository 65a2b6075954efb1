"""A reader, its provider, and a global provider that is a test's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.test.globals_test import reset_metrics_globals

from otel_shed.instruments import SDK_METRICS_ENABLED, Instruments


@pytest.fixture(autouse=True)
def nothing_global(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No MeterProvider has been set yet, nothing of other tests would report to it, and the SDK's metrics are off."""
    gc.collect()
    for one in gc.get_objects():
        if type(one) is Instruments:  # what hangs in other tests' exporters is not collected
            monkeypatch.setattr(one, "_joined", ())
    monkeypatch.delenv(SDK_METRICS_ENABLED, raising=False)
    reset_metrics_globals()  # type: ignore[no-untyped-call]
    yield
    reset_metrics_globals()  # type: ignore[no-untyped-call]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> MeterProvider:
    return MeterProvider([reader], shutdown_on_exit=False)
