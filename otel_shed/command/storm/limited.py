"""A collector that is held to so many spans a second, and tells of each span that it accepts.

    python -m otel_shed.command.storm.limited --spans-per-second 500 --mode slow

Its threads answer requests; the limit is theirs, under one lock. ``slow`` works through requests, span after span, and
answers each when it is done; ``reject`` answers at once, refuses what is more, but for a burst of two seconds, and says
when to come again. With ``--forward`` it stands before another collector, which gets every request that was accepted,
unchanged. It ends with its standard input. The rule: what it tells of was accepted, in full, by its own answer.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.trace import TraceState

from otel_shed.command.storm.testimony import Arrived, Teller
from otel_shed.control.threshold import read_ot
from otel_shed.testing.answers import Answer, Request, accept, retry_info
from otel_shed.testing.receiver import Receiver

Mode = Literal["slow", "reject"]

BURST_SECONDS = 2.0
_FORWARD_SECONDS = 10.0
_RESOURCE_EXHAUSTED = 8


class Limit:
    """The answer to each request, for any number of threads.

    forward: is given the payload of what is accepted. wait: for seconds; may return early when the program ends.
    """

    def __init__(
        self,
        *,
        mode: Mode,
        spans_per_second: float,
        teller: Teller,
        forward: Callable[[bytes], None] | None = None,
        wait: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._capacity = spans_per_second
        self._burst = BURST_SECONDS * spans_per_second
        self._teller = teller
        self._forward = forward
        self._wait = wait
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._left, self._at = self._burst, clock()

    def __call__(self, request: Request) -> Answer:
        if request.spans is None:
            return accept(request)
        if self._mode == "slow":
            each = 1 / self._capacity
            begins = self._work(request.spans)
        else:
            each, begins = 0.0, self._clock()
        if self._mode == "reject" and (again := self._admit(request.spans)) > 0:
            self._teller.refused(begins, request.spans)
            return Answer(
                code="RESOURCE_EXHAUSTED",
                trailers=(("grpc-status-details-bin", retry_info(again, code=_RESOURCE_EXHAUSTED)),),
                status=429,
                headers={"Retry-After": str(int(again) + 1)},
            )
        if self._forward is not None:
            self._forward(request.payload)
        self._teller.arrived(spans_of(request.payload, begins, each))
        return Answer()

    def _work(self, spans: int) -> float:
        """Return when they are worked off; when that began."""
        with self._lock:
            now = self._clock()
            begins = max(now, self._free_at)
            self._free_at = begins + spans / self._capacity
            left = self._free_at - now
        self._wait(left)
        return begins

    def _admit(self, spans: int) -> float:
        """Seconds after which to ask again; 0 if they are taken."""
        with self._lock:
            now = self._clock()
            self._left = min(self._burst, self._left + (now - self._at) * self._capacity)
            self._at = now
            # A request larger than the burst is taken when the burst is there, and paid for afterwards.
            missing = min(spans, self._burst) - self._left
            if missing <= 0:
                self._left -= spans
            return max(0.0, missing / self._capacity)


def spans_of(payload: bytes, begins: float, each: float = 0.0) -> list[Arrived]:
    """The spans of an ExportTraceServiceRequest; the first is through ``each`` seconds after ``begins``, and so on."""
    spans = [
        span
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    return [
        Arrived(
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.status.code == Status.STATUS_CODE_ERROR,
            _threshold(span.trace_state),
            begins + number * each,
        )
        for number, span in enumerate(spans, 1)
    ]


@lru_cache(maxsize=4096)
def _threshold(trace_state: str) -> int | None:
    return read_ot(TraceState.from_header([trace_state])).threshold if trace_state else None


class Forward:
    """Sends requests on, over HTTP, to the collector at ``endpoint``."""

    def __init__(self, endpoint: str, teller: Teller) -> None:
        self._url = f"{endpoint}/v1/traces"
        self._pool = urllib3.PoolManager(retries=False, timeout=_FORWARD_SECONDS)
        self._teller = teller

    def __call__(self, payload: bytes) -> None:
        try:
            answer = self._pool.request(
                "POST", self._url, body=payload, headers={"Content-Type": "application/x-protobuf"}
            )
            if answer.status >= 300:
                self._teller.log(f"the collector behind answered {answer.status}")
        except urllib3.exceptions.HTTPError as error:
            self._teller.log(f"the collector behind did not answer: {error}")


def main() -> None:
    """Run until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m otel_shed.command.storm.limited", description=__doc__)
    parser.add_argument("--spans-per-second", type=float, required=True)
    parser.add_argument("--mode", choices=("slow", "reject"), default="slow")
    parser.add_argument("--forward", metavar="URL", help="of a collector that takes OTLP over HTTP")
    options = parser.parse_args()
    teller = Teller(sys.stdout)
    closing = threading.Event()
    limit = Limit(
        mode=options.mode,
        spans_per_second=options.spans_per_second,
        teller=teller,
        forward=Forward(options.forward, teller) if options.forward else None,
        wait=closing.wait,
    )
    with Receiver(answer=limit) as receiver:
        teller.ports(grpc=receiver.grpc_port, http=receiver.http_port)
        sys.stdin.read()
        closing.set()


if __name__ == "__main__":
    main()
