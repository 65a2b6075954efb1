"""A program that needs nearly all of the memory that it may have, and then less. Argument: the endpoint (OTLP/HTTP).

Prints its log, and in the end the phase and what is unaccounted for.
"""

import os
import sys
import time

import psutil
from opentelemetry.sdk.trace import TracerProvider
from told import say, tell_the_log

from otel_shed import LoadShedder, OTLPSpanExporter, Phase

BALLAST = 200 * 2**20
PATIENCE = 20.0

tell_the_log()
ballast = bytearray(b"x") * BALLAST
# Slightly more than it uses.
os.environ["OTEL_SHED_MEMORY_LIMIT"] = str(int(psutil.Process().memory_info().rss * 1.08))
shedder = LoadShedder(exporter=OTLPSpanExporter("http/protobuf", f"{sys.argv[1]}/v1/traces"))
provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer(__name__)


def work_until(phase: Phase) -> None:
    """Trace a little, until it is in this phase."""
    deadline = time.monotonic() + PATIENCE
    while shedder.brownout().phase is not phase and time.monotonic() < deadline:
        with tracer.start_as_current_span("work"):
            time.sleep(0.01)


work_until(Phase.DEGRADE)
say("pressed", shedder.brownout().phase, *shedder.brownout().reasons)
del ballast
work_until(Phase.NORMAL)
say("freed", shedder.brownout().phase)
provider.shutdown()
say("unaccounted", shedder.stats().unaccounted)
