"""A thread pool: what its threads do for an order belongs to the order's trace, so that it is kept or shed whole.

    python examples/thread_pool.py

A pool's threads do not know the caller's context: each task has to bring its own copy. Without it every span in the
pool would begin a trace, and there would be 400 traces to decide on and not 100.
"""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder

shedder = LoadShedder()
provider = TracerProvider(sampler=shedder.sampler(), resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(shedder.span_processor())
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")


def ask(warehouse: str) -> int:
    """Work in the pool; says which trace its span belongs to."""
    with tracer.start_as_current_span(f"ask {warehouse}") as span:
        return span.get_span_context().trace_id


whole = 0
with ThreadPoolExecutor(max_workers=8) as pool:
    for number in range(100):
        with tracer.start_as_current_span("order", attributes={"order.number": number}) as order:
            # Before: asked = [pool.submit(ask, warehouse) ...
            asked = [pool.submit(copy_context().run, ask, warehouse) for warehouse in ("north", "south", "harbour")]
            whole += {task.result() for task in asked} == {order.get_span_context().trace_id}

delivered = provider.force_flush(2_000)
provider.shutdown()

stats = shedder.stats()
print(f"everything delivered: {delivered}")
print(f"traces decided on {stats.started}, not recorded {stats.sampled_out}; whole {whole}")
print(f"ended {stats.ended}, exported {stats.exported}, dropped {dict(stats.dropped)}, unknown {stats.unaccounted}")
