"""A collector that takes so many spans a second. Arguments: the protocol, how it does that, spans a second, the port.

``slow`` works through requests one after the other and answers each when it is done; ``rejecting`` answers at once,
refuses what is more, but for a burst of two seconds, and says when to come again. Prints the port; then, each second,
what it has taken: spans, traces, those of ten spans, and the sum of their roots' adjusted counts, as a line of JSON.
"""

import json
import sys
import threading
import time
from collections import Counter

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import TraceState

from otel_shed.control.threshold import adjusted_count, read_ot
from otel_shed.testing.answers import Answer, Request, retry_info
from otel_shed.testing.receiver import Receiver

PROTOCOL, HOW, CAPACITY, PORT = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
BURST = 2 * CAPACITY
SPANS_OF_A_TRACE = 10


class Limit:
    """What is answered to a request; called by the receiver's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self._left, self._at = BURST, time.monotonic()
        self._traces: Counter[bytes] = Counter()
        self._spans = 0
        self._adjusted = 0.0

    def __call__(self, request: Request) -> Answer:
        if request.spans is None:
            return Answer(code="INVALID_ARGUMENT", status=400)
        with self._lock:
            now = time.monotonic()
            if HOW == "slow":
                self._free_at = max(now, self._free_at) + request.spans / CAPACITY
                self._take(request)
                return Answer(delay=self._free_at - now)
            self._left = min(BURST, self._left + (now - self._at) * CAPACITY)
            self._at = now
            if self._left >= request.spans:
                self._left -= request.spans
                self._take(request)
                return Answer()
            wait = (request.spans - self._left) / CAPACITY
        return Answer(
            code="RESOURCE_EXHAUSTED",
            trailers=(("grpc-status-details-bin", retry_info(wait, code=8)),),
            status=429,
            headers={"Retry-After": str(int(wait) + 1)},
        )

    def _take(self, request: Request) -> None:
        message = ExportTraceServiceRequest.FromString(request.payload)
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._spans += 1
                    self._traces[span.trace_id] += 1
                    if not span.parent_span_id:
                        entry = read_ot(TraceState.from_header([span.trace_state]))
                        self._adjusted += adjusted_count(entry.threshold or 0)

    def taken(self) -> dict[str, float]:
        with self._lock:
            whole = sum(count == SPANS_OF_A_TRACE for count in self._traces.values())
            return {"spans": self._spans, "traces": len(self._traces), "whole": whole, "adjusted": self._adjusted}


limit = Limit()
grpc_port, http_port = (PORT, None) if PROTOCOL == "grpc" else (None, PORT)
with Receiver(grpc_port=grpc_port, http_port=http_port, answer=limit) as receiver:
    print("port", receiver.grpc_port or receiver.http_port)
    while True:
        time.sleep(1)
        print("taken", json.dumps(limit.taken()))
