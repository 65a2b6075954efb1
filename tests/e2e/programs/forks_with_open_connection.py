"""A parent that exports, forks, and goes on. Arguments: the protocol, "gevent" to patch, the endpoint."""

# ruff: noqa: E402 (gevent's patches come before anything else is imported)

import sys

PROTOCOL, PATCHED, ENDPOINT = sys.argv[1:]
if PATCHED == "gevent":
    from gevent import monkey

    monkey.patch_all()

import os

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

provider = TracerProvider()
exporter = OTLPSpanExporter(protocol=PROTOCOL, endpoint=ENDPOINT)
provider.add_span_processor(SheddingSpanProcessor(exporter, max_export_batch_size=20, schedule_delay_millis=600_000))
tracer = provider.get_tracer(__name__)


def end_spans(prefix: str) -> None:
    for number in range(20):
        tracer.start_span(f"{prefix}-{number}").end()


end_spans("before")
assert provider.force_flush()
end_spans("during")  # a full batch: the worker is about to send it
children = []
for number in range(6):
    if (pid := os.fork()) == 0:
        end_spans(f"child-{number}")
        if number % 2:
            sys.exit()
        os._exit(0 if provider.force_flush(10_000) else 1)
    children.append(pid)
end_spans("after")
print("statuses", {os.waitpid(pid, 0)[1] for pid in children})
