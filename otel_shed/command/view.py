"""What is seen while the demo runs: one row, rewritten in place on a terminal and printed now and then elsewhere.

``row`` and ``say`` are called by the demo's main thread, ``emit`` by whichever thread logs. The rule: everything that
is printed while the view is open goes through it, under one lock, so that no log line lands in the middle of the row.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from typing import TextIO

_CLEAR = "\r\x1b[K"


class LiveView(logging.Handler):
    """Rows of columns under one heading, with lines of text in between.

    interval: seconds between rows where they cannot be rewritten. It is a logging handler too, for the time of the
    show: put it on a logger, and take it off again before ``close``.
    """

    def __init__(self, out: TextIO, heading: str, *, interval: float = 2.0, in_place: bool | None = None) -> None:
        super().__init__()
        self._out = out
        self._heading = heading
        self._interval = interval
        self._in_place = _can_rewrite(out) if in_place is None else in_place
        self._shown = ""
        self._next_row = 0.0
        self._printing = threading.RLock()

    @property
    def refresh(self) -> float:
        """Seconds after which a new row is worth making."""
        return 0.2 if self._in_place else min(0.2, self._interval)

    def open(self) -> None:
        """Print the heading."""
        self.say(self._heading)

    def row(self, now: float, text: str, *, force: bool = False) -> None:
        """Show the row as it is ``now`` seconds into the show."""
        with self._printing:
            if self._in_place:
                # A row that wraps could not be rewritten.
                self._shown = text[: shutil.get_terminal_size().columns - 1]
                self._write(_CLEAR + self._shown)
            elif force or now >= self._next_row:
                self._next_row = now - now % self._interval + self._interval
                self._write(text + "\n")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        with self._printing:
            self._write(f"{_CLEAR}{text}\n{self._shown}" if self._shown else text + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log record; never raises, as logging has it."""
        try:
            self.say(f"  log: {record.levelname.lower()}: {record.getMessage()}")
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Leave the row as it was last."""
        with self._printing:
            if self._shown:
                self._write("\n")
            self._shown = ""
        super().close()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _can_rewrite(out: TextIO) -> bool:
    return out.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}
