"""Where a span is best encoded: as it ends, or later, when it is sent.

    python -m benchmarks.place [--rounds N]

A program makes spans, and so many of them are kept, as the queue of a pipeline keeps them, before a request is made of
them: their bytes, or the spans themselves, which are encoded then. What is told is CPU a span beyond that of a program
whose spans nobody keeps. All of it is on one thread, on which the caches are at their best for whoever comes later:
a worker would find on another processor's what was written there.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from benchmarks.side_by_side import NONE, OURS, PLAIN, options, plain_too, present, take_turns
from benchmarks.spans import make_span
from otel_shed.command.comparison import Figure, compared
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.request import build_request
from otel_shed.record import SpanRecord

PLAINLY = ", plain" if OURS == PLAIN else ""
AT_END, WHEN_SENT = f"as it ends{PLAINLY}", f"when sent{PLAINLY}"
# The default of OTEL_BSP_MAX_EXPORT_BATCH_SIZE, and that of OTEL_BSP_MAX_QUEUE_SIZE.
KEPT = (512, 2_048)
TURN = 4_096


class _Keeps(SpanProcessor):
    """Keeps what ``taken`` makes of each span, and hands so many of them to ``sent``."""

    def __init__(
        self, count: int, taken: Callable[[ReadableSpan], Any] | None, sent: Callable[[list[Any]], object]
    ) -> None:
        self._kept: list[Any] = []
        self._count = count
        self._taken = taken
        self._sent = sent

    def on_end(self, span: ReadableSpan) -> None:
        self._kept.append(span if self._taken is None else self._taken(span))
        if len(self._kept) == self._count:
            self._sent(self._kept)
            self._kept.clear()


class _KeepsNone(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        """Nobody keeps it."""


def _encode_all(spans: list[ReadableSpan]) -> bytes:
    records: list[SpanRecord] = [encode_span(span) for span in spans]
    return build_request(records)


def turn(provider: TracerProvider) -> float:
    """Microseconds of CPU a span."""
    tracer = provider.get_tracer("benchmark")
    began = time.thread_time()
    for number in range(TURN):
        make_span(tracer, number)
    return (time.thread_time() - began) / TURN * 1e6


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 15)
    for count in KEPT:
        providers = {
            NONE: TracerProvider(shutdown_on_exit=False),
            AT_END: TracerProvider(shutdown_on_exit=False),
            WHEN_SENT: TracerProvider(shutdown_on_exit=False),
        }
        providers[NONE].add_span_processor(_KeepsNone())
        providers[AT_END].add_span_processor(_Keeps(count, encode_span, build_request))
        providers[WHEN_SENT].add_span_processor(_Keeps(count, None, _encode_all))
        taken = take_turns(
            {who: functools.partial(turn, provider) for who, provider in providers.items()}, arguments.rounds
        )
        extra = {
            who: [own - none for own, none in zip(taken[who], taken[NONE], strict=True)] for who in (AT_END, WHEN_SENT)
        }
        yield from compared("place", f"{count:,} are kept: more CPU", "us", extra, with_ratio=False)
    yield from plain_too("place", arguments)


def main() -> int:
    arguments = options(__doc__, rounds=60).parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
