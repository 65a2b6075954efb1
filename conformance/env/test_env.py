"""Runs the cases beside it: no variable, whatever stands in it, turns tracing off, and a bad one logs one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_shed.config import SETTINGS, ShedConfig
from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.processor import SheddingSpanProcessor
from otel_shed.shedder import LoadShedder
from otel_shed.testing.receiver import Receiver

HERE = Path(__file__).parent


def load(name: str) -> Any:
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def as_json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


ROWS: dict[str, dict[str, Any]] = load("settings.json")
CASES = [(variable, text) for variable, row in ROWS.items() for text in load("texts.json")[row["kind"]]]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    forget_warnings()
    yield
    forget_warnings()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removeprefix(PREFIX) for record in caplog.records]


def delivers() -> bool:
    """Whether a span processor made of the environment as it is brings a span to its exporter."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SheddingSpanProcessor(exporter))
    provider.get_tracer("conformance").start_span("one").end()
    provider.force_flush()
    provider.shutdown()
    return [span.name for span in exporter.get_finished_spans()] == ["one"]


def test_every_setting_has_its_cases() -> None:
    """The table of the cases and the table of the library list the same settings, variables and defaults."""
    assert {variable: (row["setting"], row["default"]) for variable, row in ROWS.items()} == {
        setting.variable: (setting.name, as_json(setting.default)) for setting in SETTINGS
    }


@pytest.mark.parametrize(("variable", "text"), CASES, ids=[f"{variable}: {text['case']}" for variable, text in CASES])
def test_one_variable(
    variable: str, text: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One variable with one text gives what the case says, and a span is delivered all the same."""
    row = ROWS[variable]
    meaning = text["is"]
    if meaning == "zero":
        meaning = 0 if row["zero"] == "good" else "bad"
    elif meaning == "good":
        meaning = row["good"]
    if text["text"] is not None:
        monkeypatch.setenv(variable, text["text"].replace("GOOD", str(row.get("good"))))
    value = as_json(getattr(ShedConfig.from_env(), row["setting"]))
    assert value == (row["default"] if meaning in ("unset", "bad") else meaning)
    assert delivers()
    said = [line for line in lines(caplog) if variable in line]
    assert len(said) == (meaning == "bad"), said
    assert all(text["text"].strip() in line or not text["text"].isascii() for line in said)


@pytest.mark.parametrize("case", load("conflicts.json"), ids=lambda case: case["case"])
def test_a_conflict(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Variables that cannot hold together are clamped, with one warning, and a span is delivered all the same."""
    for variable, text in case["environ"].items():
        monkeypatch.setenv(variable, text)
    config = ShedConfig.from_env()
    assert {name: getattr(config, name) for name in case["settings"]} == case["settings"]
    assert delivers()
    assert len(lines(caplog)) == 1


OTLP_CASES = [
    (row, f"OTEL_EXPORTER_OTLP_{level}{row['variable']}", text)
    for row in load("otlp.json")
    for level in ("", "TRACES_")
    for text in row["texts"]
]


@pytest.mark.parametrize(("row", "variable", "text"), OTLP_CASES)
def test_one_variable_of_the_exporter(
    row: dict[str, Any], variable: str, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that cannot be used makes the exporter that there is without it, and one warning for all that read it.

    A protocol that there is not makes the exporter of the one that the warning names.
    """
    for name, value in row.get("environ", {}).items():
        monkeypatch.setenv(name, value)
    instead = row.get("counts_as")
    given = {} if instead else {"protocol": row.get("protocol", "http/protobuf")}
    expected = OTLPSpanExporter(**(given or {"protocol": instead})).settings
    monkeypatch.setenv(variable, text)
    for _ in range(2):
        exporter = OTLPSpanExporter(**given)
        assert exporter.settings == expected
        SheddingSpanProcessor(exporter).shutdown()
    (said,) = lines(caplog)
    assert variable in said
    assert instead is None or said.endswith(f"using {instead}")


def test_every_variable_of_the_exporter(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With all of them bad but the address, each logs one line and the span arrives."""
    bad = {variable: text for row, variable, text in OTLP_CASES if row.get("protocol") != "grpc"}
    del bad["OTEL_EXPORTER_OTLP_ENDPOINT"]
    del bad["OTEL_EXPORTER_OTLP_PROTOCOL"]
    with Receiver(grpc_port=None) as receiver:
        good = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        for variable, text in {**bad, **good}.items():
            monkeypatch.setenv(variable, text)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(LoadShedder().span_processor())
        provider.get_tracer("conformance").start_span("one").end()
        assert provider.force_flush()
        provider.shutdown()
        assert receiver.counts.spans == 1
    assert sorted(line.partition("=")[0] for line in lines(caplog)) == sorted(bad)


PROGRAM = """
from opentelemetry import trace
provider = trace.get_tracer_provider()
provider.get_tracer("program").start_span("work").end()
provider.force_flush()
print([type(each).__name__ for each in provider._active_span_processor._span_processors])
"""


@pytest.mark.parametrize("case", load("sdk.json"), ids=lambda case: case["case"])
def test_variables_of_the_sdk(case: dict[str, Any], tmp_path: Path) -> None:
    """Under the launcher, what keeps the stock SDK from starting is one line each, and the span arrives."""
    with Receiver(grpc_port=None) as receiver:
        environ = {
            "OTEL_PYTHON_DISTRO": "shed",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        }
        environ |= {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | case["environ"]
        launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
        done = subprocess.run(
            [launcher, sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.strip() == "['SheddingSpanProcessor']", done.stderr
        assert receiver.counts.spans == 1
    warned = [line for line in done.stderr.splitlines() if line.startswith(f"{PREFIX}OTEL_")]
    assert len(warned) == case["warned"], done.stderr
    assert len({line.partition("=")[0] for line in warned}) == len(warned)
    assert "Traceback" not in done.stderr
