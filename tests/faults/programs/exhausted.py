"""Ends spans where hardly any stack, or no memory, is left: ``exhausted.py recursion|memory on_end|end``.

Prints how many calls were made, and of how many spans no count has them that should, or more than one has; how many
exceptions came out of our code, how many of the call of it, before any of it has run, and how many of other code.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags, TraceState

import otel_shed
from otel_shed import LoadShedder, OTLPSpanExporter, Priority, ShedConfig
from otel_shed.compiled import extension
from otel_shed.otlp.client import OTLPClient
from otel_shed.testing.transport import ScriptedTransport

FRAMES, ALLOCATIONS, KINDS = 100, 200, 6
OURS = otel_shed.__path__[0]
Exhausted = Callable[[Callable[[], object]], None]


class Odd:
    """A value of a type that the compiled encoder does not know."""

    def __str__(self) -> str:
        return "odd"


def down(frames: int, call: Callable[[], object]) -> None:
    if frames:
        down(frames - 1, call)
    else:
        call()


def with_frames(left: int) -> Exhausted:
    def exhausted(call: Callable[[], object]) -> None:
        frame, used = sys._getframe(), 0
        while frame is not None:
            frame, used = frame.f_back, used + 1  # type: ignore[assignment]
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(used + FRAMES)
        try:
            down(FRAMES - left, call)
        finally:
            sys.setrecursionlimit(limit)

    return exhausted


def without_memory(first: int, count: int) -> Exhausted:
    import _testcapi

    def exhausted(call: Callable[[], object]) -> None:
        try:
            _testcapi.set_nomemory(first, first + count)
            call()
        finally:
            _testcapi.remove_mem_hooks()

    return exhausted


def every(kind: str) -> Iterator[Exhausted]:
    if kind == "recursion":
        yield from map(with_frames, range(FRAMES))
        return
    for first in range(ALLOCATIONS):
        # Where dozens fail in a row, the interpreter itself gives up.
        for count in (1, 3, 11):
            yield without_memory(first, count)


def started(provider: TracerProvider, kind: int) -> Any:
    """A span of one of several kinds: left to the careful path, without an export, and so on."""
    span: Any = provider.get_tracer("a.library").start_span("work", attributes={"a": 1, "b": "x" * 50})
    if kind == 1:
        span.record_exception(ValueError("nothing"))
        span.set_status(StatusCode.ERROR, "it failed")
        span.set_attribute("otlp.priority", "low")
    elif kind == 2:
        span._attributes._dict["odd"] = Odd()
    elif kind == 3:
        span._context = SpanContext(1, 2, False, TraceFlags(1), TraceState([("ot", "rv:00000000000001")]))
    elif kind == 4:
        span._context = SpanContext(1, 2, False, TraceFlags(0))
    elif kind == 5:
        span._start_time = -1
    return span


class Run:
    """One processor, whose spans end in such places."""

    def __init__(self, kind: str, entry: str, choose: Callable[[ReadableSpan], Priority | None] | None) -> None:
        self.kind, self.entry = kind, entry
        exporter = OTLPSpanExporter()
        exporter._client = OTLPClient(ScriptedTransport(), timeout=10.0)
        self.processor = LoadShedder(ShedConfig(memory_limit_bytes=2**50), priority=choose).span_processor(exporter)
        self.pipeline = self.processor._pipeline
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.figures: Counter[str] = Counter(calls=0, uncounted=0, twice=0, ours=0, entering=0, elsewhere=0)

    def run(self) -> None:
        started(self.provider, 0).end()
        self.processor.force_flush()
        if self.kind == "memory":
            self.pipeline.intake._wake = None  # what fails, fails on this thread
        for kind in range(KINDS):
            for exhausted in every(self.kind):
                self.once(exhausted, kind)
        self.pipeline.intake._wake = self.pipeline._wake
        self.processor.force_flush()  # false: it tells of those that were lost
        stats = self.processor.stats()
        assert (stats.unaccounted, stats.queued) == (0, 0)
        self.figures["encode_failed"] = stats.dropped.get("encode_failed", 0)
        self.processor.shutdown()

    def once(self, exhausted: Exhausted, kind: int) -> None:
        span, readable = started(self.provider, kind), None
        if self.entry == "on_end":
            readable = span._readable_span()
        before = self.pipeline.account().ended
        raised = None
        try:
            exhausted(span.end if readable is None else lambda: self.processor.on_end(readable))
        except (RecursionError, MemoryError, SystemError) as error:
            raised = error
        counted = self.pipeline.account().ended - before
        self.figures["calls"] += 1
        self.figures["twice"] += counted > 1
        if raised is None:
            self.figures["uncounted"] += counted == 0
            return
        last = traceback.extract_tb(raised.__traceback__)[-1]
        if last.filename.startswith(OURS):
            traceback.print_exception(raised)
            self.figures["ours"] += 1
        elif (last.line or "").startswith("sp.on_end(" if self.entry == "end" else "exhausted("):
            self.figures["entering"] += 1
            self.figures["uncounted"] += counted
        else:
            self.figures["elsewhere"] += 1


def main(kind: str, entry: str) -> None:
    logging.disable()
    figures: Counter[str] = Counter()
    for choose in (None, lambda span: None):
        run = Run(kind, entry, choose)
        run.run()
        for name, figure in run.figures.items():
            figures[name] += figure
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    print(f"compiled: {extension is not None}")


if __name__ == "__main__":
    main(*sys.argv[1:])
