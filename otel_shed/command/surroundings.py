"""What a command borrows from its process and gives back: the environment, signals, and what the library logs.

Called on the main thread; the handler by whichever thread logs. The rule: after the block it is as it was before.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager


@contextmanager
def as_before(environ: MutableMapping[str, str]) -> Iterator[None]:
    """Whatever is done to ``environ`` in the block is undone at its end."""
    before = dict(environ)
    try:
        yield
    finally:
        # Only what differs: other threads may be reading the C library's environment.
        for name in set(environ) - set(before):
            del environ[name]
        for name, value in before.items():
            if environ.get(name) != value:
                environ[name] = value


@contextmanager
def logs_to(handler: logging.Handler) -> Iterator[None]:
    """What the library and the SDK log goes to ``handler``, and nowhere else."""
    loggers = [logging.getLogger(name) for name in ("otel_shed", "opentelemetry")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger, propagated in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagated


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM, and a terminal that goes away, end the command as Ctrl-C does; what is ignored (nohup) stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    signals = [each for each in signals if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, signal.default_int_handler) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
