"""The build: with a compiler the compiled parts come with the package, without one it does without them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from otel_shed import compiled

PROJECT = Path(__file__).parent.parent.parent
SUITED = sys.implementation.name == "cpython"
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])

pytestmark = [
    pytest.mark.skipif(not (PROJECT / "setup.py").exists(), reason="not in a checkout"),
    pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="setuptools is too old to build with"),
]


NOTE = "otel_shed/compiled/not_built.txt"


def told_by_setup(*arguments: str | Path, cwd: Path = PROJECT, **environment: str) -> list[str]:
    """The lines of a build, both streams in one, as a front end shows them."""
    done = subprocess.run(
        [sys.executable, "setup.py", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def build(to: Path, **environment: str) -> list[str]:
    """Build the extension as pip does; what the build tells."""
    return told_by_setup("build_ext", "--build-lib", to / "lib", "--build-temp", to / "temp", **environment)


def extensions(to: Path) -> list[Path]:
    """What came of it."""
    return list(to.glob("lib/otel_shed/compiled/_extension.*"))


@pytest.mark.skipif(not SUITED, reason="not CPython")
@pytest.mark.parametrize("compiler", ["false", "/nonexistent/compiler"])
def test_without_a_compiler_the_build_goes_on(tmp_path: Path, compiler: str) -> None:
    """A compiler that fails, or is not there, costs the compiled parts; the last line and a note say so, and why."""
    lines = build(tmp_path, CC=compiler)
    assert extensions(tmp_path) == []
    assert lines[-1].startswith("otel-shed: built WITHOUT its compiled parts (")
    note = (tmp_path / "lib" / NOTE).read_text().strip()
    assert note in lines[-1]
    assert note in {
        "the C compiler false ended with status 1; what it said is in the build's output",
        "the C compiler /nonexistent/compiler is not there",
    }
    assert compiler in note


@pytest.mark.skipif(not SUITED or COMPILER is None, reason="there is no compiler, or it is not CPython")
def test_with_a_compiler_they_are_built(tmp_path: Path) -> None:
    """What is built can be loaded; there is not one warning that the compiler has to give, and no old note."""
    (tmp_path / "lib" / NOTE).parent.mkdir(parents=True)
    (tmp_path / "lib" / NOTE).write_text("of a build before")
    lines = build(tmp_path, CFLAGS="-Wall -Wextra -Werror")
    assert not [line for line in lines if "WITHOUT" in line]
    assert not (tmp_path / "lib" / NOTE).exists()
    (built,) = extensions(tmp_path)
    code = f"import sys; sys.path[:0] = [{str(built.parent)!r}]; import _extension; print(_extension.Encoder.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "Encoder", done.stderr


@pytest.mark.skipif(not SUITED, reason="not CPython")
@pytest.mark.parametrize("compiler", ["/nonexistent/compiler", ""])
def test_a_wheel_is_tagged_for_what_is_in_it(tmp_path: Path, compiler: str) -> None:
    """Without its compiled parts it is for any platform, with the reason in it; with them it is for this one."""
    if not compiler and COMPILER is None:
        pytest.skip("there is no compiler")
    source = tmp_path / "source"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "not_built.txt")
    shutil.copytree(PROJECT / "otel_shed", source / "otel_shed", ignore=ignored)
    environment = {"CC": compiler} if compiler else {"CFLAGS": "-O0"}
    lines = told_by_setup("-q", "bdist_wheel", "--dist-dir", tmp_path / "dist", cwd=source, **environment)
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    with_parts = [name for name in names if name.startswith("otel_shed/compiled/_extension.")]
    if compiler:
        assert wheel.name.endswith("-py3-none-any.whl")
        assert not [name for name in names if ".data/" in name]
        assert NOTE in names
        assert with_parts == []
        assert "WITHOUT its compiled parts" in lines[-1]
    else:
        assert sysconfig.get_platform().replace("-", "_").replace(".", "_") in wheel.name
        assert NOTE not in names
        assert len(with_parts) == 1


@pytest.mark.skipif(not SUITED or COMPILER is None, reason="there is no compiler, or it is not CPython")
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
