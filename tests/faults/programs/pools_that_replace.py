"""A pool that replaces its workers after a task each, set up by the launcher alone. Arguments: the pool, the method."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from opentelemetry import trace

tracer = trace.get_tracer(__name__)


def work(number: int) -> int:
    """One span, in a child."""
    tracer.start_span(f"work-{number}").end()
    return number


def in_pool(pool: Any) -> None:
    """Eight tasks, each in a child of its own, and an orderly end."""
    pool.map(work, range(8), 1)
    pool.close()
    pool.join()


if __name__ == "__main__":
    KIND, METHOD = sys.argv[1:]
    if KIND == "multiprocessing":
        in_pool(get_context(METHOD).Pool(2, maxtasksperchild=1))
    elif KIND == "concurrent.futures":
        with ProcessPoolExecutor(2, mp_context=get_context(METHOD), max_tasks_per_child=1) as executor:
            list(executor.map(work, range(8)))
    elif KIND == "billiard":
        import billiard

        in_pool(billiard.get_context(METHOD).Pool(2, maxtasksperchild=1))
    else:
        import billiard

        processes = [billiard.get_context(METHOD).Process(target=work, args=(number,)) for number in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
