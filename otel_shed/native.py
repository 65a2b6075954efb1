"""Real threads, real locks and a one-shot signal, also where gevent has patched ``threading``.

Called by whoever builds a pipeline. The rule: the worker is an operating-system thread, always. As a greenlet it would
stop the whole program for as long as a collector takes to answer, because a gRPC call does not yield to gevent's hub.
"""

from __future__ import annotations

import _thread
import math
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol


class Lock(Protocol):
    """What is used of a raw lock; ``release`` may come from another thread than ``acquire``."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class WorkerThread(Protocol):
    """What is used of a thread."""

    def is_alive(self) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...


def patched_by_gevent() -> bool:
    """Whether threads are greenlets here, but for those that are started with ``start_thread``."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _original(module: str, name: str) -> Any:
    return sys.modules["gevent.monkey"].get_original(module, name)


def allocate_lock() -> Lock:
    """A raw, non-reentrant lock of the operating system."""
    if patched_by_gevent():
        return _original("_thread", "allocate_lock")()  # type: ignore[no-any-return]
    return _thread.allocate_lock()


def allocate_rlock() -> Any:
    """A reentrant lock: a signal handler or a finalizer that ends a span in the middle of on_end must not deadlock."""
    if patched_by_gevent():
        return _original("_thread", "RLock")()
    return _thread.RLock()


class _NativeThread:
    """A thread started past gevent's patches."""

    def __init__(self, target: Callable[[], None]) -> None:
        self._finished = allocate_lock()
        self._finished.acquire()
        self._target = target
        _original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._finished.release()

    def is_alive(self) -> bool:
        return self._finished.locked()

    def join(self, timeout: float | None = None) -> None:
        if self._finished.acquire(timeout=-1 if timeout is None else timeout):
            self._finished.release()


def thread_id() -> int:
    """The identity of this operating-system thread."""
    if patched_by_gevent():
        return int(_original("_thread", "get_ident")())
    return _thread.get_ident()


def start_thread(*, name: str, target: Callable[[], None]) -> WorkerThread:
    """Start a daemon thread: one that cannot keep the process from ending."""
    if patched_by_gevent():
        return _NativeThread(target)
    thread = threading.Thread(name=name, target=target, daemon=True)
    thread.start()
    return thread


def give_way(seconds: float) -> None:
    """Let another thread have the interpreter for a while; never called by application threads."""
    sleep = _original("time", "sleep") if patched_by_gevent() else time.sleep
    sleep(seconds)


# Only under gevent, whose hub a native wait would stop.
_POLL_SECONDS = 0.01


class Mutex:
    """A raw lock; under gevent waiting for it lets other greenlets run.

    For what is held while the network is waited for: a greenlet that waited as a thread does would keep the one of its
    own thread that holds the lock from ever letting it go.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for it at most ``timeout`` seconds, below zero without a limit; whether it was had."""
        if self._lock.acquire(False):
            return True
        if not patched_by_gevent():
            return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX) if timeout >= 0 else -1)
        deadline = math.inf if timeout < 0 else time.monotonic() + timeout
        while not self._lock.acquire(blocking=False):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _POLL_SECONDS))
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()


class Signal:
    """Set once, waited for by any number of threads; under gevent waiting lets other greenlets run."""

    def __init__(self) -> None:
        self._is_set = False
        self._lock = allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake every waiter; may be called more than once, and from a signal handler."""
        self._is_set = True
        try:
            self._lock.release()
        except RuntimeError:
            pass

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; whether it was set."""
        if timeout <= 0 or self._is_set:
            return self._is_set
        if patched_by_gevent():
            deadline = time.monotonic() + timeout
            while not self.is_set() and (left := deadline - time.monotonic()) > 0:
                time.sleep(min(left, _POLL_SECONDS))
            return self.is_set()
        if self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX)):
            self.set()  # the next one who waits; not by a bare release, which a signal handler may have done by now
        return self._is_set
