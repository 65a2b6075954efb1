"""The library's log: every line names the library, and there is one line a minute for each thing that goes wrong.

Owns when each kind of line was last written. Called by any thread, also in the middle of ``span.end()``: it takes no
lock, so two threads that fail in the same microsecond may both write a line, and none ever waits for another. Imported
with the package, so that no line is written before its logger has its filter.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Hashable
from typing import Any

from otel_shed.interruption import is_applications

PREFIX = "otel-shed: "

# An exception of an exporter that is not ours may tell its whole URL; a query, and what stands before a host, may be a
# key. What we know to be secret is taken out where it is known (otlp/secrets.py).
_QUERY = re.compile(r"(?<=[\w/])\?[^\s\"'<>()]*=[^\s\"'<>()]*")
_USER = re.compile(r"(?<=://)[^\s/@\"']+@")


def _named(record: logging.LogRecord) -> bool:
    """Begin the line with the library's name: the formats that programs use often leave the logger's out."""
    if not str(record.msg).startswith(PREFIX):
        record.msg = f"{PREFIX}{record.msg}"
    return True


def _without_keys(record: logging.LogRecord) -> bool:
    """Hide the queries and users of URLs in what a line is made of."""
    if isinstance(record.args, tuple):
        record.args = tuple(_public(value) for value in record.args)
    return True


def _public(value: object) -> object:
    if not isinstance(value, (str, BaseException)):
        return value
    try:
        text = str(value)
    except Exception:  # of an exception that cannot say what it is; logging deals with that
        return value
    return _USER.sub("<hidden>@", _QUERY.sub("?<hidden>", text))


logging.getLogger("otel_shed").addFilter(_named)
logging.getLogger("otel_shed").addFilter(_without_keys)


def counted(count: int, noun: str) -> str:
    """A number of things in words: ``1 span``, ``4,380 spans``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


class LogLimit:
    """Warnings on ``logger``, at most one every ``interval`` seconds for each key; the first at once.

    Keys are a closed set of the caller's: one is remembered for each for as long as this lives.
    """

    def __init__(
        self, logger: logging.Logger, interval: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._interval = interval
        self._clock = clock
        self._state: dict[Hashable, tuple[float, int]] = {}  # when the last line was written, how many were not since

    def is_due(self, key: Hashable) -> bool:
        """Whether a line of this kind would be written now."""
        written = self._state.get(key, (None, 0))[0]
        return written is None or self._clock() - written >= self._interval

    def warning(self, key: Hashable, msg: str, *args: object, **options: Any) -> None:
        """Write the line if it is time for one; ``options`` are those of logging (``exc_info``, ``extra``)."""
        now = self._clock()
        written, suppressed = self._state.get(key, (None, 0))
        if written is not None and now - written < self._interval:
            self._state[key] = (written, suppressed + 1)
            return
        self._state[key] = (now, 0)
        if suppressed:
            msg += " (and %d more like this since the last such line)"
            args = (*args, suppressed)
        try:
            self._logger.warning(msg, *args, **options)
        except Exception as error:  # of a handler for log records; this may be the middle of the program's Span.end()
            if is_applications(error):
                raise
