"""Whether the compiled parts are used: not without a build, not where they are not wanted, not when they are broken."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
from pathlib import Path
from unittest import mock

import pytest

import otel_shed
from otel_shed import compiled
from otel_shed.otlp import proof
from otel_shed.otlp.encode import encode_public


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are, whatever the environment of the tests says."""
    monkeypatch.delenv("OTEL_SHED_PURE_PYTHON", raising=False)


def test_what_was_not_built_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    """Without an extension module there is none, and nothing is said."""
    assert compiled.load_extension("otel_shed.compiled._nothing")[0] is None
    assert caplog.records == []


@pytest.mark.parametrize(
    ("value", "is_wanted"), [("true", False), (" True", False), ("false", True), ("", True), ("1", True)]
)
def test_the_variable_says_whether_they_are_wanted(
    value: str, is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only true, in any case, is true, as for every variable of OpenTelemetry."""
    monkeypatch.setenv("OTEL_SHED_PURE_PYTHON", value)
    assert (compiled.load_extension("math")[0] is not None) is is_wanted


def test_a_broken_one_is_one_line_of_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An extension that cannot be loaded is left aside, and one line says so."""
    (tmp_path / f"broken_extension{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF, but no more")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.load_extension("broken_extension") == (None, mock.ANY)
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, "otel_shed")]


def test_why_they_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, the build's own note, the interpreter, or what could not be loaded: each is told in words."""
    note = tmp_path / "not_built.txt"
    assert compiled._why_not_built(note).endswith("there was no C compiler, or it failed")
    note.write_text("command 'cc' failed\n")
    assert compiled._why_not_built(note) == "they were not built when otel-shed was installed: command 'cc' failed"
    monkeypatch.setattr(sys, "implementation", mock.Mock())
    sys.implementation.name = "pypy"
    assert compiled._why_not_built(note) == "they are for CPython, and this is pypy"
    monkeypatch.setenv("OTEL_SHED_PURE_PYTHON", "true")
    assert compiled.load_extension() == (None, "OTEL_SHED_PURE_PYTHON=true")


def test_what_is_told_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """compiled_parts() is true where spans are encoded in C, and else says why they are not."""
    parts = otel_shed.compiled_parts()
    assert bool(parts) is parts.in_use is (parts.why_not == "")
    if compiled.extension is not None:
        assert str(parts) == "in use"
        assert not otel_shed.compiled_parts(encode_public)
        assert "not what the installed OpenTelemetry encoder makes" in otel_shed.compiled_parts(encode_public).why_not
    monkeypatch.setattr(proof, "extension", None)
    monkeypatch.setattr(proof, "why_not", "a reason")
    assert str(otel_shed.compiled_parts()) == "not in use: a reason"


def test_the_version() -> None:
    """__version__ is that of the installed package."""
    assert otel_shed.__version__[0].isdigit()
