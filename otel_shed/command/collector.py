"""A collector on loopback, in a process of its own, that can be stopped, let go on, and asked what it received.

Called by the demo's main thread; a reader thread owns the process's output and the count that is in it. The rule: once
``close`` has returned the process is gone, also when it was stopped at that moment.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

import psutil

from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF

Kind = Literal["auto", "rotel", "receiver"]

_START_SECONDS = 15.0
_LAST_WORDS_SECONDS = 5.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The same line has resource_spans=1.
_RECEIVED = re.compile(r"(?<!resource_)spans=(\d+)")


class CollectorError(Exception):
    """The collector could not be started; the text says why."""


class Collector:
    """One running process; a context manager that ends it.

    name: which one runs, in words. endpoints: by protocol, as OTEL_EXPORTER_OTLP_ENDPOINT wants them.
    """

    name = ""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, stdin: int = subprocess.DEVNULL) -> None:
        self.endpoints: dict[str, str] = {}
        self._output: deque[str] = deque(maxlen=20)
        # A session of its own: Ctrl-C in the terminal is for the demo to act on, and not for the collector.
        self._process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        atexit.register(self.close)  # for a Ctrl-C that comes before a with-statement has it
        self._reader = threading.Thread(target=self._read, name="otel-shed-collector-output", daemon=True)
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
    def received(self) -> int | None:
        """Spans received as far as is known by now; None if the collector tells only at its end."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).suspend()

    def go_on(self) -> None:
        """SIGCONT."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).resume()

    def finish(self) -> int | None:
        """End it in good order, which has it work off what it took; the spans that it received in all."""
        if self.running:
            self.go_on()
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_SECONDS)
        self.close()
        return self.received

    def close(self) -> None:
        """End the process, whatever state it is in; its output is read to the end."""
        if self.running:
            self._process.kill()  # which takes effect on a stopped process too
            self._process.wait()
        self._reader.join(_LAST_WORDS_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()
        atexit.unregister(self.close)

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        """Return once ``ready()``; CollectorError, with the process gone, if it ends before that or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not ready():
                if not self.running:
                    self._reader.join(_LAST_WORDS_SECONDS)
                    said = "; ".join(line for line in self._output if line) or "nothing"
                    raise CollectorError(f"it ended with status {self._process.returncode} and said: {said}")
                if time.monotonic() > deadline:
                    raise CollectorError(f"it was not ready within {_START_SECONDS:.0f} s")
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise


class Rotel(Collector):
    """rotel, an OTLP collector from another hand; it counts what it receives in its debug log."""

    def __init__(self) -> None:
        self.name = f"rotel {importlib.metadata.version('rotel')}"
        grpc_port, http_port = _free_ports(2)
        self._received = 0
        super().__init__(
            [
                str(_rotel_binary()),
                "start",
                *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"),
                *("--otlp-http-endpoint", f"127.0.0.1:{http_port}"),
                *("--exporter", "blackhole"),
                *("--debug-log", "traces"),
            ],
            # Not what somebody has set for a rotel of theirs.
            {name: value for name, value in os.environ.items() if not name.startswith("ROTEL_")} | {"RUST_LOG": "info"},
        )
        self.endpoints = {GRPC: f"http://127.0.0.1:{grpc_port}", HTTP_PROTOBUF: f"http://127.0.0.1:{http_port}"}
        self._wait_until(lambda: _accepts(grpc_port) and _accepts(http_port))

    def _take(self, line: str) -> None:
        self._received += sum(int(count) for count in _RECEIVED.findall(line))

    @property
    def received(self) -> int | None:
        return self._received


def _rotel_binary() -> Path:
    specification = importlib.util.find_spec("rotel")
    if specification is None or not specification.submodule_search_locations:
        raise CollectorError("it is not installed")
    binary = Path(specification.submodule_search_locations[0]) / "rotel-agent"
    if not os.access(binary, os.X_OK):
        raise CollectorError("its wheel has no program for this platform")
    return binary


class OwnReceiver(Collector):
    """The receiver of otel_shed.testing; it tells its ports in its first line, and its counts when it ends."""

    name = "the receiver of otel_shed.testing"

    def __init__(self) -> None:
        self._said: list[dict[str, object]] = []
        super().__init__(
            [sys.executable, "-m", "otel_shed.testing.receiver", "--grpc-port", "0", "--http-port", "0"],
            os.environ,
            stdin=subprocess.PIPE,  # it ends with this pipe, so also if we are killed
        )
        self._wait_until(lambda: bool(self._said))
        ports = self._said[0]
        self.endpoints = {
            GRPC: f"http://127.0.0.1:{ports['grpc_port']}",
            HTTP_PROTOBUF: f"http://127.0.0.1:{ports['http_port']}",
        }

    def _take(self, line: str) -> None:
        with suppress(json.JSONDecodeError):
            if isinstance(said := json.loads(line), dict):
                self._said.append(said)

    @property
    def received(self) -> int | None:
        spans = self._said[-1].get("spans") if len(self._said) > 1 else None
        return spans if isinstance(spans, int) else None


def start_collector(kind: Kind = "auto") -> tuple[Collector, str]:
    """Start one, and say why it is not rotel, if it is not: an empty text if nothing hindered that.

    ``auto`` takes rotel where it is there and runs, and else the receiver. Raises CollectorError.
    """
    why = ""
    if kind != "receiver":
        try:
            _rotel_binary()
            return Rotel(), ""
        except (CollectorError, OSError) as error:
            if kind == "rotel":
                raise CollectorError(f"rotel cannot be used here: {error}") from error
            why = f"rotel cannot be used here: {error}"
    try:
        return OwnReceiver(), why
    except OSError as error:
        raise CollectorError(str(error)) from error


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
        return True
    except OSError:
        return False
