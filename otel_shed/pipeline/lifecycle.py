"""What a process does to pipelines: it forks, it ends, it is told to.

Owns the set of live pipelines, weakly: the process has one fork, one exit and one SIGTERM, so there is one set. Called
on the thread that forks or exits, and on the main thread for a signal. The rule: nothing here outlives, keeps alive or
raises into the program.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import Protocol

from otel_shed.fork import Forked, begin_anew_after_fork
from otel_shed.native import give_way, start_thread, wait_natively_from_now_on
from otel_shed.pipeline.pools import before_end_of_child


class Living(Forked, Protocol):
    """What a pipeline does at the turns of a process's life."""

    def end_of_process(self) -> None:
        """Deliver what is held, within the grace, and close."""

    @property
    def is_ending_here(self) -> bool:
        """Whether this thread is in the middle of a delivery."""

    def put_off(self, action: Callable[[], None]) -> None:
        """Have this done once that is over."""

    def can_wait_here(self) -> bool:
        """Whether this thread may wait for a delivery, and is not in the middle of something that stands in its way."""

    def deliver_before_signal(self) -> None:
        """Deliver what is held, within the grace."""


_living: weakref.WeakSet[Living] = weakref.WeakSet()


def watch(pipeline: Living) -> None:
    """Have ``pipeline`` told of forks and of the end of the process, for as long as it lives."""
    _living.add(pipeline)
    begin_anew_after_fork(pipeline)
    # After the provider's own handler, so that it runs before that one.
    atexit.unregister(wait_natively_from_now_on)
    atexit.register(wait_natively_from_now_on)


def _all() -> list[Living]:
    return list(_living)


def _end_of_process() -> None:
    wait_natively_from_now_on()
    _together(pipeline.end_of_process for pipeline in _all())


def _together(actions: Iterable[Callable[[], object]]) -> None:
    """Do all of these at the same time, so that several pipelines that hang take one grace and not several."""
    first, *others = [*actions] or [lambda: None]
    threads = []
    for action in others:
        try:
            threads.append(start_thread(name="otel-shed-end", target=_quietly(action)))
        except RuntimeError:  # the interpreter starts no threads any more
            action()
    first()
    for thread in threads:
        thread.join()


def _quietly(action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        action()

    return run


# Registered when the package is imported, so before most TracerProviders are made, and thus run after their own
# handlers: those shut their processors down in the right order, this is for pipelines that nobody shut down.
atexit.register(_end_of_process)


def flush_at_end_of_child(pipeline: Living) -> None:
    """In a worker process of a pool, deliver at its end: most leave by os._exit, past atexit."""
    reference = weakref.ref(pipeline)

    def deliver() -> None:
        wait_natively_from_now_on()
        if (alive := reference()) is not None:
            alive.end_of_process()

    before_end_of_child(deliver)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    pipelines, again = _all(), partial(os.kill, os.getpid(), signum)
    for pipeline in pipelines:
        if pipeline.is_ending_here:  # a shutdown that this thread is in the middle of: let that end
            pipeline.put_off(again)
            return
    if not all(pipeline.can_wait_here() for pipeline in pipelines):
        # The signal came in the middle of a short step on this very thread, such as a push: let that end.
        try:
            start_thread(name="otel-shed-signal", target=partial(_after_a_moment, again))
            return
        except RuntimeError:  # there are no threads left: what is held is lost, but the signal is not
            pipelines = []
    if os.getpid() != 1:  # see Pipeline.deliver_before_signal
        wait_natively_from_now_on()
    _together(pipeline.deliver_before_signal for pipeline in pipelines)
    if signal.getsignal(signum) is _on_sigterm:
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _after_a_moment(action: Callable[[], None]) -> None:
    give_way(0.01)
    action()


def flush_on_sigterm() -> bool:
    """Flush before SIGTERM's default action; a handler of the program's own is never replaced.

    Returns whether it could be arranged: only on the main thread, and only where SIGTERM has its default action.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return signal.getsignal(signal.SIGTERM) is _on_sigterm
        signal.signal(signal.SIGTERM, _on_sigterm)
    except (ValueError, OSError):  # a sub-interpreter, or a platform without it
        return False
    return True
