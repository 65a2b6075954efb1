"""A celery program whose broker is a folder, of which OpenTelemetry's set-up knows by variables alone."""

import os
from pathlib import Path

from celery import Celery
from opentelemetry import trace

folder = Path(os.environ["CELERY_FOLDER"])
for name in ("queue", "control"):
    (folder / name).mkdir(exist_ok=True)
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
    },
    task_ignore_result=True,
    worker_redirect_stdouts=False,
)
tracer = trace.get_tracer(__name__)


@app.task(name="work")
def work(number: int) -> None:
    """One span, in whatever process or thread celery has it done."""
    tracer.start_span(f"work-{number}").end()
    print("done", number, flush=True)


if __name__ == "__main__":
    for number in range(8):
        work.delay(number)
