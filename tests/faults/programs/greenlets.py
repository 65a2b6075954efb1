"""The same under gevent's monkey patching: a slow exporter, a ticking greenlet, a fork. Argument: the file."""

# ruff: noqa: E402 (the patches come before anything else is imported)

from gevent import monkey

monkey.patch_all()

import os
import sys
from collections.abc import Sequence

import gevent
from appending import AppendingExporter, end_spans, provider_to
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult


class BlockingExporter(AppendingExporter):
    """Blocks as a gRPC call does: without a word to gevent's hub."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        monkey.get_original("time", "sleep")(1.0)
        return super().export(spans)


provider = provider_to(BlockingExporter(sys.argv[1]))
gevent.joinall([gevent.spawn(end_spans, provider, f"greenlet-{number}", 10) for number in range(20)])

ticks = 0


def tick() -> None:
    """Count how often the hub lets a greenlet run that wants to every 10 ms."""
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1


ticking = gevent.spawn(tick)
gevent.sleep(0)
print("delivered", provider.force_flush())
print("ticks", ticks)
ticking.kill()

end_spans(provider, "parent", 10)
if (pid := os.fork()) == 0:
    end_spans(provider, "child", 10)
    sys.exit()
print("status", os.waitpid(pid, 0)[1])
