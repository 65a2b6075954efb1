"""How much faster spans are encoded here than by the stock encoder: medians of one run, candidates taking turns.

    python benchmarks/encode.py [--rounds N]

Each round encodes the same batch with each candidate, to the bytes of a whole request; the ratios are of rounds, so
that what slows the machine down slows both, and the time is the thread's own on the processor, so that other programs
do not count. Ours make each span's record first, header and bytes, as the pipeline does. The caches are as warm as in a
program that has run for a while. The plain encoders make the plain record, as with OTEL_SHED_PURE_PYTHON=true.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Span, Tracer

from otel_shed.otlp import span as plain
from otel_shed.otlp.encode import Encoder, encode_public
from otel_shed.otlp.encode_compiled import encode_compiled
from otel_shed.otlp.request import build_request
from otel_shed.otlp.slots import encode_slots
from otel_shed.record import PlainSpanRecord

BATCH = 256


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


def measure(spans: Sequence[ReadableSpan], rounds: int) -> Iterator[tuple[str, float, list[float]]]:
    """Each candidate's name, its median in microseconds a span, and its ratio to stock in each round."""
    candidates = {"stock": _stock, "plain, public": _ours(encode_public), "plain, slots": _ours(encode_slots)}
    if encode_compiled is not None:
        candidates["compiled"] = _ours(encode_compiled)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for encode in candidates.values():
        encode(spans)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, encode in candidates.items():
                encode(spans)
                start = time.thread_time()
                encode(spans)
                times[name].append((time.thread_time() - start) / len(spans) * 1e6)
    finally:
        gc.enable()
    for name, taken in times.items():
        yield name, statistics.median(taken), sorted(s / t for s, t in zip(times["stock"], taken, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    setattr(plain, "SpanRecord", PlainSpanRecord)  # noqa: B010
    if encode_compiled is None:
        print("The compiled parts are not built here, or not wanted.")
    print(f"{'corpus':26}{'bytes':>6}  {'candidate':14}{'us/span':>8}{'ratio':>8}   {'5 % .. 95 %':>12}")
    for name, make in CORPORA.items():
        spans = corpus(make)
        size = len(build_request([encode_public(span) for span in spans])) // len(spans)
        for candidate, median, ratios in measure(spans, rounds):
            low, high = ratios[len(ratios) // 20], ratios[-1 - len(ratios) // 20]
            middle = statistics.median(ratios)
            print(f"{name:26}{size:>6}  {candidate:14}{median:8.2f}{middle:7.1f}x   {low:4.1f} .. {high:4.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
