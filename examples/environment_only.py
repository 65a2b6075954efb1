"""A FastAPI program that knows nothing of load shedding: the launcher and the environment set everything up.

    pip install "otel-shed[launcher]" opentelemetry-instrumentation-fastapi fastapi uvicorn
    export OTEL_PYTHON_DISTRO=shed OTEL_SERVICE_NAME=shop OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
    opentelemetry-instrument uvicorn --app-dir examples environment_only:app

Then ask it (curl http://127.0.0.1:8000/orders/7) and end it with Ctrl-C or SIGTERM: the spans of every request that it
answered are delivered first, and without a collector it ends all the same.
"""

from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()
tracer = trace.get_tracer("shop")


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    """Answer with the order; the span around it is the framework's, the one inside is ours."""
    with tracer.start_as_current_span("stock"):
        return {"order": number}
