"""A collector in a process of its own that takes spans, takes them slowly, refuses them, or never answers.

    python -m benchmarks.collector slow

It prints its ports as a line of JSON and ends with its standard input. It does not look into the spans that it counts:
what it computes meanwhile, on the other processor, slows down the program that is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from benchmarks.side_by_side import ROOT
from otel_shed.testing.answers import Answer, Request, Script, accept, count_unread
from otel_shed.testing.receiver import Receiver

HEALTHY, SLOW, REFUSING, HANGING = COLLECTORS = ("healthy", "slow", "refusing", "hanging")
SLOW_SPANS_PER_SECOND = 500


class Slow:
    """Works off so many spans a second, request after request, and answers each when it is done."""

    def __init__(
        self,
        spans_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate = spans_per_second
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            now = self._clock()
            self._free_at = max(now, self._free_at) + (request.spans or 0) / self._rate
            left = self._free_at - now
        self._wait(left)
        return accept(request)


def script(kind: str) -> Script:
    """What such a collector answers."""
    return {
        HEALTHY: accept,
        SLOW: Slow(SLOW_SPANS_PER_SECOND),
        REFUSING: lambda _: Answer(code="UNAVAILABLE", status=503),
        HANGING: lambda _: Answer(hang=True),
    }[kind]


class CollectorProcess:
    """Such a process, with its endpoints by protocol; a context manager that ends it."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.collector", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.endpoints = {
            "grpc": f"http://127.0.0.1:{ports['grpc']}",
            "http/protobuf": f"http://127.0.0.1:{ports['http']}/v1/traces",
        }

    def __enter__(self) -> CollectorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()  # one that hangs would have its clients wait for their answers
        self._process.communicate()


def main() -> None:
    """Answer until the standard input ends."""
    receiver = Receiver(answer=script(sys.argv[1]), count=count_unread)
    print(json.dumps({"grpc": receiver.grpc_port, "http": receiver.http_port}), flush=True)
    sys.stdin.read()
    receiver.close()


if __name__ == "__main__":
    main()
