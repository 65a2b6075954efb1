"""How the worker processes of pools end: most leave by os._exit, past atexit, so each kind is asked in its own way.

Called in such a process by the thread that starts a pipeline's worker there, not at the fork: a starting child of
multiprocessing clears the finalizers that it inherits. The rule: only what is imported already is looked at, by public
names but for two of billiard's, and none of it raises.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

_logger = logging.getLogger("otel_shed")

Deliver = Callable[[], None]


def before_end_of_child(deliver: Deliver) -> None:
    """Have ``deliver`` called before this process ends, if it is one that a pool has started; it may be twice."""
    for arrange in (_multiprocessing, _billiard):
        try:
            arrange(deliver)
        except Exception as error:  # another release of a package, which does it otherwise
            _logger.debug("otel-shed: the end of this worker process will not be told: %r", error)


def _multiprocessing(deliver: Deliver) -> None:
    """Processes and pools of the standard library (concurrent.futures among them), and pathos's copy of it."""
    for package in ("multiprocessing", "multiprocess"):
        process = sys.modules.get(f"{package}.process")
        if process is not None and process.parent_process() is not None:
            _at_finalization(package, deliver)


def _billiard(deliver: Deliver) -> None:
    """Processes of billiard, and its pools, celery's among them: their workers run no finalizers."""
    billiard = sys.modules.get("billiard.process")
    if billiard is None:
        return
    process = billiard.current_process()
    if type(process).__name__ == "_MainProcess":
        return
    _at_finalization("billiard", deliver)
    worker = getattr(process, "_target", None)
    if hasattr(worker, "on_exit"):
        _before_exit(worker, deliver)
    elif (signals := sys.modules.get("celery.signals")) is not None:
        signals.worker_process_shutdown.connect(lambda **_: deliver(), weak=False)


def _at_finalization(package: str, deliver: Deliver) -> None:
    __import__(f"{package}.util")
    sys.modules[f"{package}.util"].Finalize(None, deliver, exitpriority=0)


def _before_exit(worker: Any, deliver: Deliver) -> None:
    """After what the pool was given to be called there; by celery that is its signal ``worker_process_shutdown``."""
    before = worker.on_exit

    def on_exit(pid: int, exitcode: int) -> None:
        try:
            if before is not None:
                before(pid, exitcode)
        finally:
            deliver()

    worker.on_exit = on_exit
