"""Real threads, real locks, a one-shot signal and the end of a connection, also where gevent or eventlet patches.

Called by whoever builds a pipeline. The rule: the worker is an operating-system thread, always. As a green one it would
stop the whole program for as long as a collector takes to answer, because a gRPC call does not yield to a hub.
"""

from __future__ import annotations

import _socket
import math
import os
import socket
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


def patched_by_gevent(module: str = "threading") -> bool:
    """Whether gevent has put its own in the place of what is in that module."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))


def _patched_by_eventlet(part: str = "thread") -> bool:
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched(part))


def threads_are_green() -> bool:
    """Whether a thread that is started now is a green one, but for those that are started with ``start_thread``."""
    return patched_by_gevent() or _patched_by_eventlet()


def _original(module: str, name: str) -> Any:
    if patched_by_gevent(module):
        return sys.modules["gevent.monkey"].get_original(module, name)
    if _patched_by_eventlet():
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(sys.modules[module], name)


# Once for all: the patches may have come by now, or come later, to a program that is set up already.
_allocate_lock = _original("_thread", "allocate_lock")
_allocate_rlock = _original("_thread", "RLock")
_start_new_thread = _original("_thread", "start_new_thread")
_get_ident = _original("_thread", "get_ident")
_sleep = _original("time", "sleep")

# The threads that ``start_thread`` has started: nothing green is on them.
_native_threads: set[int] = set()
_is_exiting = False


def wait_natively_from_now_on() -> None:
    """The process ends: a green thread that got the interpreter might never give it back."""
    global _is_exiting
    _is_exiting = True


def _after_fork_in_child() -> None:
    _native_threads.intersection_update({_get_ident()})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _green_sleep() -> Callable[[float], object] | None:
    """What lets other green threads of this thread run for a while; None where there are none, or it is no place to."""
    if _is_exiting or _get_ident() in _native_threads:
        return None
    if patched_by_gevent() or patched_by_gevent("socket"):
        import gevent

        # A signal handler may run in the hub itself.
        return None if gevent.getcurrent() is gevent.get_hub() else gevent.sleep
    if _patched_by_eventlet() or _patched_by_eventlet("socket"):
        import eventlet.hubs

        return None if eventlet.getcurrent() is eventlet.hubs.get_hub().greenlet else eventlet.sleep
    return None


def allocate_lock() -> Lock:
    """A raw, non-reentrant lock of the operating system."""
    return _allocate_lock()  # type: ignore[no-any-return]


def allocate_rlock() -> Any:
    """A reentrant lock: a signal handler or a finalizer that ends a span in the middle of on_end must not deadlock.

    To be kept in a slot, not in an instance's dictionary: eventlet exchanges those that it finds there for green ones,
    which no two threads can share.
    """
    return _allocate_rlock()


def call_if_free(lock: Any, call: Callable[[], Any], timeout: float = 0.0) -> list[Any]:
    """Call in the reentrant lock, which this thread must not have; [] if another one has it, else what it returned.

    Waits for the lock for at most ``timeout`` seconds. Whatever a signal handler raises, the lock is let go: nothing is
    called between the end of the call and the release, so no handler comes before it.
    """
    is_had: bool | None = None
    try:
        is_had = lock.acquire(True, timeout) if timeout else lock.acquire(False)
        return [call()] if is_had else []
    finally:
        if is_had is not False:
            try:
                lock.release()
            except RuntimeError:  # a handler has raised before it was had
                pass


class _NativeThread:
    """A thread of the operating system's, whether the patches came before it, come later, or never."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        self._target = target
        self._finished = _allocate_lock()
        self._finished.acquire()
        self._thread: threading.Thread | None = None
        if threads_are_green():
            _start_new_thread(self._run, ())
        else:
            self._thread = threading.Thread(name=name, target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        _native_threads.add(_get_ident())
        try:
            self._target()
        finally:
            _native_threads.discard(_get_ident())
            self._finished.release()

    def is_alive(self) -> bool:
        return bool(self._finished.locked())

    def join(self, timeout: float | None = None) -> None:
        if self._thread is not None and not threads_are_green():
            self._thread.join(timeout)
        elif self._finished.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            self._finished.release()


def thread_id() -> int:
    """The identity of this operating-system thread."""
    return int(_get_ident())


def start_thread(*, name: str, target: Callable[[], None]) -> WorkerThread:
    """Start a daemon thread: one that cannot keep the process from ending."""
    return _NativeThread(name, target)


# A thread that goes on at once still waits for so long first, without the interpreter and without a lock. It would lose
# the interpreter after 5 ms all the same (sys.getswitchinterval), but perhaps with a lock in its hands; a thread that
# wants that lock would wait until it has had its turn again.
MOMENT_SECONDS = 1e-4


def give_way(seconds: float) -> None:
    """Let another thread have the interpreter for a while; never called by application threads."""
    _sleep(seconds)


# Only among green threads, whose hub a native wait would stop.
_POLL_SECONDS = 0.01


class Mutex:
    """A raw lock; a green thread that waits for it lets others run.

    For what is held while the network is waited for: a green thread that waited as a native one does would keep the one
    of its own thread that holds the lock from ever letting it go.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._flows: set[int] = set()  # of threads, green ones too

    @property
    def is_held_here(self) -> bool:
        """Whether this thread has it, or was about to: a signal handler that waited for it would wait for ever."""
        return threading.get_ident() in self._flows

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for it at most ``timeout`` seconds, below zero without a limit; whether it was had."""
        was_here, is_had = self.is_held_here, False
        self._flows.add(threading.get_ident())
        try:
            is_had = self._acquire(timeout)
        finally:
            if not (is_had or was_here):
                self._flows.discard(threading.get_ident())
        return is_had

    def _acquire(self, timeout: float) -> bool:
        if self._lock.acquire(False):
            return True
        if (sleep := _green_sleep()) is None:
            return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX) if timeout >= 0 else -1)
        deadline = math.inf if timeout < 0 else time.monotonic() + timeout
        while not self._lock.acquire(blocking=False):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            sleep(min(left, _POLL_SECONDS))
        return True

    def release(self) -> None:
        self._flows.discard(threading.get_ident())
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Signal:
    """Set once, waited for by any number of threads; a green thread that waits lets others run."""

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
        if (sleep := _green_sleep()) is not None:
            deadline = time.monotonic() + timeout
            while not self.is_set() and (left := deadline - time.monotonic()) > 0:
                sleep(min(left, _POLL_SECONDS))
            return self.is_set()
        if self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX)):
            self.set()  # the next one who waits; not by a bare release, which a signal handler may have done by now
        return self._is_set


def end_connection(connected: Any) -> None:
    """End both directions of a socket's connection, under the thread that reads from it; the socket stays open."""
    try:
        # Those of eventlet and gevent stand for one of the system's; their own ways are for the thread they are on.
        stands_for = (getattr(connected, name, None) for name in ("fd", "_sock"))
        native = next((each for each in stands_for if isinstance(each, _socket.socket)), connected)
        # Not by its own method: that of TLS takes its state away from under the reader.
        _socket.socket.shutdown(native, socket.SHUT_RDWR)
    except (OSError, TypeError):  # closed meanwhile; or no socket of Python's, but TLS inside TLS
        pass
