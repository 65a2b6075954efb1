"""The report: at most one a minute, only where something was shed, and what it says is what was shed since the last."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource

from otel_shed.outcome import SHED, DropReason
from otel_shed.pipeline.ledger import Account
from otel_shed.pipeline.summary import Summary
from otel_shed.report import HEAVIEST, NAME, Report
from otel_shed.testing.clock import FakeClock

RESOURCE = Resource({"service.name": "shop"})


class Bench:
    """A report on an account that the test writes."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.account = Account()
        self.summary = Summary()
        self.report = Report(
            account=lambda: self.account,
            shed=lambda: self.account.summarized + sum(self.account.dropped.get(reason, 0) for reason in SHED),
            state=lambda: {"otel_shed.phase": "degrade"},
            summary=self.summary,
            clock=clock,
            time_ns=lambda: int(clock() * 1e9),
        )

    def told(self) -> dict[str, Any] | None:
        """The attributes of the report that is due; None if none is."""
        span = self.report.due(self.clock(), RESOURCE)
        return None if span is None else dict(span.attributes or {})

    def wait(self) -> float | None:
        return self.report.wait(self.clock())


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def test_nothing_is_told_where_nothing_was_shed(bench: Bench) -> None:
    """However long it goes on; what was lost in export is no reason to tell."""
    for count in range(10):
        bench.account = Account(ended=count, exported=count, dropped={DropReason.RETRY_EXHAUSTED: count})
        bench.clock.advance(61.0)
        assert (bench.told(), bench.wait()) == (None, None)


@pytest.mark.parametrize(
    "account",
    [
        Account(summarized=1),
        *(Account(dropped={reason: 1}) for reason in list(DropReason)[:3]),
    ],
)
def test_at_most_once_a_minute(bench: Bench, account: Account) -> None:
    """The wait says when; after that there is nothing to wait for until more is shed."""
    bench.clock.advance(10.0)
    bench.account = account
    assert (bench.told(), bench.wait()) == (None, 50.0)
    bench.clock.advance(50.0)
    assert bench.wait() == 0.0
    assert bench.told() is not None
    assert (bench.told(), bench.wait()) == (None, None)
    bench.account = Account(summarized=5, dropped={DropReason.QUEUE_FULL: 5})
    bench.clock.advance(59.0)
    assert (bench.told(), bench.wait()) == (None, 1.0)
    bench.clock.advance(1.0)
    assert bench.told() is not None


def test_it_tells_what_came_since_the_last(bench: Bench) -> None:
    """Counts by outcome, and the names of which most was shed."""
    for name, count in (("GET /", 3), ("query", 5)):
        for _ in range(count):
            bench.summary.add(name, 1, False, 1)
    bench.account = Account(ended=20, exported=12, dropped={DropReason.OVER_BUDGET: 8})
    bench.clock.advance(60.0)
    assert bench.told() == {
        "otel_shed.phase": "degrade",
        "otel_shed.spans.ended": 20,
        "otel_shed.spans.exported": 12,
        "otel_shed.spans.over_budget": 8,
        "otel_shed.heaviest.names": ["query", "GET /"],
        "otel_shed.heaviest.counts": [5, 3],
    }
    bench.summary.add("GET /", 1, False, 1)
    bench.account = Account(ended=22, exported=13, summarized=1, dropped={DropReason.OVER_BUDGET: 8})
    bench.clock.advance(60.0)
    assert bench.told() == {
        "otel_shed.phase": "degrade",
        "otel_shed.spans.ended": 2,
        "otel_shed.spans.exported": 1,
        "otel_shed.spans.summarized": 1,
        "otel_shed.heaviest.names": ["GET /"],
        "otel_shed.heaviest.counts": [1],
    }


def test_no_more_names_than_the_heaviest(bench: Bench) -> None:
    """A program may have thousands."""
    for number in range(50):
        for _ in range(number):
            bench.summary.add(f"span {number}", 1, False, 1)
    bench.account = Account(summarized=1225)
    bench.clock.advance(60.0)
    told = bench.told()
    assert told is not None
    assert told["otel_shed.heaviest.counts"] == [49 - place for place in range(HEAVIEST)]


def test_it_is_a_span_of_the_program(bench: Bench) -> None:
    """Under its resource, a sampled root of a trace of its own, over the time that it tells of."""
    bench.account = Account(summarized=1)
    began = bench.clock()
    bench.clock.advance(60.0)
    span = bench.report.due(bench.clock(), RESOURCE)
    assert span is not None
    assert span.context is not None
    assert (span.name, span.resource, span.parent) == (NAME, RESOURCE, None)
    assert span.context.is_valid
    assert span.context.trace_flags.sampled
    assert (span.start_time, span.end_time) == (int(began * 1e9), int(bench.clock() * 1e9))


def test_a_child_tells_what_is_its_own(bench: Bench) -> None:
    """Its account begins anew, so nothing in it is less than the parent told last."""
    bench.account = Account(ended=100, summarized=50)
    bench.clock.advance(60.0)
    assert bench.told() is not None
    bench.account = Account()
    bench.report.restart()
    bench.clock.advance(60.0)
    assert bench.told() is None
    bench.account = Account(ended=3, summarized=2)
    told = bench.told()
    assert told is not None
    assert (told["otel_shed.spans.ended"], told["otel_shed.spans.summarized"]) == (3, 2)
