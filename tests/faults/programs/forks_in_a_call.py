"""A parent that forks in the middle of its exporter's requests.

Arguments: the protocol, the endpoint, the forks, and how many requests are made at once.
"""

import os
import sys
import threading
import time

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed import OTLPSpanExporter
from otel_shed.otlp.proof import encode_span
from otel_shed.outcome import Outcome

PROTOCOL, ENDPOINT, FORKS, AT_ONCE = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
records = [encode_span(ReadableSpan("span", context, start_time=1, end_time=2))] * 5
exporter = OTLPSpanExporter(PROTOCOL, ENDPOINT)


def sent() -> list[Outcome]:
    return list(exporter.send_requests([records] * AT_ONCE, budget=lambda: 20.0, at_once=AT_ONCE))


outcomes = sent()
done = threading.Event()


def work() -> None:
    while not done.is_set():
        outcomes.extend(sent())


thread = threading.Thread(target=work)
thread.start()
children, took = [], []
for number in range(FORKS):
    time.sleep(0.03 * (number % 4))  # at various places of a request
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if all(outcome.accepted for outcome in sent()) else 1)
    took.append(time.monotonic() - began)
    children.append(pid)
print("statuses", {os.waitpid(pid, 0)[1] for pid in children})
done.set()
thread.join()
print("lost", sum(1 for outcome in outcomes if outcome.accepted != 5))
print("attempts", max(outcome.attempts for outcome in outcomes))
print("longest", max(took))
exporter.shutdown()
