"""Another system decides: a ledger of brownouts, asked over HTTP, says the phase, and gives it back when it is over.

    python examples/outside_ledger.py

The ledger is a fake one in the same process, and declares an incident for a second. While a ledger declares nothing, or
does not answer, the library's own signals decide: one that is gone must not keep a brownout going.
"""

import json
import threading
import time
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from otel_shed import LoadShedder, Phase, ShedConfig


class Ledger(BaseHTTPRequestHandler):
    declared = "{}"

    def do_GET(self) -> None:
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(self.declared.encode())


def follow_ledger(port: int) -> None:
    """Do as the ledger says, asked ten times a second."""
    while True:
        try:
            (connection := HTTPConnection("127.0.0.1", port, timeout=1)).request("GET", "/")
            declared = json.load(connection.getresponse())
            shedder.force_phase(Phase(declared["phase"]), declared["incident"])
        except (OSError, HTTPException, ValueError, KeyError):
            shedder.force_phase(None)
        time.sleep(0.1)


shedder = LoadShedder(ShedConfig.from_env(calm_millis=500))
provider = TracerProvider(sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
ledger = HTTPServer(("127.0.0.1", 0), Ledger)
threading.Thread(target=ledger.serve_forever, daemon=True).start()
threading.Thread(target=follow_ledger, args=[ledger.server_port], daemon=True).start()

for Ledger.declared in ("{}", '{"phase": "shed_optional", "incident": "INC-42"}', "{}"):
    for number in range(100):
        with provider.get_tracer("shop").start_as_current_span("order") as span:
            span.set_status(StatusCode.ERROR if number % 10 == 0 else StatusCode.OK)
            time.sleep(0.01)
    now = shedder.brownout()
    print(f"phase {now.phase}{', because of ' + now.reasons[0] if now.forced else ''}")
provider.shutdown()
stats = shedder.stats()
summarized = f"summarized {stats.summarized} ({sum(row.errors for row in stats.summary)} failed)"
print(f"ended {stats.ended}, exported {stats.exported}, {summarized}, dropped {dict(stats.dropped)}")
