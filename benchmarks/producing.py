"""A program that makes spans and notes what each ``Span.end()`` takes: threads, as fast as they can, or an event loop.

    python -m benchmarks.producing PROCESSOR THREADS SECONDS PROTOCOL ENDPOINT

THREADS is a number, or ``asyncio``: one event loop, which ends 20,000 spans a second in bursts of 200 and has a ticker
of a millisecond. It prints what it came to as a line of JSON. For the measuring not to be measured: nothing but
``end()`` is between two readings of the clock; what is noted goes into arrays that are there before it begins, one for
each thread; the quantiles are made afterwards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter_ns

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from benchmarks.receiving import stock_exporter
from benchmarks.side_by_side import STOCK
from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

NOTHING = "does nothing"
ASYNCIO = "asyncio"
LONG_NANOS = 2_000_000  # an end() of more than this is one that a program notices
BURST, BURST_NANOS = 200, 10_000_000  # 20,000 spans a second
TICK_NANOS = 1_000_000
_LATE_NANOS = 100_000_000  # a burst that is later than this is not made up for
# More than any interpreter makes.
_MOST_SPANS_PER_SECOND = 250_000
_WARM_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Noted:
    """What a thread noted: nanoseconds of each ``end()``, and how long it went on. lags: of the ticker, nanoseconds."""

    ends: Sequence[int]
    nanos: int
    lags: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CameTo:
    """share: of the threads' time, in calls of ``end()`` of more than 2 ms. longest, p999: of ``end()``, seconds.

    rate: spans a second of all threads. lag: p99.9 of the ticker's lag in seconds; None where there is no event loop.
    """

    share: float
    longest: float
    p999: float
    rate: float
    lag: float | None = None

    @classmethod
    def of(cls, noted: Sequence[Noted]) -> CameTo:
        """Of all threads together."""
        ends = sorted(nanos for each in noted for nanos in each.ends)
        lags = sorted(nanos for each in noted for nanos in each.lags)
        long = sum(nanos for nanos in ends if nanos > LONG_NANOS)
        return cls(
            share=long / sum(each.nanos for each in noted),
            longest=ends[-1] / 1e9,
            p999=_p999(ends) / 1e9,
            rate=len(ends) / max(each.nanos for each in noted) * 1e9,
            lag=_p999(lags) / 1e9 if lags else None,
        )


def _p999(ordered: Sequence[int]) -> int:
    return ordered[int(0.999 * (len(ordered) - 1))]


class OutOfRoomError(Exception):
    """More spans were made than there was room to note."""


def as_fast_as_possible(tracer: Tracer, ends: array[int], seconds: float) -> Noted:
    """On this thread, for so long. ends: room for what is noted."""
    clock, start, room = perf_counter_ns, tracer.start_span, len(ends)
    made = 0
    began = now = clock()
    stop = began + int(seconds * 1e9)
    while now < stop:
        if made == room:
            raise OutOfRoomError
        span = start("GET /cart/{id}")
        span.set_attribute("http.request.method", "GET")
        span.set_attribute("http.route", "/cart/{id}")
        span.set_attribute("http.response.status_code", 200)
        span.set_attribute("cart.items", made)
        span.set_attribute("user.id", "user-7")
        before = clock()
        span.end()
        now = clock()
        ends[made] = now - before
        made += 1
    return Noted(ends[:made], now - began)


def with_threads(tracer: Tracer, threads: int, seconds: float) -> list[Noted]:
    """So many threads at the same time."""
    room = _room(seconds * _MOST_SPANS_PER_SECOND)
    rooms = [array("q", room) for _ in range(threads)]
    noted: list[Noted | None] = [None] * threads
    together = threading.Barrier(threads)

    def work(number: int) -> None:
        together.wait()
        noted[number] = as_fast_as_possible(tracer, rooms[number], seconds)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [each for each in noted if each is not None]
    if len(found) < threads:
        raise OutOfRoomError
    return found


async def with_a_loop(tracer: Tracer, seconds: float) -> list[Noted]:
    """Bursts of spans, and a ticker, on one event loop."""
    clock, start = perf_counter_ns, tracer.start_span
    ends = array("q", _room(seconds * BURST * 1e9 / BURST_NANOS + BURST))
    lags = array("q", _room(seconds * 1e9 / TICK_NANOS + 1))
    began = clock()
    stop = began + int(seconds * 1e9)

    async def tick() -> int:
        ticks, now = 0, clock()
        while now < stop:
            before = now
            await asyncio.sleep(TICK_NANOS / 1e9)
            now = clock()
            lags[ticks] = now - before - TICK_NANOS
            ticks += 1
        return ticks

    ticker = asyncio.create_task(tick())
    made, due = 0, began
    while due < stop:
        for _ in range(BURST):
            span = start("GET /cart/{id}")
            span.set_attribute("http.request.method", "GET")
            span.set_attribute("http.route", "/cart/{id}")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("cart.items", made)
            span.set_attribute("user.id", "user-7")
            before = clock()
            span.end()
            ends[made] = clock() - before
            made += 1
        now = clock()
        due = max(due + BURST_NANOS, now - _LATE_NANOS)
        await asyncio.sleep(max(0, due - now) / 1e9)
    nanos = clock() - began
    ticks = await ticker
    return [Noted(ends[:made], nanos, lags[:ticks])]


def _room(numbers: float) -> bytes:
    return bytes(8 * int(numbers + 1))


def provider_of(processor: str, protocol: str, endpoint: str) -> TracerProvider:
    """With the processor of a side, as it is by default."""
    made: SpanProcessor = SpanProcessor()
    if processor == STOCK:
        made = BatchSpanProcessor(stock_exporter(protocol, endpoint, "none"))
    elif processor != NOTHING:
        made = SheddingSpanProcessor(OTLPSpanExporter(protocol, endpoint, compression="none"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(made)
    return provider


def main() -> None:
    """Run; see the module."""
    # Lines about what is lost are made, as in a program, and not written.
    logging.getLogger().addHandler(logging.NullHandler())
    processor, threads, seconds, protocol, endpoint = sys.argv[1:]
    tracer = provider_of(processor, protocol, endpoint).get_tracer("benchmark")
    as_fast_as_possible(tracer, array("q", _room(_MOST_SPANS_PER_SECOND)), _WARM_SECONDS / 10)
    threading.Event().wait(_WARM_SECONDS)  # connected
    noted = (
        asyncio.run(with_a_loop(tracer, float(seconds)))
        if threads == ASYNCIO
        else with_threads(tracer, int(threads), float(seconds))
    )
    print(json.dumps(asdict(CameTo.of(noted))), flush=True)
    os._exit(0)  # what is held is not delivered, and not waited for


if __name__ == "__main__":
    main()
