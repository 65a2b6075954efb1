"""The compiled parts. Everything else about the package is in pyproject.toml.

They are optional: without a compiler, or where it fails, the package is installed without them and works the same, more
slowly. They rely on the interpreter lock, so an interpreter without one is not offered them.
"""

import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

SUITED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

extension = Extension(
    "otel_shed.compiled._extension",
    sources=sorted(glob("otel_shed/compiled/*.c")),
    depends=sorted(glob("otel_shed/compiled/*.h")),
    extra_compile_args=[] if sys.platform == "win32" else ["-fvisibility=hidden"],
    optional=True,
)

setup(ext_modules=[extension] if SUITED else [])
