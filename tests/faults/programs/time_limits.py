"""A program with a time limit that comes all the time: python time_limits.py SIGNALS; prints what became of them.

A signal handler raises in the middle of start_span() and end(), as often as it comes while one of them is under way.
arrived: so often. seen: how often the program caught it. called: how often the processor was called with a span that
has ended; counted: spans of which it knows.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
from types import FrameType

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from otel_shed import LoadShedder, ShedConfig
from otel_shed.testing.exporters import RecordingExporter

WANTED = int(sys.argv[1])


class TimeIsUpError(Exception):
    """Of the program's."""


class Called(SpanProcessor):
    """Counts calls of a processor's; between the count and the call no handler can come."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._on_end = processor.on_end
        self.times = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.times += 1
        self._on_end(span)


arrived = seen = 0
is_under_way = False


def on_alarm(signum: int, frame: FrameType | None) -> None:
    global arrived
    if is_under_way:
        arrived += 1
        raise TimeIsUpError


chance = random.Random(1)
shedder = LoadShedder(ShedConfig(memory_limit_bytes=1 << 50), exporter=RecordingExporter())
provider = TracerProvider(sampler=shedder.sampler(), shutdown_on_exit=False)
processor = shedder.span_processor()
called = Called(processor)
provider.add_span_processor(called)
tracer = provider.get_tracer("limited")
tracer.start_span("first").end()
shedder.stats()  # both threads have started: Thread.start() itself breaks where a handler raises in it
signal.signal(signal.SIGALRM, on_alarm)
for number in itertools.count():
    if arrived >= WANTED:
        break
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 150e-6))
        is_under_way = True
        span = tracer.start_span("work", attributes={"number": number, "list": ["a", 1]})
        is_under_way = False
    except TimeIsUpError:
        is_under_way = False
        seen += 1
        continue
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    span.set_attribute("text", "x" * 50)
    span.add_event("event", {"key": "value"})
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 150e-6))
        is_under_way = True
        span.end()
        is_under_way = False
    except TimeIsUpError:
        is_under_way = False
        seen += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
stats = shedder.stats()
processor.shutdown()
counts = {"called": called.times, "counted": stats.ended, "unaccounted": stats.unaccounted}
figures = {"arrived": arrived, "seen": seen, **counts}
print(json.dumps(figures))
