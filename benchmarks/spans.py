"""The spans that the benchmarks make: of five attributes, as a web server has them."""

from __future__ import annotations

from random import Random

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.status import Status


def make_span(tracer: Tracer, number: int) -> None:
    """Start one, set its attributes, end it."""
    with tracer.start_as_current_span("GET /cart/{id}") as span:
        span.set_attribute("http.request.method", "GET")
        span.set_attribute("http.route", "/cart/{id}")
        span.set_attribute("http.response.status_code", 200)
        span.set_attribute("cart.items", number)
        span.set_attribute("user.id", f"user-{number % 1000}")


def ended_spans(count: int) -> list[ReadableSpan]:
    """So many, as the SDK hands them to a processor."""
    kept: list[ReadableSpan] = []

    class Keep(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            kept.append(span)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Keep())
    tracer = provider.get_tracer("benchmark")
    for number in range(count):
        make_span(tracer, number)
    return kept


class SpanMint:
    """Ended spans at a tenth of what the SDK takes to make them; each is a trace of its own, with ids of its own."""

    def __init__(self, seed: int = 1) -> None:
        self._random = Random(seed)
        self._flags = TraceFlags(TraceFlags.SAMPLED)
        self._pattern = ended_spans(1)[0]
        self._status = Status()
        # The SDK's own types: what a span of the SDK's has, though these are empty.
        self._none: BoundedList = BoundedList(128)
        self._attributes = [
            BoundedAttributes(attributes={**(self._pattern.attributes or {}), "cart.items": number})
            for number in range(256)
        ]

    def make(self, count: int) -> list[ReadableSpan]:
        bits, pattern = self._random.getrandbits, self._pattern
        return [
            ReadableSpan(
                name=pattern.name,
                context=SpanContext(bits(128) | 1, bits(64) | 1, is_remote=False, trace_flags=self._flags),
                resource=pattern.resource,
                attributes=self._attributes[number & 255],
                events=self._none,
                links=self._none,
                kind=SpanKind.INTERNAL,
                status=self._status,
                start_time=pattern.start_time,
                end_time=pattern.end_time,
                instrumentation_scope=pattern.instrumentation_scope,
            )
            for number in range(count)
        ]
