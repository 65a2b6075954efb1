"""Signal handlers in the middle of everything, hundreds of times a second: they end spans, or raise.

The account stays exact, and what a handler raises, such as a program's time limit, reaches the program.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from otel_shed import SheddingSpanExporter, SheddingSpanProcessor
from otel_shed.compiled import extension
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span

DEPTH = 20  # handlers that have interrupted one another


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
@pytest.mark.parametrize("face", ["processor", "exporter"])
def test_every_span_is_counted_once(face: str) -> None:
    """Spans that end in a handler, on a thread that is in the middle of ending one, are each counted, and once."""
    span, ended, depth = ended_span(), 0, 0
    processor = SheddingSpanProcessor(RecordingExporter(), max_queue_size=64, max_export_batch_size=32)
    exporter = SheddingSpanExporter(RecordingExporter(), max_batches=4)
    stats = processor.stats if face == "processor" else exporter.stats
    end: Callable[[], object] = (
        (lambda: processor.on_end(span)) if face == "processor" else (lambda: exporter.export([span]))
    )
    unbalanced: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stats().unaccounted:
                unbalanced.append(stats().unaccounted)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal ended, depth
        # On a machine that is busy a handler takes longer than the timer; the interpreter's stack is not on trial here.
        if depth < DEPTH:
            depth += 1
            ended += 1
            end()
            depth -= 1

    watcher = threading.Thread(target=watch)
    interval, handler = sys.getswitchinterval(), signal.signal(signal.SIGALRM, interrupt)
    sys.setswitchinterval(1e-5)
    watcher.start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        mine, until = 0, time.monotonic() + 1.5
        while time.monotonic() < until:
            mine += 1
            end()
            if mine % 50 == 0 and stats().unaccounted:
                unbalanced.append(stats().unaccounted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        over.set()
        watcher.join()
        signal.signal(signal.SIGALRM, handler)
        sys.setswitchinterval(interval)
    assert ended > 100
    assert stats().ended == mine + ended
    assert unbalanced == []
    processor.shutdown()
    exporter.shutdown()
    assert stats().unaccounted == 0


SIGNALS = 2_000


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this platform")
@pytest.mark.parametrize("pure_python", ["false", "true"])
def test_what_a_handler_raises_reaches_the_program(pure_python: str) -> None:
    """Of thousands of exceptions in the middle of start_span() and end() none is swallowed, and each span is counted.

    In plain Python those are not that come as on_end is entered, which is as if they had come before.
    """
    program = Path(__file__).parent / "programs" / "time_limits.py"
    done = subprocess.run(
        [sys.executable, program, str(SIGNALS)],
        env={**os.environ, "OTEL_SHED_PURE_PYTHON": pure_python},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    figures = json.loads(done.stdout)
    assert figures["seen"] == figures["arrived"] >= SIGNALS
    assert figures["unaccounted"] == 0
    at_the_door = figures["called"] - figures["counted"]
    assert 0 <= at_the_door <= (SIGNALS // 50 if pure_python == "true" or extension is None else 0)
