"""gRPC credentials that a package provides and a variable names."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.otlp import credentials
from otel_shed.otlp.credentials import VARIABLES, credentials_from_provider

MADE = grpc.ssl_channel_credentials()


@pytest.fixture(autouse=True)
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three installed providers: one that works, one that raises, one that makes something else."""
    forget_warnings()
    installed: dict[str, Any] = {"works": lambda: MADE, "raises": lambda: 1 / 0, "other": lambda: "credentials"}

    def entry_points(*, group: str, name: str) -> list[SimpleNamespace]:
        assert group == "opentelemetry_otlp_credential_provider"
        return [SimpleNamespace(load=lambda: installed[name])] if name in installed else []

    monkeypatch.setattr(credentials, "entry_points", entry_points)
    yield
    forget_warnings()


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_provider_that_works(variable: str) -> None:
    """Its credentials are used, whichever of the two variables names it."""
    assert credentials_from_provider({variable: "works"}) is MADE


def test_the_variable_for_traces_comes_first() -> None:
    """One that cannot be used leaves it to the other."""
    traces, generic = VARIABLES
    assert credentials_from_provider({traces: "raises", generic: "works"}) is MADE
    assert credentials_from_provider({}) is None


@pytest.mark.parametrize("name", ["raises", "other", "absent"])
def test_a_provider_that_does_not_work(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One warning that names variable and provider; the exporter goes on without."""
    assert credentials_from_provider({VARIABLES[0]: name}) is None
    (line,) = (record.getMessage().removeprefix(PREFIX) for record in caplog.records)
    assert line.startswith(f"{VARIABLES[0]}='{name}' is not ")
