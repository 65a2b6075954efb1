"""One process of a distributed trace: it takes calls over HTTP, makes three spans for each, and sends what it keeps.

Arguments: the endpoint (OTLP/HTTP) and the threshold that traces without a failure are held against. Prints its port; a
call of /end ends it, and it prints its account.
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from told import say

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, TraceView, Verdict
from otel_shed.outcome import DropReason

ENDPOINT, THRESHOLD = sys.argv[1], int(sys.argv[2])
propagator = TraceContextTextMapPropagator()


def policy(trace: TraceView) -> Verdict:
    if trace.failed:
        return Verdict()
    return Verdict(None if trace.randomness >= THRESHOLD else DropReason.OVER_BUDGET, THRESHOLD)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        if self.path == "/end":
            ended.set()
        else:
            self.pay()
        self.send_response_only(204)
        self.end_headers()

    def pay(self) -> None:
        caller = propagator.extract(dict(self.headers.items()), Context())
        root = tracer.start_span("POST /payments", context=caller)
        for number in range(2):
            tracer.start_span(f"query {number}", context=set_span_in_context(root)).end()
        if self.path.endswith("fail"):
            root.set_status(StatusCode.ERROR)
        root.end()


ended = threading.Event()
exporter = OTLPSpanExporter("http/protobuf", f"{ENDPOINT}/v1/traces")
shedder = LoadShedder(exporter=exporter, policy=policy)
shedder.force_phase(Phase.OBSERVE)  # from here on traces are held and decided on whole
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(shedder.span_processor())
tracer = provider.get_tracer(__name__)
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
say("port", server.server_address[1])
ended.wait()
server.shutdown()
provider.shutdown()
stats = shedder.stats()
say("ended", stats.ended)
say("exported", stats.exported)
say("unaccounted", stats.unaccounted)
