"""A Flask program as its author writes it: of the exporter and of load shedding it knows nothing."""

import os

from flask import Flask
from opentelemetry import trace

app = Flask(__name__)
tracer = trace.get_tracer("shop")


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    """Answer with the number and the process that answers, in a span of its own."""
    with tracer.start_as_current_span(f"order-{number}"):
        return {"order": number, "pid": os.getpid()}
