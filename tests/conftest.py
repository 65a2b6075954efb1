"""What every test is held to: each pipeline that it makes balances its account, and leaves no worker behind."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanContext, TraceFlags

from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.stats import read_stats
from otel_shed.testing.clock import FakeClock

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background ignores it for them, and for every program that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples at each run, so that what fails was changed. --hypothesis-profile=default looks for others.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def every_account_balances(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which a span that ended is neither exported, held, nor dropped for a reason."""
    made: list[Pipeline] = []
    watch = lifecycle.watch

    def watching(pipeline: Pipeline) -> None:
        made.append(pipeline)
        watch(pipeline)

    monkeypatch.setattr(lifecycle, "watch", watching)
    yield
    for pipeline in made:
        assert read_stats([pipeline]).unaccounted == 0
        pipeline.shutdown(1.0)
        stats = read_stats([pipeline])
        assert stats.unaccounted == 0
        assert (stats.queued, stats.in_flight) == (0, 0)
        counts = (stats.ended, stats.unsampled, stats.exported, stats.summarized, *stats.dropped.values())
        assert min(counts) >= 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


_trace_ids = itertools.count(0xABC)


def ended_span(name: str = "work", *, sampled: bool = True, span_id: int = 1) -> ReadableSpan:
    """A span as a processor gets it when it ends; each is a trace of its own."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    context = SpanContext(next(_trace_ids), span_id, is_remote=False, trace_flags=flags)
    return ReadableSpan(name, context, start_time=1_000, end_time=2_000, resource=_provider.resource)


_provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)


@pytest.fixture
def spans() -> Callable[[int], list[ReadableSpan]]:
    """Makes so many ended spans, named by their number."""
    return lambda count: [ended_span(f"span-{number}", span_id=number + 1) for number in range(count)]
