"""A program that has the default logging and makes so many traces a second, for so many seconds: what a user sees.

Arguments: traces a second, seconds.
"""

import logging
import sys
import time

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder

logging.basicConfig(format="%(message)s", stream=sys.stdout)
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(LoadShedder().span_processor())
tracer = provider.get_tracer(__name__)
begins = time.monotonic()
for number in range(int(rate * seconds)):
    with tracer.start_as_current_span("order"), tracer.start_as_current_span("child"):
        pass
    time.sleep(max(0.0, begins + number / rate - time.monotonic()))
provider.shutdown()
