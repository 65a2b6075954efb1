"""Compression: what comes out is what any receiver reads, with the package isal and without it."""

from __future__ import annotations

import importlib.util
import logging
import sys
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_shed.log_limit import PREFIX
from otel_shed.otlp.compress import ISAL, compressed, compression_library

has_isal = importlib.util.find_spec("isal") is not None
LIBRARIES = {"zlib": zlib} | ({"isal": compression_library()} if has_isal else {})
every_library = pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
WINDOWS = {"gzip": 31, "deflate": 15}


@every_library
@pytest.mark.parametrize("encoding", WINDOWS)
@settings(max_examples=60, deadline=None)
@given(payload=st.binary() | st.integers(0, 300_000).map(bytes) | st.binary(max_size=9).map(lambda some: some * 20_000))
def test_what_is_compressed_is_read_by_zlib(library: Any, encoding: str, payload: bytes) -> None:
    """One whole stream, with nothing after it, in the content encoding that was asked for."""
    reader = zlib.decompressobj(WINDOWS[encoding])
    assert reader.decompress(compressed(payload, encoding, library)) == payload
    assert (reader.eof, reader.unused_data) == (True, b"")


@pytest.mark.skipif(not has_isal, reason="isal is not installed")
def test_isal_is_used_where_it_is_installed() -> None:
    """ISA-L's functions, not zlib's."""
    assert compression_library() is sys.modules[ISAL]


def test_without_isal_it_is_zlib(caplog: pytest.LogCaptureFixture) -> None:
    """Not installed is nothing to talk about."""
    assert compression_library("otel_shed.no_such_module") is zlib
    assert caplog.records == []


class Compressor:
    def __init__(self, output: bytes) -> None:
        self._output = output

    def compress(self, _: bytes) -> bytes:
        return self._output

    def flush(self) -> bytes:
        return b""


def _raises(*_: object, **__: object) -> None:
    raise OSError("no such instruction")


@pytest.mark.parametrize(
    "compressobj",
    [lambda level, wbits: Compressor(b"other"), lambda level, wbits: Compressor(zlib.compress(b"a")), _raises],
    ids=["garbage", "other bytes", "raises"],
)
def test_a_library_that_does_not_work_is_passed_over(
    compressobj: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried on a sample first; then zlib it is, with one line of warning."""
    name = f"isal_that_{compressobj.__name__}_{id(compressobj)}"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(compressobj=compressobj))  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "otel_shed"):
        assert compression_library(name) is zlib
    (record,) = caplog.records
    assert record.message.removeprefix(PREFIX).startswith(f"zlib compresses, more slowly: {name} does not work here: ")


def test_a_broken_installation_is_passed_over(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A module that cannot be loaded is one line of warning, not an exporter less."""
    (tmp_path / "isal_of_another_platform.py").write_text("raise ImportError('wrong ELF class')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.WARNING, "otel_shed"):
        assert compression_library("isal_of_another_platform") is zlib
    assert "wrong ELF class" in caplog.text
