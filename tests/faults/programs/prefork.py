"""A server that forks its workers while it is overloaded. Arguments: the protocol, the endpoint, how many workers.

Two threads of the parent keep ending spans, more than its collector takes, and it forks once it samples. Each
worker then has little to tell for some seconds. Prints, for each process, what it came to.
"""

import os
import sys
import threading
import time

from opentelemetry.sdk.trace import TracerProvider
from told import say

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, PressureReading

PROTOCOL, ENDPOINT, WORKERS = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENCE = 15.0
SPANS_PER_TRACE = 10
PARENT = os.getpid()


class Slow:
    """A signal that takes its time in the parent, so that forks find the locks of whoever asks for the phase held."""

    def read(self, now: float) -> PressureReading:
        if os.getpid() == PARENT:
            time.sleep(0.08)
        return PressureReading(0.0, "slow")


path = {"grpc": "", "http/protobuf": "/v1/traces"}[PROTOCOL]
shedder = LoadShedder(exporter=OTLPSpanExporter(PROTOCOL, ENDPOINT + path), signals=[Slow()])
provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer(__name__)
enough = threading.Event()


def trace() -> None:
    with tracer.start_as_current_span("work"):
        for _ in range(SPANS_PER_TRACE - 1):
            tracer.start_span("part").end()


def storm() -> None:
    while not enough.is_set():
        trace()
        time.sleep(0.001)


def work_until_normal() -> float | None:
    """Trace a little until nothing is shed any more; seconds that this took, None if it did not come to it."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        trace()
        stats = shedder.stats()
        if stats.phase is Phase.NORMAL and stats.sample_probability == 1.0:
            return round(time.monotonic() - began, 2)
        time.sleep(0.2)
    return None


def tell(who: str, *more: object) -> None:
    stats = shedder.stats()
    account = (stats.ended, stats.exported, stats.dropped.get("fork", 0), stats.unaccounted)
    say(who, os.getpid(), *account, *more)


def worker(number: int) -> None:
    began_in = shedder.brownout().phase
    seconds = work_until_normal()
    trace()
    delivered = provider.force_flush(10_000)
    tell("worker", number, began_in, seconds, delivered)
    os._exit(0 if delivered and seconds is not None else 1)


threads = [threading.Thread(target=storm) for _ in range(2)]
for thread in threads:
    thread.start()
while shedder.stats().sample_probability == 1.0:
    time.sleep(0.01)
children = []
for number in range(WORKERS):
    if (pid := os.fork()) == 0:
        worker(number)
    children.append(pid)
    time.sleep(0.05)
enough.set()
for thread in threads:
    thread.join()
statuses = [os.waitpid(pid, 0)[1] for pid in children]
provider.shutdown()
tell("parent")
say("statuses", statuses)
