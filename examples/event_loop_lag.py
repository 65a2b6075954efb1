"""A signal of your own: an event loop that is late is pressure, whatever the collector does, and tracing steps back.

    python examples/event_loop_lag.py

Some orders block the loop for a second. At level DEBUG the library logs each change of phase, with the reason: shedding
begins while the loop is blocked, and ends by way of recovery when it has been on time for 0.5 s (OTEL_SHED_CALM).
"""

import asyncio
import logging
import time

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, PressureReading, ShedConfig

BEAT = 0.05  # seconds


class EventLoopLag:
    """A PressureSignal: 100 ms late is 0.50, 300 ms 0.75, at which shedding begins, 1.9 s 0.95."""

    late = 0.0  # seconds
    due = float("inf")

    async def watch(self) -> None:
        """Run this on the loop. Lateness fades over a few beats, so that no reading misses it."""
        while True:
            self.due = time.monotonic() + BEAT
            await asyncio.sleep(BEAT)
            self.late = max(time.monotonic() - self.due, self.late / 2)

    def read(self, now: float) -> PressureReading:
        """Called in Span.end(), on any thread, so it only reads. A beat that is overdue counts before it comes."""
        late = max(self.late, now - self.due)
        return PressureReading(late / (late + 0.1), "event_loop_lag")


logging.basicConfig(format="%(relativeCreated)5.0f ms  %(message)s")
logging.getLogger("otel_shed").setLevel("DEBUG")
config = ShedConfig.from_env(calm_millis=500, low_priority_names=("cache *",))
shedder = LoadShedder(config, signals=[lag := EventLoopLag()])
provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer("shop")


async def main() -> None:
    """Orders for four seconds; a hundred of them block the loop, one after the other."""
    watching = asyncio.create_task(lag.watch())
    for number in range(350):
        with tracer.start_as_current_span("order"), tracer.start_as_current_span("cache get"):
            time.sleep(0.01) if 50 <= number < 150 else await asyncio.sleep(0.01)
    watching.cancel()


asyncio.run(main())
provider.shutdown()
print("ended {0.ended}, exported {0.exported}, dropped {0.dropped}, unknown {0.unaccounted}".format(shedder.stats()))
