"""What a decision costs, a span that is not recorded, and all of it: stock and ours in turns, in one process.

    python -m benchmarks.sampler [--rounds N]

First should_sample() alone, CPU of the thread; ours is what LoadShedder.sampler() makes, with all that it asks, but
where it says otherwise. Then programs that start spans, set five attributes and end them, CPU of the whole process:
with a sampler of ours, and with processor and export over gRPC to a receiver in another process, against the SDK with
no processor at all. What stock is stands in brackets; ALWAYS_ON is ParentBased(ALWAYS_ON).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from random import Random

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context

from benchmarks.receiving import ReceiverProcess
from benchmarks.side_by_side import OURS, STOCK, options, plain_too, present, take_turns
from otel_shed import AdaptiveSampler, LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanProcessor
from otel_shed.command.comparison import Figure, Goal, compared
from otel_shed.control.ceiling import Ceiling, FixedCeiling, RateCeiling

CALLS, SPANS = 2_000, 512
ATTRIBUTES = {"http.request.method": "GET", "http.route": "/cart/{id}"}
STOCK_SAMPLER = "ALWAYS_ON"
# Issue 5: cheaper than ParentBased(ALWAYS_ON) when it keeps, and than ALWAYS_OFF when it drops.
CHEAPER = Goal(1.0)

Work = Callable[[], float]


def ours(ceiling: Ceiling | None = None) -> Sampler:
    return LoadShedder(ShedConfig()).sampler(ceiling=ceiling)


def parent(*, remote: bool, sampled: bool, state: TraceState) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(1 << 100 | 0xF0 << 48, 2, remote, flags, state)), Context())


def decisions(sampler: Sampler, context: Context | None, attributes: dict[str, str] | None) -> Work:
    """CPU microseconds of a decision, over ``CALLS`` trace ids as they come."""
    random = Random(1)
    trace_ids = [random.getrandbits(128) for _ in range(CALLS)] if context is None else [1 << 100 | 0xF0 << 48] * CALLS

    def work() -> float:
        decide, kind = sampler.should_sample, SpanKind.INTERNAL
        began = time.thread_time()
        for trace_id in trace_ids:
            decide(context, trace_id, "GET /cart/{id}", kind, attributes, ())
        return (time.thread_time() - began) / CALLS * 1e6

    return work


def decision_cases() -> list[tuple[str, str, Work, Work, Goal | None]]:
    """A name, stock's name, stock's work and ours, and what is asked of it."""
    stock, adaptive = ParentBased(ALWAYS_ON), ours()
    none, foreign = TraceState(), TraceState([("ot", "th:8"), ("vendor", "v1")])
    of_ours = adaptive.should_sample(None, 1, "root").trace_state or none
    never = FixedCeiling(0.0)
    rows: list[tuple[str, str, Sampler, Sampler, Context | None, dict[str, str] | None, Goal | None]] = [
        ("root kept", STOCK_SAMPLER, stock, adaptive, None, None, CHEAPER),
        ("root kept, 2 attributes", STOCK_SAMPLER, stock, adaptive, None, ATTRIBUTES, CHEAPER),
        ("root dropped", "ALWAYS_OFF", ALWAYS_OFF, AdaptiveSampler(threshold=never.admit), None, None, CHEAPER),
        ("root dropped by a ceiling", "ALWAYS_OFF", ALWAYS_OFF, ours(never), None, None, None),
        ("root dropped by a ceiling, 2 attributes", "ALWAYS_OFF", ALWAYS_OFF, ours(never), None, ATTRIBUTES, None),
        ("root, rate=100", STOCK_SAMPLER, stock, ours(RateCeiling(100.0)), None, None, None),
    ]
    for where, remote, state in (("local", False, of_ours), ("remote", True, foreign)):
        kept = parent(remote=remote, sampled=True, state=state)
        dropped = parent(remote=remote, sampled=False, state=none)
        rows += [
            (f"{where} parent kept", STOCK_SAMPLER, stock, adaptive, kept, None, CHEAPER),
            (f"{where} parent kept, 2 attributes", STOCK_SAMPLER, stock, adaptive, kept, ATTRIBUTES, None),
            (f"{where} parent dropped", STOCK_SAMPLER, stock, adaptive, dropped, None, CHEAPER),
        ]
    return [
        (name, against, decisions(theirs, context, attributes), decisions(mine, context, attributes), goal)
        for name, against, theirs, mine, context, attributes, goal in rows
    ]


def program(provider: TracerProvider) -> Callable[[int], float]:
    """Makes roots of five attributes and has them delivered; CPU microseconds of the process a span."""
    tracer = provider.get_tracer("benchmark")

    def work(spans: int) -> float:
        began = time.process_time()
        for number in range(spans):
            span = tracer.start_span("GET /cart/{id}")
            span.set_attribute("http.request.method", "GET")
            span.set_attribute("http.route", "/cart/{id}")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("cart.items", number)
            span.set_attribute("user.id", f"user-{number}")
            span.end()
        provider.force_flush(30_000)
        return (time.process_time() - began) / spans * 1e6

    return work


def provider(sampler: Sampler, receiver: ReceiverProcess | None = None) -> TracerProvider:
    """Without a processor, or with ours to a receiver."""
    made = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    if receiver is not None:
        exporter = OTLPSpanExporter("grpc", receiver.endpoints["grpc"])
        made.add_span_processor(SheddingSpanProcessor(exporter, max_queue_size=10**6))
    return made


def should_sample(arguments: argparse.Namespace) -> Iterator[Figure]:
    """The decision alone."""
    for name, against, theirs, mine, goal in decision_cases():
        told = take_turns({STOCK: theirs, OURS: mine}, arguments.rounds, collect=False)
        yield from compared("sampler", f"{name} ({against})", "us", told, goals={OURS: goal} if goal else {})


def programs(arguments: argparse.Namespace, receiver: ReceiverProcess) -> Iterator[Figure]:
    """Sampler, processor and export together, beside the SDK with no processor at all."""
    recorded = f"{STOCK_SAMPLER}, no processor"
    cases = [
        ("all kept", recorded, ParentBased(ALWAYS_ON), ours(), None),
        ("all dropped", recorded, ParentBased(ALWAYS_ON), ours(FixedCeiling(0.0)), None),
        ("all dropped", "ALWAYS_OFF", ALWAYS_OFF, ours(FixedCeiling(0.0)), None),
        ("1 in 10 kept, exported", recorded, ParentBased(ALWAYS_ON), ours(FixedCeiling(0.1)), receiver),
        ("half kept, exported", recorded, ParentBased(ALWAYS_ON), ours(FixedCeiling(0.5)), receiver),
        ("all kept, exported", recorded, ParentBased(ALWAYS_ON), ours(), receiver),
    ]
    for name, against, theirs, mine, exported in cases:
        works = {STOCK: program(provider(theirs)), OURS: program(provider(mine, exported))}
        for work in works.values():
            work(SPANS)
        told = take_turns({who: functools.partial(work, SPANS) for who, work in works.items()}, arguments.rounds)
        yield from compared("sampler", f"{name} ({against})", "us", told)


def figures(arguments: argparse.Namespace) -> Iterator[Figure]:
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 10)
    yield from should_sample(arguments)
    with ReceiverProcess() as receiver:
        yield from programs(arguments, receiver)
    yield from plain_too("sampler", arguments)


def main() -> int:
    arguments = options(__doc__, rounds=50).parse_args()
    return present(arguments, figures(arguments))


if __name__ == "__main__":
    sys.exit(main())
