"""The build: with a compiler the compiled parts come with the package, without one it does without them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from otel_shed import compiled

PROJECT = Path(__file__).parent.parent.parent
SUITED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])

pytestmark = [
    pytest.mark.skipif(not (PROJECT / "setup.py").exists(), reason="not in a checkout"),
    pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="setuptools is too old to build with"),
]


def build(to: Path, **environment: str) -> list[Path]:
    """Build the extension as pip does; returns what came of it."""
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        str(to / "lib"),
        "--build-temp",
        str(to / "temp"),
    ]
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return list(to.glob("lib/otel_shed/compiled/_extension.*"))


@pytest.mark.parametrize("compiler", ["false", "/nonexistent/compiler"])
def test_without_a_compiler_the_build_goes_on(tmp_path: Path, compiler: str) -> None:
    """A compiler that fails, or is not there, costs the compiled parts and nothing else."""
    assert build(tmp_path, CC=compiler) == []


@pytest.mark.skipif(not SUITED or COMPILER is None, reason="there is no compiler, or an interpreter without its lock")
def test_with_a_compiler_they_are_built(tmp_path: Path) -> None:
    """What is built can be loaded; there is not one warning that the compiler has to give."""
    (built,) = build(tmp_path, CFLAGS="-Wall -Wextra -Werror")
    code = f"import sys; sys.path[:0] = [{str(built.parent)!r}]; import _extension; print(_extension.Encoder.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "Encoder", done.stderr


@pytest.mark.skipif(not SUITED or COMPILER is None, reason="there is no compiler, or an interpreter without its lock")
def test_they_are_in_use_where_they_can_be() -> None:
    """Here, where there is a compiler, the installed package has its compiled parts, unless they are not wanted."""
    is_wanted = os.environ.get("OTEL_SHED_PURE_PYTHON", "").strip().lower() != "true"
    assert (compiled.extension is not None) is is_wanted
    encoder = import_module("otel_shed.otlp.proof").encode_span
    assert (type(encoder).__name__ == "builtin_function_or_method") is is_wanted


@pytest.mark.parametrize("value", ["true", " TRUE "])
def test_they_can_be_switched_off(value: str) -> None:
    """OTEL_SHED_PURE_PYTHON=true leaves them aside, record and encoder, without a word."""
    code = (
        "import logging; logging.basicConfig(level=1)\n"
        "from otel_shed.otlp.proof import encode_span; from otel_shed import record\n"
        "print(encode_span.__name__, record.SpanRecord is record.PlainSpanRecord)"
    )
    environment = os.environ | {"OTEL_SHED_PURE_PYTHON": value}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "encode_slots True"
    assert "otel_shed" not in done.stderr
