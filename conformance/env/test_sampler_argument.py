"""Runs sampler.json: OTEL_TRACES_SAMPLER_ARG is a ceiling, or one line and none; it never keeps tracing off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.sampler import AdaptiveSampler

ARGUMENT = "OTEL_TRACES_SAMPLER_ARG"
CASES = json.loads((Path(__file__).parent / "sampler.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("otel_shed.shedder._default", None)
    forget_warnings()
    yield
    forget_warnings()


@pytest.mark.parametrize("sampler", ["shed", "parentbased_shed"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_argument(
    sampler: str, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The entry point, called as the SDK calls it, gives a sampler with the ceiling, or without one and says so."""
    if case["text"] is not None:
        monkeypatch.setenv(ARGUMENT, case["text"])
    (entry_point,) = entry_points(group="opentelemetry_traces_sampler", name=sampler)
    made = entry_point.load()(os.environ.get(ARGUMENT))
    ceiling = "" if case.get("ceiling") is None else f",ceiling:{case['ceiling']}"
    assert f"AdaptiveSampler{{root:AlwaysOnSampler{ceiling}}}" in made.get_description()
    said = [record.getMessage().removeprefix(PREFIX) for record in caplog.records]
    assert len(said) == bool(case.get("bad")), said
    for line in said:
        assert line.startswith(f"{ARGUMENT}=")
        assert line.endswith(" is not a number from 0 to 1, or rate= and a number above 0; using no ceiling")
    if case.get("ceiling") != "0":
        assert made.should_sample(None, (1 << 128) - 1, "root").decision.is_sampled()


def test_who_decides_below_a_remote_parent() -> None:
    """``shed`` is a sampler of its own, as always_on is; ``parentbased_shed`` says what it is based on."""
    shed, parentbased = (
        entry_points(group="opentelemetry_traces_sampler", name=name)[name].load()("")
        for name in ("shed", "parentbased_shed")
    )
    assert isinstance(shed, AdaptiveSampler)
    assert shed.get_description().startswith("AdaptiveSampler{")
    assert parentbased.get_description().startswith("ParentBased{root:AdaptiveSampler{")


PROGRAM = """
from opentelemetry import trace
provider = trace.get_tracer_provider()
print(provider.get_tracer("program").start_span("work").is_recording(), provider.sampler.get_description())
"""


@pytest.mark.parametrize(("text", "recorded"), [("rate=5", True), ("0", False), ("lots", True)])
def test_under_the_launcher(text: str, recorded: bool, tmp_path: Path) -> None:
    """In a program, what is good holds, and what is bad is one line in the log."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ |= {"OTEL_PYTHON_DISTRO": "shed", "OTEL_TRACES_EXPORTER": "none", ARGUMENT: text}
    environ |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
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
    told = done.stdout.strip()
    assert told.startswith(f"{recorded} ParentBased{{root:AdaptiveSampler{{root:AlwaysOnSampler"), done.stderr
    assert ("ceiling" in told) == (text != "lots")
    warned = [line for line in done.stderr.splitlines() if line.startswith(PREFIX + ARGUMENT)]
    assert len(warned) == (text == "lots"), done.stderr
    assert "Traceback" not in done.stderr
