"""What a decision costs, and a span that is not recorded: stock samplers and ours in turns, in one process.

    python benchmarks/sampler.py [--rounds N]

The first table is should_sample() alone; ours is what LoadShedder.sampler() makes, with all that it asks, but where it
says otherwise. The second is
a program that starts a span, sets five attributes and ends it. A ratio is stock's time over ours in one round, so that
what slows the machine down slows both.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from random import Random

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from otel_shed import AdaptiveSampler, LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanProcessor
from otel_shed.control.ceiling import Ceiling, FixedCeiling, RateCeiling
from otel_shed.outcome import Outcome
from otel_shed.record import SpanRecord

CALLS, SPANS = 2000, 300
ATTRIBUTES = {"http.request.method": "GET", "http.route": "/cart/{id}"}
STOCK = "ParentBased(ALWAYS_ON)"

Work = Callable[[], object]


def ours(ceiling: Ceiling | None = None) -> Sampler:
    return LoadShedder(ShedConfig()).sampler(ceiling=ceiling)


def parent(*, remote: bool, sampled: bool, state: TraceState) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return set_span_in_context(NonRecordingSpan(SpanContext(1 << 100 | 0xF0 << 48, 2, remote, flags, state)), Context())


def decisions(sampler: Sampler, context: Context | None, attributes: dict[str, str] | None) -> Work:
    """``CALLS`` decisions about trace ids as they come."""
    random = Random(1)
    trace_ids = [random.getrandbits(128) for _ in range(CALLS)] if context is None else [1 << 100 | 0xF0 << 48] * CALLS

    def work() -> None:
        decide, kind = sampler.should_sample, SpanKind.INTERNAL
        for trace_id in trace_ids:
            decide(context, trace_id, "GET /cart/{id}", kind, attributes, ())

    return work


def decision_cases() -> list[tuple[str, str, Work, Work]]:
    """A name, stock's name, stock's work and ours."""
    stock, adaptive = ParentBased(ALWAYS_ON), ours()
    none, foreign = TraceState(), TraceState([("ot", "th:8"), ("vendor", "v1")])
    of_ours = adaptive.should_sample(None, 1, "root").trace_state or none
    never = FixedCeiling(0.0)
    rows: list[tuple[str, str, Sampler, Sampler, Context | None, dict[str, str] | None]] = [
        ("root kept", STOCK, stock, adaptive, None, None),
        ("root kept, 2 attributes", STOCK, stock, adaptive, None, ATTRIBUTES),
        ("root dropped by a threshold", "ALWAYS_OFF", ALWAYS_OFF, AdaptiveSampler(threshold=never.admit), None, None),
        ("root dropped by a ceiling", "ALWAYS_OFF", ALWAYS_OFF, ours(never), None, None),
        ("the same, 2 attributes", "ALWAYS_OFF", ALWAYS_OFF, ours(never), None, ATTRIBUTES),
        ("root, rate=100", STOCK, stock, ours(RateCeiling(100.0)), None, None),
    ]
    for where, remote, state in (("local", False, of_ours), ("remote", True, foreign)):
        kept = parent(remote=remote, sampled=True, state=state)
        dropped = parent(remote=remote, sampled=False, state=none)
        rows += [
            (f"{where} parent kept", STOCK, stock, adaptive, kept, None),
            (f"{where} parent kept, 2 attributes", STOCK, stock, adaptive, kept, ATTRIBUTES),
            (f"{where} parent dropped", STOCK, stock, adaptive, dropped, None),
        ]
    return [
        (name, against, decisions(theirs, context, attributes), decisions(mine, context, attributes))
        for name, against, theirs, mine, context, attributes in rows
    ]


class Sink(OTLPSpanExporter):
    """Our exporter with its last step, the network, left out."""

    def send_records(self, records: Sequence[SpanRecord], *, budget: float) -> Outcome:
        return Outcome(accepted=len(records))


def program(sampler: Sampler, *, export: bool = False) -> Work:
    """``SPANS`` roots of five attributes, without a processor or to one of ours."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    if export:
        provider.add_span_processor(SheddingSpanProcessor(Sink()))
    tracer: Tracer = provider.get_tracer("benchmark")

    def work() -> None:
        for number in range(SPANS):
            span = tracer.start_span("GET /cart/{id}")
            span.set_attribute("http.request.method", "GET")
            span.set_attribute("http.route", "/cart/{id}")
            span.set_attribute("http.response.status_code", 200)
            span.set_attribute("cart.items", number)
            span.set_attribute("user.id", f"user-{number}")
            span.end()

    return work


def program_cases() -> list[tuple[str, str, Work, Work]]:
    recorded = f"{STOCK}, no processor"
    return [
        ("all kept, no processor", recorded, program(ParentBased(ALWAYS_ON)), program(ours())),
        ("all dropped", recorded, program(ParentBased(ALWAYS_ON)), program(ours(FixedCeiling(0.0)))),
        ("all dropped", "ALWAYS_OFF", program(ALWAYS_OFF), program(ours(FixedCeiling(0.0)))),
        (
            "1 in 10 kept and exported",
            recorded,
            program(ParentBased(ALWAYS_ON)),
            program(ours(FixedCeiling(0.1)), export=True),
        ),
        ("all kept and exported", recorded, program(ParentBased(ALWAYS_ON)), program(ours(), export=True)),
    ]


def measure(works: Sequence[Work], rounds: int) -> list[list[float]]:
    """CPU seconds that each took in each round."""
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for work, taken in zip(works, times, strict=True):
                start = time.thread_time()
                work()
                taken.append(time.thread_time() - start)
    finally:
        gc.enable()
    return times


def table(
    title: str, cases: list[tuple[str, str, Work, Work]], calls: int, unit: str, scale: float, rounds: int
) -> None:
    print(f"{title:36}{'stock':>9}{'ours':>9}  {unit:4}{'ratio':>7}  {'5 % .. 95 %':>12}   stock is")
    for name, against, stock, mine in cases:
        theirs, taken = measure([stock, mine], rounds)
        ratios = sorted(one / other for one, other in zip(theirs, taken, strict=True))
        low, high = ratios[len(ratios) // 20], ratios[-1 - len(ratios) // 20]
        figures = [statistics.median(each) / calls * scale for each in (theirs, taken)]
        print(
            f"{name:36}{figures[0]:9.2f}{figures[1]:9.2f}  {unit:4}{statistics.median(ratios):6.2f}x"
            f"  {low:5.2f} ..{high:5.2f}   {against}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    table("should_sample()", decision_cases(), CALLS, "us", 1e6, rounds)
    print()
    table("start_span() to end()", program_cases(), SPANS, "us", 1e6, rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
