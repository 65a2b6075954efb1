"""Green threads whose patches come at some time, a slow exporter, a ticking green thread, a fork, and the exit.

Arguments: the file, the library (eventlet or gevent), when it patches (first, before the first span, after it).
"""

# ruff: noqa: E402 (the patches may come before anything else is imported)

import sys

PATH, LIBRARY, WHEN = sys.argv[1:]

if LIBRARY == "eventlet":
    import eventlet
    from eventlet import patcher, sleep, spawn
    from eventlet.greenthread import kill

    def patch() -> None:
        eventlet.monkey_patch()

    def native_sleep(seconds: float) -> None:
        patcher.original("time").sleep(seconds)

    def wait_for(threads):  # type: ignore[no-untyped-def]
        for thread in threads:
            thread.wait()
else:
    from gevent import joinall, kill, monkey, sleep, spawn

    def patch() -> None:
        monkey.patch_all()

    def native_sleep(seconds: float) -> None:
        monkey.get_original("time", "sleep")(seconds)

    wait_for = joinall

if WHEN == "first":
    patch()

import os
from collections.abc import Sequence

from appending import AppendingExporter, end_spans, provider_to
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult


class BlockingExporter(AppendingExporter):
    """Blocks as a gRPC call does: without a word to the hub."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        native_sleep(0.3)
        return super().export(spans)


provider = provider_to(BlockingExporter(PATH))
if WHEN == "before the first span":
    patch()
end_spans(provider, "first", 10)
if WHEN == "after the first span":
    provider.force_flush()
    patch()

ticks = 0


def tick() -> None:
    """Count how often the hub lets a green thread run that wants to every 10 ms."""
    global ticks
    while True:
        sleep(0.01)
        ticks += 1


ticking = spawn(tick)
sleep(0)
wait_for([spawn(end_spans, provider, f"green-{number}", 200) for number in range(5)])
answers: list[bool] = []
wait_for([spawn(lambda: answers.append(provider.force_flush())) for _ in range(3)])
print("delivered", answers)
print("ticks", ticks)

end_spans(provider, "parent", 10)
if (pid := os.fork()) == 0:
    end_spans(provider, "child", 10)
    sys.exit()
print("status", os.waitpid(pid, 0)[1])
kill(ticking)
end_spans(provider, "last", 10)
if WHEN == "before the first span":
    wait_for([spawn(provider.shutdown) for _ in range(3)])


def never_yields() -> None:
    while True:
        pass


if LIBRARY == "eventlet":  # gevent's own exit would run it
    spawn(never_yields)
