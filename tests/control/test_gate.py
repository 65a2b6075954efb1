"""The gate: what each phase does to a span that ends; all that is shed is booked and summed up; it never raises."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from otel_shed.control.brownout import Brownout
from otel_shed.control.gate import Gate
from otel_shed.control.phase import Phase
from otel_shed.control.phase_table import phase_table
from otel_shed.control.priority import Classifier
from otel_shed.control.threshold import KEEP_ALL, NEVER, ThresholdInForce, in_force
from otel_shed.otlp.proof import encode_span
from otel_shed.outcome import DropReason
from otel_shed.pipeline.ledger import Fate
from otel_shed.pipeline.summary import Summary
from otel_shed.record import Priority
from otel_shed.testing.clock import FakeClock
from tests.control.spans import span

LOW, NORMAL, HIGH, CRITICAL = Priority
EXPORT_ALL, DEGRADED = (Phase.NORMAL, Phase.OBSERVE), (Phase.DEGRADE, Phase.RECOVERY)


@dataclass
class Bench:
    """A gate whose parts the test sets, and the book that it keeps."""

    clock: FakeClock
    enforcing: bool = True
    keeps: Any = True
    wanted: Any = KEEP_ALL
    choose: Any = None
    with_keep: bool = True
    booked: list[DropReason | Fate] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.summary = Summary()
        table = phase_table(attribute_length=1_000, degraded_attribute_length=255)
        self.brownout = Brownout(table=table, enforcing=self.enforcing, clock=self.clock)
        self.gate = Gate(
            brownout=self.brownout,
            classifier=Classifier(choose=self.choose, clock=self.clock),
            summary=self.summary,
            keep=self.keep if self.with_keep else None,
            threshold=self.threshold,
            clock=self.clock,
        )

    def keep(self, _: ReadableSpan) -> bool:
        if isinstance(self.keeps, Exception):
            raise self.keeps
        return bool(self.keeps)

    def threshold(self) -> ThresholdInForce:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        assert isinstance(self.wanted, ThresholdInForce)
        return self.wanted

    def judge(self, one: Any, phase: Phase | None = None) -> tuple[Priority, int | None] | None:
        if phase is not None:
            self.brownout.force_phase(phase)
        return self.gate.judge(one, self.booked.append)


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


@pytest.mark.parametrize("phase", EXPORT_ALL)
@pytest.mark.parametrize("priority", list(Priority))
def test_all_goes_on(bench: Bench, phase: Phase, priority: Priority) -> None:
    """In NORMAL and OBSERVE every span goes on, with its priority and the usual length for attributes."""
    assert bench.judge(span(priority=priority), phase) == (priority, 1_000)
    assert bench.booked == []


@pytest.mark.parametrize("phase", DEGRADED)
def test_low_priority_is_dropped(bench: Bench, phase: Phase) -> None:
    """In DEGRADE and RECOVERY spans of low priority go no further; the others do, cut shorter."""
    assert [bench.judge(span(priority=priority), phase) for priority in Priority] == [
        None,
        (NORMAL, 255),
        (HIGH, 255),
        (CRITICAL, 255),
    ]
    assert bench.booked == [DropReason.LOW_PRIORITY]


def test_all_that_is_optional_is_summarized(bench: Bench) -> None:
    """In SHED_OPTIONAL only HIGH and CRITICAL go on."""
    assert [bench.judge(span(priority=priority), Phase.SHED_OPTIONAL) for priority in Priority] == [
        None,
        None,
        (HIGH, 255),
        (CRITICAL, 255),
    ]
    assert bench.booked == [Fate.SUMMARIZED] * 2


def test_a_failure_is_worth_keeping(bench: Bench) -> None:
    """A span of status ERROR is HIGH, so it goes on where all else is summarized."""
    assert bench.judge(span(failed=True), Phase.SHED_OPTIONAL) == (HIGH, 255)


def test_beyond_the_share_nothing_goes_out(bench: Bench) -> None:
    """In SHED_OPTIONAL what is worth more goes out within its share; what is beyond it is over the budget."""
    bench.keeps = False
    assert bench.judge(span(priority=CRITICAL), Phase.SHED_OPTIONAL) is None
    assert bench.judge(span(priority=CRITICAL), Phase.DEGRADE) == (CRITICAL, 255)
    assert bench.booked == [DropReason.OVER_BUDGET]


def test_without_a_share_all_is_summarized(clock: FakeClock) -> None:
    """Where nothing is to be kept, SHED_OPTIONAL leaves the summary only."""
    bench = Bench(clock, with_keep=False)
    assert [bench.judge(span(priority=priority), Phase.SHED_OPTIONAL) for priority in Priority] == [None] * 4
    assert bench.booked == [Fate.SUMMARIZED] * 4


def test_what_is_shed_is_in_the_summary(bench: Bench) -> None:
    """By name and kind: how many, how many of them failed, and how long they took; what goes on is not."""
    bench.keeps = False
    for phase in Phase:
        for priority in Priority:
            bench.judge(span(f"{phase}", priority, kind=SpanKind.SERVER, seconds=0.5), phase)
            bench.judge(span(f"{phase}", priority, kind=SpanKind.SERVER, seconds=1.5, failed=True), phase)
    rows = {row.name: row for row in bench.summary.snapshot()}
    assert {name: (row.count, row.errors, row.total, row.max) for name, row in rows.items()} == {
        "degrade": (2, 1, 2.0, 1.5),
        "recovery": (2, 1, 2.0, 1.5),
        "shed_optional": (8, 4, 8.0, 1.5),
    }
    assert {row.kind for row in rows.values()} == {"server"}
    assert Counter(bench.booked) == {
        DropReason.LOW_PRIORITY: 4,
        Fate.SUMMARIZED: 4,
        DropReason.OVER_BUDGET: 4,
    }


def test_what_a_full_queue_lets_go_is_in_the_summary(bench: Bench) -> None:
    """Under the same name and kind as if it had been shed at the gate."""
    one = span("GET /", LOW, kind=SpanKind.CLIENT, failed=True)
    bench.judge(one, Phase.DEGRADE)
    bench.gate.shed([encode_span(one)])
    (row,) = bench.summary.snapshot()
    assert (row.name, row.kind, row.count, row.errors, row.total) == ("GET /", "client", 2, 2, 0.002)


def test_observing_sheds_nothing(clock: FakeClock) -> None:
    """In observe mode every span goes on as in NORMAL; what would have been shed is counted, once a span."""
    bench = Bench(clock, enforcing=False, keeps=False)
    would = dict.fromkeys(Phase, 0)
    for phase in Phase:
        for priority in Priority:
            assert bench.judge(span(priority=priority), phase) == (priority, 1_000)
        would[phase], bench.booked = len(bench.booked), []
    assert would == {
        Phase.NORMAL: 0,
        Phase.OBSERVE: 0,
        Phase.DEGRADE: 1,
        Phase.RECOVERY: 1,
        Phase.SHED_OPTIONAL: 4,
    }
    assert bench.summary.count == 0


def test_observing_counts_what_would_not_have_been_recorded(clock: FakeClock) -> None:
    """A span of a trace below the threshold that would be in force would have been shed too; it is counted once."""
    bench = Bench(clock, enforcing=False, wanted=in_force(0.5))
    for trace_id in (1, NEVER - 1):
        for priority in (LOW, NORMAL):
            assert bench.judge(span(priority=priority, trace_id=trace_id), Phase.DEGRADE) == (priority, 1_000)
    assert bench.booked == [Fate.WOULD_HAVE_SHED] * 3
    assert bench.judge(ReadableSpan("no context"), Phase.DEGRADE) == (NORMAL, 1_000)
    assert len(bench.booked) == 3


class Unreadable:
    """No span of the SDK's: something in it raises."""

    name, kind, status, start_time, end_time = "odd", None, None, None, None
    context = SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED))

    @property
    def attributes(self) -> dict[str, str]:
        raise ZeroDivisionError

    def get_span_context(self) -> SpanContext:
        return self.context


def fails(*_: object) -> Priority:
    raise ZeroDivisionError


@pytest.mark.parametrize("phase", list(Phase))
def test_a_span_that_cannot_be_judged_goes_on(bench: Bench, phase: Phase, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing of ours gets into the application, and a fault of ours costs no span."""
    with caplog.at_level(logging.WARNING, "otel_shed"):
        judged = bench.judge(Unreadable(), phase)
    assert judged is not None
    assert judged[0] is NORMAL
    assert bench.booked == []
    assert sum("could not be judged" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    "faults",
    [{"keeps": ZeroDivisionError()}, {"wanted": ZeroDivisionError()}, {"enforcing": False, "wanted": OSError()}],
)
def test_a_fault_of_ours_sheds_nothing(clock: FakeClock, faults: dict[str, Any]) -> None:
    """Where the budget or the threshold cannot be had, what is worth keeping is kept, with its priority."""
    bench = Bench(clock, **faults)
    judged = bench.judge(span(priority=HIGH), Phase.SHED_OPTIONAL)
    assert judged == (HIGH, 255 if bench.enforcing else 1_000)
    assert bench.booked == []


def test_a_callable_of_the_applications_that_raises(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Its span is NORMAL, which is what it is without a word, and the fault is one line."""
    bench = Bench(clock, choose=fails)
    with caplog.at_level(logging.WARNING, "otel_shed"):
        for _ in range(10):
            assert bench.judge(span(), Phase.DEGRADE) == (NORMAL, 255)
    assert sum("priority callable failed" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("name", [None, 7, ["a", "list"], "\ud800", "x" * 100_000])
def test_whatever_a_span_is_called(bench: Bench, name: Any) -> None:
    """A span that is shed is booked and summed up, be its name none."""
    one = ReadableSpan(name, SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED)))
    assert bench.judge(one, Phase.SHED_OPTIONAL) is None
    assert (bench.booked, bench.summary.count) == ([Fate.SUMMARIZED], 1)


def test_times_that_are_none(bench: Bench) -> None:
    """A span without times, or whose clock went back, took no time."""
    for start, end in ((None, None), (5, None), (5, 4)):
        one = ReadableSpan("work", SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED)), start_time=start)
        one._end_time = end
        assert bench.judge(one, Phase.SHED_OPTIONAL) is None
    (row,) = bench.summary.snapshot()
    assert (row.count, row.total, row.max) == (3, 0.0, 0.0)
