"""A program that would spend some 30 % of its CPU time on tracing: at first without a limit to that, and then with one.

Arguments: the endpoint (OTLP/HTTP), the limit (0..1), and seconds: without it, of getting used to it, measured. Prints
tracing's shares as the program measures them: its calls of on_end and of the sampler, and the worker thread's own CPU
clock, against that of the process. What measures on the calling thread counts as tracing, too.
"""

import itertools
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import set_span_in_context
from told import say

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanProcessor

ENDPOINT = sys.argv[1]
LIMIT, FREE, WARM_UP, MEASURED = map(float, sys.argv[2:])
# Some 300 us of the program's own for each span, so that the decisions of the sampler are not all of the limit. What
# tracing costs is mostly long statements: to encode, to send, to compress.
WORK = 20_000
CHILDREN = 9
STATEMENTS = [
    " ".join(f"SELECT {zlib.crc32(b'%d' % row):x} FROM cart;" for row in range(first, first + 1600))
    for first in range(0, 80_000, 1600)
]


class HotPath:
    """CPU seconds of the calls that are timed; they come from one thread."""

    used = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            result = call(*arguments, **named)
            self.used += time.thread_time() - begun
            return result

        return timed


def worker_seconds() -> float:
    """What the worker threads and their stand-ins have used."""
    workers = [thread.ident for thread in threading.enumerate() if thread.name.startswith("otel-shed-")]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(worker)) for worker in workers if worker)


def work() -> None:
    sum(range(WORK))


def run(limit: float | None, *periods: float) -> None:
    """Trace for some seconds and then for some more; say what tracing's share was in the latter."""
    hot_path = HotPath()
    # Where it is not limited it is to be measured as it is, should the collector not keep up.
    shedder = LoadShedder(ShedConfig(cpu_share=limit, mode="observe" if limit is None else "enforce"))
    sampler = shedder.sampler()
    sampler.should_sample = hot_path.timed(sampler.should_sample)  # type: ignore[method-assign]
    provider = TracerProvider(sampler=sampler)
    exporter = OTLPSpanExporter("http/protobuf", f"{ENDPOINT}/v1/traces", compression="gzip")
    processor = SheddingSpanProcessor(exporter, shedder=shedder)
    processor.on_end = hot_path.timed(processor.on_end)  # type: ignore[method-assign]
    provider.add_span_processor(processor)
    tracer = provider.get_tracer(__name__)
    statements = itertools.cycle(STATEMENTS)
    share = 0.0
    for seconds in periods:
        began = time.monotonic()
        tracing, total = hot_path.used + worker_seconds(), time.process_time()
        while time.monotonic() - began < seconds:
            root = tracer.start_span("GET /cart")
            context = set_span_in_context(root)
            for _ in range(CHILDREN):
                work()
                statement = next(statements)
                tracer.start_span("SELECT cart", context=context, attributes={"db.query.text": statement}).end()
            work()
            root.end()
        share = (hot_path.used + worker_seconds() - tracing) / (time.process_time() - total)
    stats = shedder.stats()
    say("unlimited" if limit is None else "limited", share)
    say("probability", stats.sample_probability)
    say("phase", stats.phase, *stats.reasons)
    provider.shutdown()
    say("unaccounted", shedder.stats().unaccounted)


run(None, FREE / 2, FREE)
run(LIMIT, WARM_UP, MEASURED)
