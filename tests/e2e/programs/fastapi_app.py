"""A FastAPI program as its author writes it: of the exporter and of load shedding it knows nothing."""

from fastapi import FastAPI
from opentelemetry import trace

app = FastAPI()
tracer = trace.get_tracer("shop")


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    """Answer with the number, in a span of its own."""
    with tracer.start_as_current_span(f"order-{number}"):
        return {"order": number}
