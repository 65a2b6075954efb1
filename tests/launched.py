"""A process that a test starts, reads while it runs, and always stops: by its own id, its children by their group."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PORTS = range(
    20_000, 32_000
)  # below Linux's ephemeral ports: no client is given one of these while its server is away


def free_port() -> int:
    """A loopback port that nothing listens on; each process of a parallel run begins to look at a place of its own."""
    for step in range(len(_PORTS)):
        port = _PORTS[(os.getpid() * 131 + next(_asked) + step) % len(_PORTS)]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


_asked = iter(range(sys.maxsize))


def until(condition: Callable[[], object], *, timeout: float = 30.0, what: str | Callable[[], str] = "") -> None:
    """Return once ``condition`` holds; AssertionError with ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what() if callable(what) else what}")
        time.sleep(0.01)


def answers(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def bare_environment(variables: Mapping[str, str] = {}) -> dict[str, str]:
    """This process's environment without what OpenTelemetry and proxies read, and with ``variables``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "ROTEL_")) and not name.lower().endswith("_proxy")
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return kept | {"PATH": path, "PYTHONUNBUFFERED": "1"} | variables


class Launched:
    """A child process with its output, both streams, as a growing list of lines."""

    def __init__(
        self,
        command: Sequence[str | Path],
        variables: Mapping[str, str] = {},
        *,
        cwd: Path | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """``variables`` on top of ``bare_environment()``; ``on_line`` is called on the reading thread."""
        self.lines: list[str] = []
        self._on_line = on_line
        self._process = subprocess.Popen(
            [str(part) for part in command],
            env=bare_environment(variables),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, name=f"output of {self.pid}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = _COLOUR.sub("", raw.rstrip("\n"))
            if self._on_line is not None:
                self._on_line(line)
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_until_listening(self, *ports: int, timeout: float = 30.0) -> None:
        """Return once every port answers; AssertionError with the output if the process ends or takes too long."""

        def listening() -> bool:
            if self.returncode is not None:
                raise AssertionError(f"ended with {self.returncode} before it listened:\n{self.output}")
            return all(answers(port) for port in ports)

        until(listening, timeout=timeout, what=lambda: f"listening on {ports}:\n{self.output}")

    def wait_for_line(self, text: str, *, timeout: float = 30.0) -> str:
        """The first line that contains ``text``."""
        until(
            lambda: self._line(text) is not None or (self.returncode is not None and not self._reader.is_alive()),
            timeout=timeout,
            what=lambda: f"a line with {text!r}:\n{self.output}",
        )
        line = self._line(text)
        assert line is not None, f"ended with {self.returncode} without a line with {text!r}:\n{self.output}"
        return line

    def _line(self, text: str) -> str | None:
        return next((line for line in list(self.lines) if text in line), None)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the process, not to its children."""
        self._process.send_signal(signum)

    def wait(self, timeout: float) -> int:
        """The exit code, negative for a signal; AssertionError with the output after ``timeout`` seconds."""
        try:
            returncode = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output}") from None
        self._reader.join(5.0)
        return returncode

    def stop(self) -> None:
        """Kill it and every child that is left of it; may be called more than once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10.0)
        self._reader.join(5.0)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
