"""Green threads whose spans go over real sockets, and the end while the collector hangs on a span named ``late``.

Arguments: the library (eventlet or gevent), when it patches (first, before the first span, after it), the protocol, the
endpoint. Prints what the flushes said, and what was dropped.
"""

# ruff: noqa: E402 (the patches may come before anything else is imported)

import sys
import warnings

LIBRARY, WHEN, PROTOCOL, ENDPOINT = sys.argv[1:]

if LIBRARY == "eventlet":
    warnings.simplefilter("ignore")  # it is deprecated
    import eventlet
    from eventlet import sleep, spawn

    def patch() -> None:
        eventlet.monkey_patch()

    def results(threads):  # type: ignore[no-untyped-def]
        return [thread.wait() for thread in threads]
else:
    from gevent import joinall, monkey, sleep, spawn

    def patch() -> None:
        monkey.patch_all()

    def results(threads):  # type: ignore[no-untyped-def]
        return [thread.value for thread in joinall(threads)]


if WHEN == "first":
    patch()

from opentelemetry.sdk.trace import TracerProvider

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

processor = SheddingSpanProcessor(OTLPSpanExporter(PROTOCOL, ENDPOINT), export_timeout_millis=60_000)
provider = TracerProvider()
provider.add_span_processor(processor)
if WHEN == "before the first span":
    patch()


def work() -> bool:
    """Ten spans and a flush, on a green thread."""
    for _ in range(10):
        provider.get_tracer(__name__).start_span("work").end()
        sleep(0)
    return provider.force_flush()


work()
if WHEN == "after the first span":
    patch()
print("delivered", results([spawn(work) for _ in range(3)]))
provider.get_tracer(__name__).start_span("late").end()
print("late", provider.force_flush(200))
processor.shutdown()
print("dropped", processor.stats().dropped)
