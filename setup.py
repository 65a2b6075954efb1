"""The compiled parts. Everything else about the package is in pyproject.toml.

They are optional: without a compiler, or where it fails, the package is installed without them and works the same, more
slowly. They are for CPython, with its interpreter lock or without: see otel_shed/compiled/locking.h. A package that is
built without them says so in the last line of the build, keeps the reason in a file for ``otel_shed.compiled_parts()``,
and is a wheel for any platform, which is what it is then.
"""

import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SUITED = sys.implementation.name == "cpython"
# On Windows the headers of the free-threaded build are those of the other one, and have to be told.
IS_TO_BE_TOLD = sys.platform == "win32" and bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# Where otel_shed/compiled/__init__.py looks for the reason.
NOTE = Path("otel_shed", "compiled", "not_built.txt")

extension = Extension(
    "otel_shed.compiled._extension",
    sources=sorted(glob("otel_shed/compiled/*.c")),
    depends=sorted(glob("otel_shed/compiled/*.h")),
    define_macros=[("Py_GIL_DISABLED", "1")] if IS_TO_BE_TOLD else [],
    extra_compile_args=[] if sys.platform == "win32" else ["-fvisibility=hidden"],
    optional=True,
)


class BuildExtension(build_ext):
    """Leaves a note beside the package's files where the extension could not be built, and none where it could."""

    failure = ""

    def run(self):
        super().run()
        for folder in [Path(self.build_lib), *([Path()] if self.inplace else [])]:
            note = folder / NOTE
            if self.failure:
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(f"{self.failure}\n", encoding="utf-8")
            else:
                note.unlink(missing_ok=True)

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:  # what follows of it is setuptools' to say
            self.failure = in_words(error)
            raise


def in_words(error):
    """Why the compiler built nothing, in one line; its own words are in what the build printed before."""
    cause = error
    while cause is not None:
        if isinstance(cause, subprocess.CalledProcessError):
            compiler, status = cause.cmd[0], cause.returncode
            return f"the C compiler {compiler} ended with status {status}; what it said is in the build's output"
        if isinstance(cause, FileNotFoundError) and cause.filename:
            return f"the C compiler {cause.filename} is not there"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


class Wheel(bdist_wheel):
    """Is not tagged like the one with the extension where there is none in it."""

    def run_command(self, command):
        super().run_command(command)
        if command == "build" and self.get_finalized_command("build_ext").failure:
            self.root_is_pure = True
            self.distribution.ext_modules = []  # or its files would be installed beside the pure ones


built = setup(ext_modules=[extension] if SUITED else [], cmdclass={"build_ext": BuildExtension, "bdist_wheel": Wheel})

if not SUITED:
    reason = "they are for CPython"
else:
    reason = built.get_command_obj("build_ext").failure if built.have_run.get("build_ext") else ""
if reason and (built.have_run.get("build") or built.have_run.get("build_ext")):
    sys.stdout.flush()
    sys.stderr.write(f"otel-shed: built WITHOUT its compiled parts ({reason}): it does the same, and costs more CPU\n")
    sys.stderr.flush()
