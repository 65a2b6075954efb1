"""How much faster spans are encoded here than by the stock encoder: medians of one run, candidates taking turns.

    python -m benchmarks.encode [--rounds N]

Each round encodes the same batch with each candidate, to the bytes of a whole request; the time is the thread's own on
the processor. Ours make each span's record first, header and bytes, as the pipeline does. The caches are as warm as in
a program that has run for a while. In plain Python there are two encoders: one reads the slots of the SDK's objects,
the other, for which it steps back where they are not as they were, their public properties.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Span, Tracer

from benchmarks.side_by_side import COMPILED, OURS, PLAIN, STOCK, options, plain_too, present, take_turns
from otel_shed.command.comparison import Figure, Goal, compared
from otel_shed.otlp.encode import Encoder, encode_public
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.request import build_request

BATCH = 256
PUBLIC = "plain, public"
# Issue 5, "What it must show".
FIVE = {COMPILED: Goal(35.0), PLAIN: Goal(8.0), PUBLIC: Goal(4.0)}
GOALS = {"5 constant attributes": FIVE, "5 unique attributes": FIVE, "20 mixed attributes": {COMPILED: Goal(40.0)}}


class _Collected(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _constant(tracer: Tracer, number: int) -> None:
    span = tracer.start_span("GET /api/users/{id}")
    span.set_attribute("http.request.method", "GET")
    span.set_attribute("http.route", "/api/users/{id}")
    span.set_attribute("http.response.status_code", 200)
    span.set_attribute("server.address", "shop.example.com")
    span.set_attribute("network.protocol.version", "1.1")
    span.end()


def _unique(tracer: Tracer, number: int) -> None:
    span = tracer.start_span("GET /api/users/{id}")
    span.set_attribute("url.path", f"/api/users/{number * 7919}")
    span.set_attribute("user.id", f"user-{number * 104729:012d}")
    span.set_attribute("session.id", f"{number * 1299709:032x}")
    span.set_attribute("http.response.body.size", 1000 + number * 37)
    span.set_attribute("request.id", f"req-{number * 15485863:016x}")
    span.end()


def _mixed(tracer: Tracer, number: int) -> None:
    span = tracer.start_span("POST /api/orders")
    for key in range(6):
        span.set_attribute(f"app.constant.{key}", f"value of {key}")
    for key in range(4):
        span.set_attribute(f"app.unique.{key}", f"value {number * 7919 + key}")
    for key in range(4):
        span.set_attribute(f"app.count.{key}", number * 100 + key)
    span.set_attribute("app.cached", number % 2 == 0)
    span.set_attribute("app.ratio", number / 7)
    span.set_attribute("app.price", 19.99)
    span.set_attribute("app.tags", ["new", "paid", f"shop-{number % 5}"])
    span.set_attribute("app.sizes", [1, 2, 3, number])
    span.set_attribute("app.payload", b"\x00\x01\x02\x03")
    span.end()


def _stack_trace(tracer: Tracer, number: int) -> None:
    span = tracer.start_span("charge the card")
    span.set_attribute("user.id", f"user-{number}")
    try:
        _fail(12, number)
    except RuntimeError as error:
        span.record_exception(error, attributes={"exception.frames": len(traceback.extract_tb(error.__traceback__))})
    span.end()


def _fail(depth: int, number: int) -> None:
    if depth:
        _fail(depth - 1, number)
    raise RuntimeError(f"card {number} was refused")


def _links(tracer: Tracer, number: int) -> None:
    sources: list[Span] = [tracer.start_span("enqueue") for _ in range(4)]
    links = [Link(source.get_span_context(), {"messaging.batch": number}) for source in sources]
    span = tracer.start_span("process a batch", links=links)
    span.set_attribute("messaging.system", "kafka")
    span.end()


CORPORA: dict[str, Callable[[Tracer, int], None]] = {
    "5 constant attributes": _constant,
    "5 unique attributes": _unique,
    "20 mixed attributes": _mixed,
    "event with a stack trace": _stack_trace,
    "4 links": _links,
}


def corpus(make: Callable[[Tracer, int], None]) -> list[ReadableSpan]:
    """A batch of spans as the SDK hands them to a processor, with children and parents."""
    collected = _Collected()
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(collected)
    tracer = provider.get_tracer("shop.web", "1.2.3")
    for number in range(BATCH // 8):
        with tracer.start_as_current_span("parent"):
            for child in range(8):
                make(tracer, number * 8 + child)
    return [span for span in collected.spans if span.name != "parent"][:BATCH]


def _ours(encode: Encoder) -> Callable[[Sequence[ReadableSpan]], bytes]:
    return lambda spans: build_request([encode(span) for span in spans])


def _stock(spans: Sequence[ReadableSpan]) -> bytes:
    return encode_spans(spans).SerializeToString()


def candidates() -> dict[str, Callable[[Sequence[ReadableSpan]], bytes]]:
    """Those that there are in this process, by name."""
    found = {STOCK: _stock, OURS: _ours(encode_span)}
    return found if OURS == COMPILED else {**found, PUBLIC: _ours(encode_public)}


def measure(
    spans: Sequence[ReadableSpan], rounds: int, *, only: Collection[str] = (STOCK, OURS, PUBLIC)
) -> dict[str, list[float]]:
    """Microseconds of CPU a span, of each candidate in each round."""
    works = {who: encode for who, encode in candidates().items() if who in only}

    def take(encode: Callable[[Sequence[ReadableSpan]], bytes]) -> float:
        encode(spans)
        began = time.thread_time()
        encode(spans)
        return (time.thread_time() - began) / len(spans) * 1e6

    gc.collect()
    gc.disable()
    try:
        return take_turns(
            {who: functools.partial(take, encode) for who, encode in works.items()}, rounds, collect=False
        )
    finally:
        gc.enable()


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 20)
    for name, make in CORPORA.items():
        spans = corpus(make)
        size = len(build_request([encode_public(span) for span in spans])) // len(spans)
        yield from compared(
            "encode", f"{name}, {size} bytes", "us", measure(spans, arguments.rounds), goals=GOALS.get(name)
        )
    yield from plain_too("encode", arguments)


def main() -> int:
    arguments = options(__doc__, rounds=100).parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
