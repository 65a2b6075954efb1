"""Threads, locks and signals, plain and under gevent's patches."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from otel_shed.native import Signal, end_connection, start_thread


def test_a_signal_wakes_every_waiter_and_stays_set() -> None:
    """Whoever waits, now or later, goes on once it is set; setting it twice is no fault."""
    signal = Signal()
    assert not signal.is_set()
    assert not signal.wait(0.001)
    seen: list[bool] = []
    waiters = [threading.Thread(target=lambda: seen.append(signal.wait(10.0))) for _ in range(4)]
    for waiter in waiters:
        waiter.start()
    signal.set()
    signal.set()
    for waiter in waiters:
        waiter.join()
    assert seen == [True] * 4
    assert signal.wait(10.0)
    assert signal.wait(0)


def test_a_waiter_that_is_interrupted_unsets_nothing() -> None:
    """An exception of a signal handler comes between any two steps: the lock stays with who was about to pass it on."""
    signal = Signal()
    signal.set()
    signal._lock.acquire()
    assert signal.is_set()
    assert signal.wait(10.0)
    signal.set()
    assert signal.wait(10.0)


def test_a_wait_without_time_only_looks() -> None:
    """A limit of zero or less does not wait."""
    signal = Signal()
    began = time.monotonic()
    assert not signal.wait(0)
    assert not signal.wait(-5)
    assert time.monotonic() - began < 1


def test_a_thread_is_a_daemon_with_a_name() -> None:
    """The worker cannot keep the process from ending, and can be found in a thread dump."""
    seen: list[threading.Thread] = []
    thread = start_thread(name="otel-shed-test", target=lambda: seen.append(threading.current_thread()))
    thread.join(10)
    assert not thread.is_alive()
    assert (seen[0].name, seen[0].daemon) == ("otel-shed-test", True)


def test_under_gevent_the_worker_is_a_real_thread() -> None:
    """A call that blocks the worker does not stop the greenlets, and a greenlet that waits lets the others run."""
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, threading, time
        from gevent.monkey import get_original
        from otel_shed.native import Signal, start_thread, thread_id

        block = get_original("time", "sleep")
        done = Signal()
        ids = []

        def work():
            ids.append(thread_id())
            block(0.5)
            done.set()

        ticks = 0
        def tick():
            global ticks
            while True:
                gevent.sleep(0.01)
                ticks += 1

        ticker = gevent.spawn(tick)
        thread = start_thread(name="worker", target=work)
        assert thread.is_alive()
        assert done.wait(10)
        thread.join(10)
        assert not thread.is_alive()
        assert ids != [thread_id()]
        ticker.kill()
        print(ticks)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 5


def test_eventlet_exchanges_no_lock_of_ours() -> None:
    """Patched after the set-up: two threads go on sharing the locks that they shared, and new ones are as real."""
    if importlib.util.find_spec("eventlet") is None:  # not imported: it warns of each fork from then on
        pytest.skip("eventlet is not installed")
    program = """
        import sys, warnings
        warnings.simplefilter("ignore")
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from otel_shed import LoadShedder
        from otel_shed.native import allocate_lock, allocate_rlock, start_thread, thread_id
        from otel_shed.testing.exporters import RecordingExporter

        shedder = LoadShedder.default()
        processor = shedder.span_processor(RecordingExporter())
        provider = TracerProvider()
        provider.add_span_processor(processor)
        trace.set_tracer_provider(provider)
        here = processor, shedder.assembly, shedder.assembly.control  # reachable from sys.modules, as a program's are
        pipeline, control = processor._pipeline, shedder.assembly.control

        def kinds():
            locks = (pipeline.ledger.lock, pipeline._starting, pipeline._ending._begun, control._change,
                     control.summary._lock, allocate_lock(), allocate_rlock())
            return [type(lock) for lock in locks]

        before, main = kinds(), thread_id()
        import eventlet
        eventlet.monkey_patch()
        assert kinds() == before, kinds()
        assert thread_id() == main
        ids = []
        start_thread(name="worker", target=lambda: ids.append(thread_id())).join(10)
        assert ids and ids != [main]
        print("same")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == "same\n", result.stderr


class Green:
    """As eventlet's sockets are: around one of the system's, whose methods its class does not have."""

    def __init__(self, native: socket.socket) -> None:
        self.fd = native

    def __getattr__(self, name: str) -> object:
        return getattr(self.fd, name)


@pytest.mark.parametrize("made", [lambda native: native, Green], ids=["native", "green"])
def test_ends_a_connection_whatever_stands_for_it(
    made: Callable[[socket.socket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides see the end, where the module's sockets are green too; the socket stays open, and a second time is
    nothing."""
    here, there = socket.socketpair()
    with here, there, monkeypatch.context() as patched:
        patched.setattr(socket, "socket", Green)
        end_connection(made(here))
        end_connection(made(here))
        assert (here.recv(1), there.recv(1), here.fileno() >= 0) == (b"", b"", True)


def test_ends_no_connection_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS inside TLS, which no socket of the system's stands for, and a socket that is closed, are let be."""
    here, there = socket.socketpair()
    for each in (here, there):
        each.close()
    end_connection(here)
    end_connection(object())
    monkeypatch.setattr(socket, "socket", Green)
    end_connection(object())
