"""Bodies compressed for HTTP: by ISA-L where the package isal is installed (the extra of that name), else by zlib.

Owns the choice, made with the first exporter that compresses. The sending thread calls the rest. The rule: what comes
out is gzip or zlib as any receiver reads it, and the interpreter lock is let go meanwhile. (gRPC compresses in its own
core, outside the lock as well; its Python API takes no message that is compressed already.)
"""

from __future__ import annotations

import importlib
import logging
import zlib
from functools import cache
from typing import Any

ISAL = "isal.isal_zlib"

# The fastest level of either that finds repetitions. On spans, measured against the level that stock uses (9): ISA-L
# takes a twentieth of the time or less and zlib a quarter, and what they make is about a tenth larger.
_LEVEL = 1
# wbits of zlib.compressobj: 15 is the largest window, 16 more a gzip header. What HTTP calls deflate has zlib's header.
_WINDOWS = {"gzip": 31, "deflate": 15}


@cache
def compression_library(name: str = ISAL) -> Any:
    """The module with zlib's functions that is quickest here; one that does not work is one line of warning."""
    try:
        library = importlib.import_module(name)
    except ModuleNotFoundError:
        return zlib
    except Exception as error:
        return _without(name, error)
    sample = bytes(range(256)) * 8
    try:
        for encoding, window in _WINDOWS.items():
            if zlib.decompress(compressed(sample, encoding, library), wbits=window) != sample:
                return _without(name, encoding)
    except Exception as error:
        return _without(name, error)
    return library


def _without(name: str, why: object) -> Any:
    logging.getLogger("otel_shed").warning("zlib compresses, more slowly: %s does not work here: %r", name, why)
    return zlib


def compressed(payload: bytes, encoding: str, library: Any) -> bytes:
    """The payload in that content encoding, ``gzip`` or ``deflate``."""
    compressor = library.compressobj(_LEVEL, wbits=_WINDOWS[encoding])
    return bytes(compressor.compress(payload) + compressor.flush())
