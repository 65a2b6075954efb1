"""A parent that forks in the middle of its exporter's requests. Arguments: the protocol, the endpoint, the forks."""

import os
import sys
import threading
import time

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed import OTLPSpanExporter
from otel_shed.otlp.proof import encode_span

PROTOCOL, ENDPOINT, FORKS = sys.argv[1], sys.argv[2], int(sys.argv[3])

context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
records = [encode_span(ReadableSpan("span", context, start_time=1, end_time=2))] * 5
exporter = OTLPSpanExporter(PROTOCOL, ENDPOINT)
outcomes = [exporter.send_records(records, budget=20)]
done = threading.Event()


def work() -> None:
    while not done.is_set():
        outcomes.append(exporter.send_records(records, budget=20))


thread = threading.Thread(target=work)
thread.start()
children, took = [], []
for number in range(FORKS):
    time.sleep(0.03 * (number % 4))  # at various places of a request
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if exporter.send_records(records, budget=20).accepted else 1)
    took.append(time.monotonic() - began)
    children.append(pid)
print("statuses", {os.waitpid(pid, 0)[1] for pid in children})
done.set()
thread.join()
print("lost", sum(1 for outcome in outcomes if outcome.accepted != 5))
print("attempts", max(outcome.attempts for outcome in outcomes))
print("longest", max(took))
exporter.shutdown()
