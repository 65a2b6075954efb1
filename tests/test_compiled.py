"""Whether the compiled parts are used: not without a build, not where they are not wanted, not when they are broken."""

from __future__ import annotations

import importlib.machinery
import logging
from pathlib import Path

import pytest

from otel_shed import compiled


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are, whatever the environment of the tests says."""
    monkeypatch.delenv("OTEL_SHED_PURE_PYTHON", raising=False)


def test_what_was_not_built_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    """Without an extension module there is none, and nothing is said."""
    assert compiled.load_extension("otel_shed.compiled._nothing") is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("value", "is_wanted"), [("true", False), (" True", False), ("false", True), ("", True), ("1", True)]
)
def test_the_variable_says_whether_they_are_wanted(
    value: str, is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only true, in any case, is true, as for every variable of OpenTelemetry."""
    monkeypatch.setenv("OTEL_SHED_PURE_PYTHON", value)
    assert (compiled.load_extension("math") is not None) is is_wanted


def test_a_broken_one_is_one_line_of_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An extension that cannot be loaded is left aside, and one line says so."""
    (tmp_path / f"broken_extension{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF, but no more")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.load_extension("broken_extension") is None
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, "otel_shed")]
