"""The producer benchmark: what it notes, what it makes of it, what it holds ours to; and one turn of it for real."""

from __future__ import annotations

import asyncio
import sys
from array import array
from itertools import count

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from benchmarks import producer, producing
from benchmarks.collector import COLLECTORS, HANGING, REFUSING, SLOW, Slow, script
from benchmarks.producer import SIDES, figures_of, goals_of
from benchmarks.producing import ASYNCIO, NOTHING, CameTo, Noted, OutOfRoomError, as_fast_as_possible, provider_of
from benchmarks.side_by_side import OURS, ROOT, STOCK
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.clock import FakeClock
from tests.launched import Launched

MS = 1_000_000


class Counts(SpanProcessor):
    def __init__(self) -> None:
        self.ended = 0

    def on_end(self, span: object) -> None:
        self.ended += 1


# -- the program -------------------------------------------------------------------------------------------------


def test_what_it_came_to() -> None:
    """Time in calls of more than 2 ms is a share of all threads' time; the rate is that of all threads together."""
    noted = [Noted([1_000] * 998 + [3 * MS, 2 * MS], 10 * MS), Noted([1_000] * 999 + [5 * MS], 10 * MS)]
    came_to = CameTo.of(noted)
    assert came_to.share == pytest.approx(8 / 20)
    assert came_to.longest == pytest.approx(0.005)
    assert came_to.p999 == pytest.approx(0.002)
    assert came_to.rate == pytest.approx(200_000)
    assert came_to.lag is None
    assert CameTo.of([Noted([1], MS, [1 * MS] * 999 + [9 * MS] * 2)]).lag == pytest.approx(0.009)


def test_only_the_call_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is between two readings of the clock; the reading after it is also the time of the program."""
    counts, readings = Counts(), count(step=100)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counts)
    monkeypatch.setattr(producing, "perf_counter_ns", lambda: next(readings))
    noted = as_fast_as_possible(provider.get_tracer("t"), array("q", bytes(8 * 10)), 2_000 / 1e9)
    assert list(noted.ends) == [100] * 10
    assert noted.nanos == 2_000
    assert counts.ended == 10


def test_more_spans_than_there_is_room_for() -> None:
    """It is an error rather than a figure of what there was room for."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with pytest.raises(OutOfRoomError):
        as_fast_as_possible(tracer, array("q", bytes(8)), 1.0)


def test_the_event_loop() -> None:
    """Bursts at their rate, and a lag for each tick."""
    counts = Counts()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counts)
    [noted] = asyncio.run(producing.with_a_loop(provider.get_tracer("t"), 0.1))
    assert counts.ended == len(noted.ends)
    assert len(noted.ends) % producing.BURST == 0
    assert 0 < len(noted.ends) <= 2_000
    assert 0 < len(noted.lags) <= 100


@pytest.mark.parametrize("side", SIDES)
def test_each_side_has_its_processor(side: str) -> None:
    """One that does nothing, stock's, and ours, as they are by default."""
    provider = provider_of(side, "grpc", "http://127.0.0.1:9")
    [processor] = provider._active_span_processor._span_processors
    expected = {NOTHING: "SpanProcessor", STOCK: "BatchSpanProcessor"}.get(side, "SheddingSpanProcessor")
    assert type(processor).__name__ == expected
    provider.shutdown()


# -- the collectors ----------------------------------------------------------------------------------------------


def request(spans: int) -> Request:
    return Request(0, "grpc", b"", {}, spans=spans)


def test_the_collectors() -> None:
    """What a request is answered."""
    answers = {kind: script(kind)(request(0)) for kind in COLLECTORS}
    assert [kind for kind in COLLECTORS if answers[kind].accepts] == ["healthy", SLOW]
    assert answers[REFUSING] == Answer(code="UNAVAILABLE", status=503)
    assert answers[HANGING].hang


def test_a_slow_collector() -> None:
    """It works requests off one after the other."""
    clock, waits = FakeClock(), list[float]()
    slow = Slow(500, clock=clock, wait=waits.append)
    assert slow(request(500)).accepts
    assert slow(request(250)).accepts
    clock.advance(10.0)
    assert slow(request(100)).accepts
    assert waits == pytest.approx([1.0, 1.5, 0.2])


# -- the goals ---------------------------------------------------------------------------------------------------


def came_to(share: float = 0.0, longest: float = 0.001, p999: float = 1e-4, rate: float = 50_000.0) -> CameTo:
    return CameTo(share, longest, p999, rate, lag=0.004)


def met(program: str, ours: CameTo, nothing: CameTo, stock: CameTo) -> dict[str, bool]:
    turns = {NOTHING: [nothing] * 3, STOCK: [stock] * 3, OURS: [ours] * 3}
    found = figures_of(turns, program, "healthy")
    return {figure.what.split(": ")[1]: figure.met for figure in found if figure.met is not None}


def test_goals_of_threads() -> None:
    """Share: no more than stock's, nor 1.3 times nothing's; longest: 1.5 times, or 10 ms; rate: nine tenths."""
    nothing, stock = came_to(share=0.1, longest=0.1), came_to(share=0.2, longest=0.3, rate=20_000.0)
    assert all(met("4", came_to(0.13, 0.15, rate=45_000.0), nothing, stock).values())
    assert not any(met("4", came_to(0.131, 0.151, rate=44_999.0), nothing, stock).values())
    goals = goals_of({NOTHING: [nothing], STOCK: [came_to(share=0.05)], OURS: [nothing]}, "1")
    assert goals["share"].limit == pytest.approx(0.05)
    idle = goals_of({NOTHING: [came_to()], STOCK: [came_to()], OURS: [came_to()]}, "1")
    assert idle["longest"].limit == pytest.approx(10.0)
    assert idle["share"].limit == producer.LEAST_SHARE


def test_goals_of_the_event_loop() -> None:
    """p99.9 of end(): twice that of the processor that does nothing; the lag: 1.3 times."""
    nothing = came_to()
    assert all(met(ASYNCIO, CameTo(0.0, 1.0, 2e-4, 1.0, 0.0052), nothing, nothing).values())
    missed = met(ASYNCIO, CameTo(0.0, 1.0, 2.1e-4, 1.0, 0.0053), nothing, nothing)
    assert missed == {"p99.9 of end()": False, "lag of the loop, p99.9": False}


# -- for real ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["2", ASYNCIO])
def test_one_situation(threads: str) -> None:
    """It is measured by itself, run as a file, and every side is in its table with its goals."""
    command = [sys.executable, ROOT / "benchmarks" / "producer.py", "--collector", "refusing", "--rounds", "1"]
    with Launched([*command, "--threads", threads, "--seconds", "0.2"]) as process:
        assert process.wait(90) == 0, process.output
        assert process.lines[-1].endswith("goals met.")
        for side in SIDES:
            lines = [line for line in process.lines if "refusing: " in line and f" {side} " in line]
            assert len(lines) == (5 if threads == ASYNCIO else 4)


def test_a_program_that_there_is_not() -> None:
    """Neither a number of threads nor the event loop: it says what there is."""
    with Launched([sys.executable, "-m", "benchmarks.producer", "--threads", "many"], cwd=ROOT) as process:
        assert process.wait(30) == 2
        assert "'many' is neither a number of threads nor asyncio" in process.output
