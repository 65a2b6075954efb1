"""A pool whose ``with`` block ends it by SIGTERM, set up by the launcher alone. Argument: the start method."""

import multiprocessing
import sys

from opentelemetry import trace

tracer = trace.get_tracer(__name__)


def work(number: int) -> int:
    """One span, in a child."""
    tracer.start_span(f"work-{number}").end()
    return number


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
        pool.map(work, range(8))
