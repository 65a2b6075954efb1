"""A process beside this one, whose lines are read as they come, and which never outlives it.

Called by the command's main thread; a reader thread owns the process's output and what is learnt from it. The rule:
once ``close`` has returned the process is gone, whatever state it was in at that moment, and so are those that it had
started.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

_START_SECONDS = 15.0
_LAST_WORDS_SECONDS = 5.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Self = TypeVar("Self", bound="Companion")


class StartError(Exception):
    """A process that is needed could not be started; the text says why."""


class Companion:
    """One running process; a context manager that ends it.

    ``ends_with_pipe``: it has a pipe as its standard input and ends when that ends, so also if we are killed.
    StartError if the system does not start it.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str] = os.environ,
        *,
        ends_with_pipe: bool = False,
        cwd: Path | None = None,
    ) -> None:
        self._output: deque[str] = deque(maxlen=20)
        try:
            # A session of its own: Ctrl-C in the terminal is for the command to act on, and not for its processes.
            self._process = subprocess.Popen(
                command,
                env=dict(environ),
                cwd=cwd,
                stdin=subprocess.PIPE if ends_with_pipe else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(str(error)) from error
        atexit.register(self.close)  # for a Ctrl-C that comes before a with-statement has it
        self._reader = threading.Thread(target=self._read, name="otel-shed-companion-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for raw in output:
                line = _COLOUR.sub("", raw.decode("utf-8", "replace")).rstrip()
                self._output.append(line)
                self._take(line)

    def _take(self, line: str) -> None:
        """Look at a line of its output, on the reader thread."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def let_go(self) -> None:
        """End its standard input, which asks it to come to its end."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within ``seconds``; if so, its output is read to the end."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(_LAST_WORDS_SECONDS)
        return True

    def close(self) -> None:
        """End the process and those that it started, whatever state they are in; its output is read to the end."""
        is_running = self.running
        self._kill_group()
        if is_running:
            self._process.kill()  # which takes effect on a stopped process too
            self._process.wait()
        self._reader.join(_LAST_WORDS_SECONDS)
        self.let_go()
        atexit.unregister(self.close)

    def _kill_group(self) -> None:
        """End what it has started too: its session is a group of its own, which is there while one of them is."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready()``; StartError, with the process gone, if it ends before that or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not ready():
                if not self.running:
                    self._reader.join(_LAST_WORDS_SECONDS)
                    said = "; ".join(line for line in self._output if line) or "nothing"
                    raise StartError(f"it ended with status {self._process.returncode} and said: {said}")
                if time.monotonic() > deadline:
                    raise StartError(f"it was not ready within {_START_SECONDS:.0f} s")
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise
