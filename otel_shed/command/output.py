"""The files that a command writes when it is done: whether they can be written is found out before it begins.

Called on the main thread. The rule: a file that is there keeps what is in it until it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class OutputError(Exception):
    """A file cannot be written; the text says which, and why.

    It is no OSError: one of those may come from the terminal, or from the pipe that reads what the command prints.
    """


def check_writable(files: Iterable[Path], *, folder: Path | None = None) -> None:
    """OutputError if one of the files cannot be written, or ``folder``, which is made if need be, cannot be had."""
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            is_new = not file.exists()
            with file.open("a"):
                pass
            if is_new:
                file.unlink()
    except OSError as error:
        raise OutputError(str(error)) from error
