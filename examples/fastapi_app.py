"""FastAPI under uvicorn: health checks are the first to go when the collector cannot keep up, and the app says so.

    pip install opentelemetry-instrumentation-fastapi fastapi uvicorn
    uvicorn --app-dir examples fastapi_app:app

Then ask it (curl http://127.0.0.1:8000/orders/7 and .../health) and how its tracing is (.../tracing). While the
collector is slow, throttles or is away, the phase says so, and the spans of /health are dropped as low_priority. Ctrl-C
delivers what is held, and gives up after 3 s without progress (OTEL_SHED_SHUTDOWN_GRACE).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from starlette.concurrency import run_in_threadpool

from otel_shed import LoadShedder, ShedConfig

# The instrumentation names its spans by method and route: "GET /health", "GET /health http send".
shedder = LoadShedder(ShedConfig.from_env(low_priority_names=("GET /health*",)))
provider = TracerProvider(sampler=shedder.sampler(), resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(shedder.span_processor())
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Deliver at the end; in a thread, because shutdown waits and the loop has connections to close."""
    yield
    await run_in_threadpool(provider.shutdown)


app = FastAPI(lifespan=lifespan)
FastAPIInstrumentor.instrument_app(app, excluded_urls="tracing")


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    with tracer.start_as_current_span("stock"):
        return {"order": number}


@app.get("/health")
async def health() -> str:
    return "well"


@app.get("/tracing")
async def tracing() -> dict[str, Any]:
    stats = shedder.stats()
    counts = {"ended": stats.ended, "exported": stats.exported, "dropped": stats.dropped}
    return {"phase": stats.phase, "reasons": stats.reasons, **counts}
