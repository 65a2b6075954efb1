"""A program with more to tell than its collector takes, and then with less: a storm and a calm.

    python -m otel_shed.command.storm.program --side stock --endpoint http://127.0.0.1:4317 --storm 5000:60

It tells what it starts, how it fares, and what it came to, as lines (testimony.py). With ``--back PORT`` its traces go
on in a second process; that one is this program too, with ``--listen``, and ends all that it was called for. The rules:
it holds the rate that it was given, if the machine can, and never catches up in a burst; every span that it starts it
ends; when its standard input ends, it comes to its end early, but in good order.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence

import psutil
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, set_span_in_context

from otel_shed.command.storm.calls import Caller, Listener
from otel_shed.command.storm.figures import settling_seconds
from otel_shed.command.storm.shapes import BACK, CHECKOUT, FRONT, OpenTraces, Work
from otel_shed.command.storm.sides import Shed, Stock, logs_told
from otel_shed.command.storm.testimony import Closing, EndTimes, Reading, Started, Teller

SPANS = len(CHECKOUT)
TRACE_SECONDS = 2.0
TICK = 0.01
READING_SECONDS = 0.25
# To make up for a delay it runs at most so much faster than planned; what is later than this is not made up for.
_HASTE = 1.5
_LATE_SECONDS = 0.5
_SHUT_DOWN_MILLIS = 30_000

Load = tuple[float, float]
"""Spans a second, for how many seconds."""


class Pace:
    """Ticks at an even pace; for one thread."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._due = self._last = clock()

    def wait(self) -> float:
        """Return at the next tick; the time."""
        now = self._clock()
        self._due = max(self._due + TICK, now - _LATE_SECONDS)
        at = max(self._due, self._last + TICK / _HASTE)
        while (left := at - now) > 0:
            self._sleep(left)
            now = self._clock()
        self._last = now
        return now


class Readings:
    """Looks at the process and its traces four times a second; keeps what ``Span.end()`` took in the storm.

    counts_from: from when on what it took counts; what a reading sums up counts if all of it was later.
    """

    def __init__(self, side: Stock | Shed, traces: OpenTraces, teller: Teller) -> None:
        self._side, self._traces, self._teller = side, traces, teller
        self._process = psutil.Process()
        self._next = 0.0
        self._last = -math.inf
        self.counts_from = -math.inf
        self.ends = array("q")

    def tell_if_due(self, now: float, started: int, is_storm: bool) -> bool:
        """Whether it was time to."""
        if now < self._next:
            return False
        self._next = now + READING_SECONDS
        self._teller.reading(self.read(now, started, is_storm))
        return True

    def read(self, now: float, started: int, is_storm: bool) -> Reading:
        """How it fares now, and what ``Span.end()`` took since the last reading."""
        times, self._traces.end_times = self._traces.end_times, array("q")
        if is_storm and self._last >= self.counts_from:
            self.ends += times
        self._last = now
        return Reading(
            at=now,
            is_storm=is_storm,
            started=started,
            memory=self._process.memory_info().rss,
            cpu=time.process_time(),
            ends=EndTimes.of(times),
            **self._side.state(),
        )


class Storm:
    """Starts traces; failing, unsampled: the shares of those that fail, and whose parent decided not to sample."""

    def __init__(
        self, traces: OpenTraces, readings: Readings, teller: Teller, *, failing: float, unsampled: float
    ) -> None:
        self._traces, self._readings, self._teller = traces, readings, teller
        self._failing, self._unsampled = failing, unsampled
        self._chance = random.Random(1)
        self._pace = Pace()
        self._new: list[Started] = []
        self.started = 0
        self.of_unsampled = 0

    def offer(self, load: Load, stop: threading.Event, *, is_storm: bool) -> None:
        """Start so many spans, until the time is over or ``stop`` is set; tell when the storm began and ended."""
        spans_per_second, seconds = load
        began = now = time.monotonic()
        if is_storm:
            self._teller.storm(began)
            self._readings.counts_from = began + settling_seconds(seconds)
        due = 0.0
        while now - began < seconds and not stop.is_set():
            due += spans_per_second / SPANS * TICK
            while due >= 1:
                due -= 1
                self._begin(now)
            now = self._go_on(is_storm)
        if is_storm:
            self._teller.storm(began, now)

    def finish(self) -> None:
        """Have all traces end, and tell of them."""
        while self._traces.open:
            self._go_on(False)
        self._teller.started(self._new)

    def _go_on(self, is_storm: bool) -> float:
        self._traces.tick()
        now = self._pace.wait()
        if self._readings.tell_if_due(now, self.started, is_storm):
            new, self._new = self._new, []
            self._teller.started(new)
        return now

    def _begin(self, now: float) -> None:
        failed = self._chance.random() < self._failing
        is_sampled = self._chance.random() >= self._unsampled
        parent = None if is_sampled else unsampled_parent(self._chance)
        span = self._traces.begin(failed=failed, context=parent)
        self._new.append(Started(f"{span.get_span_context().trace_id:032x}", now, SPANS, failed, is_sampled))
        self.started += SPANS
        self.of_unsampled += 0 if is_sampled else SPANS


def unsampled_parent(chance: random.Random) -> Context:
    """The context of a call from a process that decided not to sample its trace."""
    ids = chance.getrandbits(128) | 1, chance.getrandbits(64) | 1
    parent = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.DEFAULT))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def front(options: argparse.Namespace, side: Stock | Shed, teller: Teller, stop: threading.Event) -> Closing:
    """The storm and the calm; what they came to."""
    caller = None if options.back is None else Caller(options.back)
    traces = _traces(side, FRONT, caller.began) if caller else _traces(side, CHECKOUT, None)
    readings = Readings(side, traces, teller)
    storm = Storm(traces, readings, teller, failing=options.failing, unsampled=options.unsampled)
    storm.offer(options.storm, stop, is_storm=True)
    storm.offer(options.calm, stop, is_storm=False)
    storm.finish()
    if caller is not None:
        caller.close()
    seconds = _shut_down(side, teller)
    return Closing(
        ended=traces.ended,
        unsampled=storm.of_unsampled,
        ends=EndTimes.of(readings.ends),
        lost_calls=caller.lost if caller else 0,
        seconds_to_shut_down=seconds,
        last=readings.read(time.monotonic(), storm.started, False),
    )


def back(side: Stock | Shed, teller: Teller, stop: threading.Event) -> Closing:
    """Go on with the traces that it is called for, until it is to stop and all have ended; what that came to."""
    listener = Listener()
    traces = _traces(side, BACK, None)
    readings = Readings(side, traces, teller)
    teller.ports(http=listener.port)
    pace, started = Pace(), 0
    while not stop.is_set() or traces.open or listener.calls:
        while listener.calls:
            context, failed = listener.calls.popleft()
            traces.begin(failed=failed, context=context)
            started += len(BACK)
        traces.tick()
        readings.tell_if_due(pace.wait(), started, True)
    listener.close()
    seconds = _shut_down(side, teller)
    return Closing(
        ended=traces.ended,
        unsampled=traces.unrecorded,
        ends=EndTimes.of(readings.ends),
        lost_calls=0,
        seconds_to_shut_down=seconds,
        last=readings.read(time.monotonic(), started, False),
    )


def _traces(side: Stock | Shed, shape: Sequence[Work], began: Callable[[Span, int, bool], None] | None) -> OpenTraces:
    return OpenTraces(side.tracer, shape, ticks=round(TRACE_SECONDS / TICK), began=began)


def _shut_down(side: Stock | Shed, teller: Teller) -> float:
    if not teller.is_heard:
        os._exit(1)  # its collector is gone too, and the stock exporter would try for ten seconds
    since = time.monotonic()
    side.shut_down(_SHUT_DOWN_MILLIS)
    return time.monotonic() - since


def main() -> None:
    """Run; see the module."""
    options = _parser().parse_args()
    teller, stop = Teller(sys.stdout), threading.Event()
    with logs_told(teller):
        service = "storm-back" if options.listen else "storm"
        where = {"protocol": options.protocol, "endpoint": options.endpoint, "service": service}
        side = Stock(**where) if options.side == "stock" else Shed(**where, head_sampler=options.head_sampler)
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
        teller.closing(back(side, teller, stop) if options.listen else front(options, side, teller, stop))


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m otel_shed.command.storm.program", description=__doc__)
    parser.add_argument("--side", choices=("stock", "otel-shed"), required=True)
    parser.add_argument("--protocol", default="grpc")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--storm", type=_load, default=(5000.0, 60.0), metavar="SPANS_PER_SECOND:SECONDS")
    parser.add_argument("--calm", type=_load, default=(200.0, 15.0), metavar="SPANS_PER_SECOND:SECONDS")
    parser.add_argument("--failing", type=float, default=0.01)
    parser.add_argument("--unsampled", type=float, default=0.0)
    parser.add_argument("--head-sampler", action="store_true")
    parser.add_argument("--back", type=int, metavar="PORT")
    parser.add_argument("--listen", action="store_true")
    return parser


def _load(text: str) -> Load:
    rate, _, seconds = text.partition(":")
    return float(rate), float(seconds)


if __name__ == "__main__":
    main()
