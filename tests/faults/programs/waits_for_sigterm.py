"""A program with spans in hand that gets SIGTERM. Arguments: the file, and what stands in the way of the signal."""

import asyncio
import signal
import sys
import threading
import time

from appending import AppendingExporter, end_spans, provider_to

PATH, CASE = sys.argv[1:]


def own_handler(signum: int, frame: object) -> None:
    print("own handler", flush=True)
    sys.exit(7)


class Hanging(AppendingExporter):
    def export(self, spans):  # type: ignore[no-untyped-def]
        threading.Event().wait()


def pause() -> None:
    print("ready", flush=True)
    while True:
        time.sleep(60)


def pause_in_hub() -> None:
    """The signal is handled in the hub, where nothing may wait as green threads do."""
    if CASE == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()
    print("ready", flush=True)
    time.sleep(600)


async def pause_in_loop() -> None:
    print("ready", flush=True)
    await asyncio.sleep(600)


if CASE == "own handler before":
    signal.signal(signal.SIGTERM, own_handler)
if CASE == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
kind = Hanging if CASE == "exporter hangs" else AppendingExporter
provider = provider_to(kind(PATH, delay=1.0 if CASE == "signalled twice" else 0.0))
if CASE == "own handler after":
    signal.signal(signal.SIGTERM, own_handler)
end_spans(provider, "span", 10)
if CASE == "ignored":
    signal.raise_signal(signal.SIGTERM)
    sys.exit(7)
if CASE in {"gevent", "eventlet"}:
    pause_in_hub()
if CASE == "asyncio":
    asyncio.run(pause_in_loop())
pause()
