"""A real collector (rotel) and a real gateway (Envoy) on loopback, each started for one test and stopped with it.

Their wheels exist for x86-64 Linux alone: where they did not install, ``Rotel`` and ``Envoy`` skip the test and say so.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.envoy_config import LISTENERS, envoy_config
from tests.launched import Launched, free_port, until

# One request as the collector took it; the same line tells of the number of resources.
_TAKEN = re.compile(r"(?<!resource_)spans=(\d+)")
_NAME = re.compile(r"^    Name           : (.*)$")
_SPAN_ID = re.compile(r"^    ID             : ([0-9a-f]{16})$")


def _binary(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"NOT RUN: {package} is not installed (its wheel is for x86-64 Linux with glibc >= 2.34 alone)")
    binary = Path(spec.origin).parent / path
    if not binary.exists():
        pytest.skip(f"NOT RUN: {package} is installed without {path}")
    return binary


class Rotel:
    """A collector that throws spans away once it has counted them; the ports stay the same over restarts.

    detailed: it prints every span, so that ``names`` and ``ids`` are known; otherwise it prints one line a request.
    """

    def __init__(self, *, detailed: bool = False) -> None:
        self._binary = _binary("rotel", "rotel-agent")
        self._detailed = detailed
        self.grpc_port, self.http_port = free_port(), free_port()
        self.requests: list[int] = []
        self.names: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.start()

    @property
    def grpc(self) -> str:
        """The endpoint for OTLP over gRPC."""
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """The endpoint for OTLP over HTTP, without the path."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def spans(self) -> int:
        """How many spans it has taken, over all restarts."""
        return self.ids.total() if self._detailed else sum(self.requests)

    def start(self) -> None:
        """Start it, again on the same ports if it was killed."""
        self._process = Launched(
            [
                *(self._binary, "start", "--exporter", "blackhole", "--debug-log", "traces"),
                *("--debug-log-verbosity", "detailed" if self._detailed else "basic"),
                *("--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc_port}"),
                *("--otlp-http-endpoint", f"127.0.0.1:{self.http_port}"),
            ],
            {"RUST_LOG": "info"},
            on_line=self._count,
        )
        self._process.wait_until_listening(self.grpc_port, self.http_port)

    def _count(self, line: str) -> None:
        if (taken := _TAKEN.search(line)) is not None:
            self.requests.append(int(taken[1]))
        elif (name := _NAME.match(line)) is not None:
            self.names[name[1]] += 1
        elif (span_id := _SPAN_ID.match(line)) is not None:
            self.ids[span_id[1]] += 1

    def wait_for_spans(self, count: int, *, timeout: float = 20.0) -> None:
        """Return once it has taken at least ``count`` spans; its log comes a moment after its answer."""
        until(lambda: self.spans >= count, timeout=timeout, what=lambda: f"{count} spans, it has {self.spans}")

    def stall(self) -> None:
        """Let it answer nothing, with every connection open."""
        self._process.send(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it in the middle of what it is doing."""
        self._process.stop()

    stop = kill


class Envoy:
    """A gateway in front of ``collector`` that limits, delays and refuses; one port for each way of doing so."""

    def __init__(self, collector: Rotel, folder: Path) -> None:
        binary = _binary("envoy", "_bin/envoy")
        self.ports = {name: free_port() for name in LISTENERS}
        self._requests: list[dict[str, Any]] = []
        config = folder / "envoy.json"
        config.write_text(json.dumps(envoy_config(self.ports, grpc=collector.grpc_port, http=collector.http_port)))
        self._process = Launched(
            [
                *(binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"),
                *("--file-flush-interval-msec", "20"),  # of the access log; the default is ten seconds
            ],
            on_line=self._note,
        )
        self._process.wait_until_listening(*self.ports.values())

    def _note(self, line: str) -> None:
        if line.startswith("{"):
            self._requests.append(json.loads(line))

    def endpoint(self, listener: str) -> str:
        """Where to send, for either protocol."""
        return f"http://127.0.0.1:{self.ports[listener]}"

    def arrivals(self, count: int, *, timeout: float = 20.0) -> list[tuple[float, str | int]]:
        """When each request came, in seconds, and its gRPC status or HTTP code; once there are ``count`` at least."""
        until(
            lambda: len(self._requests) >= count,
            timeout=timeout,
            what=lambda: f"{count} requests, there are {self._requests}",
        )
        return sorted((float(request["at"]), request["grpc"] or request["http"]) for request in self._requests)

    def stop(self) -> None:
        self._process.stop()
