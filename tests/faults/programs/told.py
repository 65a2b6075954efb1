"""What the programs beside this file say: lines of a word and what belongs to it, and the library's log."""

import logging
import sys
import time


def say(*words: object) -> None:
    """A line, in one piece: other threads and other processes write to the same pipe."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Told(logging.Handler):
    """Says ``log``, the seconds since the beginning, and the line."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        say("log", round(time.monotonic() - self.began, 2), record.getMessage())


def tell_the_log() -> Told:
    """Have the library's log told from now on, here and nowhere else."""
    told = Told()
    logger = logging.getLogger("otel_shed")
    logger.addHandler(told)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    return told
