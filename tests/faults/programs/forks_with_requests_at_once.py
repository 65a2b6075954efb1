"""A parent that forks while its pipeline makes several requests. Arguments: protocol, endpoint, requests at once."""

import os
import sys
import time

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig

PROTOCOL, ENDPOINT, AT_ONCE = sys.argv[1], sys.argv[2], int(sys.argv[3])
CHILDREN, SPANS = 4, 400

shedder = LoadShedder(
    ShedConfig(concurrent_requests=AT_ONCE, max_export_batch_size=20), exporter=OTLPSpanExporter(PROTOCOL, ENDPOINT)
)
processor = shedder.span_processor()
provider = TracerProvider()
provider.add_span_processor(processor)
tracer = provider.get_tracer(__name__)


def end_spans() -> None:
    for _ in range(SPANS):
        tracer.start_span("span").end()


def account() -> tuple[int, int, bool]:
    """What this process exported, of how many of its own, and whether all of that is delivered and accounted for."""
    delivered = provider.force_flush(20_000)
    stats = processor.stats()
    theirs = stats.dropped.get("fork", 0)
    return stats.exported, stats.ended - theirs, delivered and stats.unaccounted == 0


end_spans()
children = []
for number in range(CHILDREN):
    time.sleep(0.03 * number)  # at various places of a request
    if (pid := os.fork()) == 0:
        end_spans()
        found = account()
        print("child", found, file=sys.stderr)
        os._exit(0 if found == (SPANS, SPANS, True) else 1)
    children.append(pid)
print("statuses", {os.waitpid(pid, 0)[1] for pid in children})
print("account", account())
provider.shutdown()
