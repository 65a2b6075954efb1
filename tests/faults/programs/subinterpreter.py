"""A program in sub-interpreters, as under mod_wsgi: python -m tests.faults.programs.subinterpreter ENDPOINT HOW TIMES.

HOW: ``shutdown`` (then what is left of our threads is printed), ``exit`` (the provider does it by itself), ``nothing``
(nobody shuts the processor down) or ``forgotten`` (nobody holds it any more either).
"""

from __future__ import annotations

import _testcapi
import sys
import textwrap

PROGRAM = """
import gc
import threading

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

provider = TracerProvider(shutdown_on_exit={how!r} == "exit")
provider.add_span_processor(SheddingSpanProcessor(OTLPSpanExporter("http/protobuf", {endpoint!r})))
tracer = provider.get_tracer("sub")
for _ in range(1200):
    tracer.start_span("work").end()
if {how!r} == "shutdown":
    provider.shutdown()
    print([thread.name for thread in threading.enumerate()])
if {how!r} == "forgotten":
    del tracer, provider
    gc.collect()
"""


def main() -> None:
    endpoint, how, times = sys.argv[1:]
    program = textwrap.dedent(PROGRAM).format(endpoint=endpoint, how=how)
    for _ in range(int(times)):
        failed = _testcapi.run_in_subinterp(program)
        print("failed" if failed else "ended", flush=True)


if __name__ == "__main__":
    main()
