"""Set up in code: one LoadShedder makes the sampler and the span processor, and tells what became of every span.

    python examples/with_code.py

Exports by OTLP to where OTEL_EXPORTER_OTLP_ENDPOINT says, http://localhost:4317 if it says nothing. Run it without a
collector too: it ends as soon, and says what it could not deliver.
"""

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, ShedConfig

shedder = LoadShedder(ShedConfig.from_env(max_queue_size=4096, max_held_bytes=8 * 2**20))

provider = TracerProvider(resource=Resource.create({"service.name": "shop"}), sampler=shedder.sampler())
provider.add_span_processor(shedder.span_processor())
trace.set_tracer_provider(provider)


def sell(number: int) -> None:
    """The program's own work."""
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span("order", attributes={"order.number": number}):
        with tracer.start_as_current_span("stock"):
            pass
        with tracer.start_as_current_span("payment"):
            pass


for order in range(100):
    sell(order)

delivered = provider.force_flush(2_000)
provider.shutdown()

stats = shedder.stats()
print(f"everything delivered: {delivered}")
print(f"ended {stats.ended}, exported {stats.exported}, dropped {dict(stats.dropped)}, unknown {stats.unaccounted}")
