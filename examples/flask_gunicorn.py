"""Flask behind gunicorn's prefork: each worker process exports its own spans, set up before the fork or after it.

    pip install opentelemetry-instrumentation-flask flask gunicorn
    gunicorn --chdir examples --workers 2 --preload 'flask_gunicorn:traced()'                      # before
    gunicorn --chdir examples --workers 2 --config examples/flask_gunicorn.py flask_gunicorn:app   # in post_fork

Then ask it a few times (curl http://127.0.0.1:8000/orders/7) and for its account (curl http://127.0.0.1:8000/account):
each worker answers for itself, and exports within 5 s. Without --preload the first command sets up in each worker too.
"""

import os
from typing import Any

from flask import Flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder

app = Flask(__name__)
FlaskInstrumentor().instrument_app(app, excluded_urls="account")
tracer = trace.get_tracer("shop")


@app.get("/orders/<int:number>")
def order(number: int) -> dict[str, int]:
    """Answer with the order and the process that took it."""
    with tracer.start_as_current_span("stock", attributes={"worker": os.getpid()}):
        return {"order": number, "worker": os.getpid()}


@app.get("/account")
def account() -> dict[str, Any]:
    """What became of the spans of the worker that answers."""
    stats = LoadShedder.default().stats()
    return {"worker": os.getpid(), "phase": stats.phase, "ended": stats.ended, "exported": stats.exported}


def set_up() -> None:
    """Set tracing up; the thread that exports starts with a process's first span, so a fork loses none."""
    shedder = LoadShedder.default()
    provider = TracerProvider(sampler=shedder.sampler(), resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(shedder.span_processor())
    trace.set_tracer_provider(provider)


def traced() -> Flask:
    """The application, with tracing set up where gunicorn loads it."""
    set_up()
    return app


def post_fork(server: Any, worker: Any) -> None:
    """Called by gunicorn in each new worker, when this file is its configuration."""
    set_up()
