"""The compiled parts: C beside the plain Python that does the same, where it was built and is wanted.

Owns nothing but what was found at import. The rule: nothing works only with them. They are built by ``pip install`` if
there is a compiler, need an interpreter with its lock, and are left aside with OTEL_SHED_PURE_PYTHON=true; whoever uses
one of them first compares what it makes with what the plain Python one does (but for an exchange, which makes nothing).
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

_logger = logging.getLogger("otel_shed")
_NAME = "otel_shed.compiled._extension"


def load_extension(name: str = _NAME) -> Any:
    """The extension module, or None where it was not built or is not wanted; a broken one is one line of warning."""
    if os.environ.get("OTEL_SHED_PURE_PYTHON", "").strip().lower() == "true":
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
    except Exception as error:  # built for another interpreter, or half installed
        _logger.warning("Plain Python is used: the compiled parts cannot be loaded: %s", error)
        return None


extension = load_extension()
