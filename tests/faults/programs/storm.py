"""A program with more to tell than its collector takes, and then with less.

Arguments: the protocol, the endpoint, and pairs of how many spans a second, for how many seconds. Traces have ten spans
and last a second. Prints what the shedder says, four times a second, its log, and in the end what it all came to, each
as a word and a line of JSON.
"""

import json
import sys
import time
from collections import deque

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, set_span_in_context
from told import say, tell_the_log

from otel_shed import LoadShedder, OTLPSpanExporter

PROTOCOL, ENDPOINT = sys.argv[1:3]
LOADS = [(float(rate), float(seconds)) for rate, seconds in zip(sys.argv[3::2], sys.argv[4::2], strict=True)]
CHILDREN, TICK, TICKS = 9, 0.01, 100

began = tell_the_log().began

path = {"grpc": "", "http/protobuf": "/v1/traces"}[PROTOCOL]
shedder = LoadShedder(exporter=OTLPSpanExporter(PROTOCOL, ENDPOINT + path))
provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer(__name__)


class Load:
    """Traces that begin now and whose spans end over a second."""

    def __init__(self) -> None:
        self.offered = 0
        self.ends: list[float] = []
        self._due: deque[list[Span]] = deque([] for _ in range(TICKS + 1))

    def begin(self) -> None:
        root = tracer.start_span("GET /cart", attributes={"http.request.method": "GET", "user.id": self.offered})
        context = set_span_in_context(root)
        for number in range(1, CHILDREN + 1):
            child = tracer.start_span("SELECT cart", context=context, attributes={"db.row": number})
            self._due[number * TICKS // (CHILDREN + 1)].append(child)
        self._due[TICKS].append(root)
        self.offered += CHILDREN + 1

    def tick(self) -> None:
        """End what is due."""
        due = self._due.popleft()
        self._due.append([])
        for span in due:
            recorded = span.is_recording()
            start = time.perf_counter()
            span.end()
            if recorded:
                self.ends.append(time.perf_counter() - start)


load = Load()
told = 0.0


def tell(rate: float) -> None:
    stats = shedder.stats()
    line = {
        "at": round(time.monotonic() - began, 2),
        "rate": rate,
        "offered": load.offered,
        "ended": stats.ended,
        "exported": stats.exported,
        "queued": stats.queued,
        "dropped": dict(stats.dropped),
        "summarized": stats.summarized,
        "phase": stats.phase,
        "pressure": round(stats.pressure, 2),
        "reasons": stats.reasons,
        "probability": stats.sample_probability,
        "budget": stats.budget_spans_per_second,
        "oldest": stats.oldest_seconds,
        "unaccounted": stats.unaccounted,
    }
    say("stats", json.dumps(line))


def offer(rate: float, seconds: float) -> None:
    """Begin so many spans a second; where the machine cannot, fewer, and their ends come no later than their turn."""
    global told
    tell(rate)
    due, traces = time.monotonic(), 0.0
    end = due + seconds
    while (now := time.monotonic()) < end:
        traces += rate * TICK / (CHILDREN + 1)
        while traces >= 1.0:
            load.begin()
            traces -= 1.0
        load.tick()
        if now - told >= 0.25:
            told = now
            tell(rate)
        due = max(due, now - 10 * TICK) + TICK
        time.sleep(max(0.0, due - time.monotonic()))


for rate, seconds in LOADS:
    offer(rate, seconds)
for _ in range(TICKS + 1):
    load.tick()
provider.shutdown()
tell(0.0)
ends = sorted(load.ends)
say(
    "end",
    json.dumps({"spans": len(ends), "p50": ends[len(ends) // 2], "p99": ends[len(ends) * 99 // 100], "max": ends[-1]}),
)
