"""The compiled parts: C beside the plain Python that does the same, where it was built and is wanted.

Owns nothing but what was found at import. The rule: nothing works only with them. They are built by ``pip install`` if
there is a compiler, need no interpreter lock, and are left aside with OTEL_SHED_PURE_PYTHON=true; whoever uses one of
them first compares what it makes with what the plain Python one does (but for an exchange, which makes nothing).
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

PURE_PYTHON = "OTEL_SHED_PURE_PYTHON"
"""The variable that leaves them aside."""

_logger = logging.getLogger("otel_shed")
_NAME = "otel_shed.compiled._extension"
# What setup.py leaves here where it could not build them.
_NOTE = Path(__file__).parent / "not_built.txt"


def load_extension(name: str = _NAME) -> tuple[Any, str]:
    """The extension module, and "" ; or None, and why: a broken one is one line of warning, no other is."""
    if os.environ.get(PURE_PYTHON, "").strip().lower() == "true":
        return None, f"{PURE_PYTHON}=true"
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError:
        return None, _why_not_built()
    except Exception as error:  # built for another interpreter, or half installed
        _logger.warning("Plain Python is used: the compiled parts cannot be loaded: %s", error)
        return None, f"they cannot be loaded: {error}"


def _why_not_built(note: Path = _NOTE) -> str:
    if sys.implementation.name != "cpython":
        return f"they are for CPython, and this is {sys.implementation.name}"
    try:
        found = note.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        found = ""
    return f"they were not built when otel-shed was installed: {found or 'there was no C compiler, or it failed'}"


extension, why_not = load_extension()
"""None without them, and then the reason why."""
