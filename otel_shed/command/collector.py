"""A collector on loopback, in a process of its own, that can be stopped, let go on, and asked what it received.

Called by the command's main thread; the reader thread of each collector owns its count.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil

from otel_shed.command.companion import Companion, StartError
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF

Kind = Literal["auto", "rotel", "receiver"]

_LAST_WORDS_SECONDS = 5.0
# The same line has resource_spans=1.
_RECEIVED = re.compile(r"(?<!resource_)spans=(\d+)")


class Collector(Companion):
    """name: which one runs, in words. endpoints: by protocol, as OTEL_EXPORTER_OTLP_ENDPOINT wants them."""

    name = ""
    endpoints: dict[str, str]

    @property
    def received(self) -> int | None:
        """Spans received as far as is known by now; None if the collector tells only at its end."""
        raise NotImplementedError

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
        self.wait(_LAST_WORDS_SECONDS)
        self.close()
        return self.received


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
        raise StartError("it is not installed")
    binary = Path(specification.submodule_search_locations[0]) / "rotel-agent"
    if not os.access(binary, os.X_OK):
        raise StartError("its wheel has no program for this platform")
    return binary


class OwnReceiver(Collector):
    """The receiver of otel_shed.testing; it tells its ports in its first line, and its counts when it ends."""

    name = "the receiver of otel_shed.testing"

    def __init__(self) -> None:
        self._said: list[dict[str, object]] = []
        super().__init__(
            [sys.executable, "-m", "otel_shed.testing.receiver", "--grpc-port", "0", "--http-port", "0"],
            ends_with_pipe=True,
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


def start_rotel(kind: Kind = "auto") -> tuple[Rotel | None, str]:
    """Start rotel, and say why it is not there, if it is not; never with ``receiver``. StartError with ``rotel``."""
    if kind == "receiver":
        return None, ""
    try:
        _rotel_binary()
        return Rotel(), ""
    except StartError as error:
        if kind == "rotel":
            raise StartError(f"rotel cannot be used here: {error}") from error
        return None, f"rotel cannot be used here: {error}"


def start_collector(kind: Kind = "auto") -> tuple[Collector, str]:
    """Start one, and say why it is not rotel, if it is not: an empty text if nothing hindered that.

    ``auto`` takes rotel where it is there and runs, and else the receiver. Raises StartError.
    """
    rotel, why = start_rotel(kind)
    return (rotel or OwnReceiver()), why


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
