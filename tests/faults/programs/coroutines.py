"""An asyncio program with a slow exporter, which ends without a word to its provider. Argument: the file."""

import asyncio
import sys

from appending import AppendingExporter, end_spans, provider_to

provider = provider_to(AppendingExporter(sys.argv[1], delay=1.0))
ticks = 0


async def tick() -> None:
    """Count how often the loop lets a task run that wants to every 10 ms."""
    global ticks
    while True:
        await asyncio.sleep(0.01)
        ticks += 1


async def task(number: int) -> None:
    for part in range(10):
        end_spans(provider, f"task-{number}-{part}", 1)
        await asyncio.sleep(0)


async def main() -> None:
    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(task(number) for number in range(20)))
    print("delivered", await asyncio.to_thread(provider.force_flush))
    print("ticks", ticks)
    ticking.cancel()
    end_spans(provider, "last", 10)


asyncio.run(main())
