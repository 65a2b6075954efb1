"""The program that makes the traces of a storm: their shapes, its pace, and what it tells."""

from __future__ import annotations

import io
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Span, StatusCode

from otel_shed.command.storm import program
from otel_shed.command.storm.calls import Caller, Listener
from otel_shed.command.storm.program import TICK, Pace, Readings, Storm, unsampled_parent
from otel_shed.command.storm.shapes import BACK, CALLS, CHECKOUT, FRONT, OpenTraces, Work
from otel_shed.command.storm.testimony import Closing, EndTimes, Reading, Teller, Told
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from tests.launched import until

TICKS = 20


class Made:
    """Traces of one shape, and the spans that came of them."""

    def __init__(self, shape: Sequence[Work], caller: Caller | None = None) -> None:
        self._exporter = RecordingExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer(__name__)
        self.traces = OpenTraces(self.tracer, shape, ticks=TICKS, began=caller.began if caller else None)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.spans

    def finish(self) -> None:
        for _ in range(TICKS):
            self.traces.tick()
        assert self.traces.open == 0


@pytest.mark.parametrize("shape", [CHECKOUT, FRONT, BACK])
def test_a_trace(shape: Sequence[Work]) -> None:
    """It is one tree in which children begin after their parents and end before them, and it takes its time."""
    made = Made(shape)
    for failed in (False, True):
        made.traces.begin(failed=failed)
    for _ in range(round(shape[0].ends * TICKS) - 1):
        made.traces.tick()
    assert made.traces.open == 2
    made.finish()
    assert made.traces.ended == len(made.spans) == len(made.traces.end_times) == 2 * len(shape)
    by_id = {span.context.span_id: span for span in made.spans if span.context}
    roots = [span for span in made.spans if span.parent is None]
    assert [root.name for root in roots] == [shape[0].name] * 2
    for span in made.spans:
        if span.parent is not None:
            parent = by_id[span.parent.span_id]
            assert parent.start_time <= span.start_time <= span.end_time <= parent.end_time
    assert Counter(span.name for span in made.spans) == Counter({work.name: 0 for work in shape}) + Counter(
        2 * [work.name for work in shape]
    )


def test_a_failed_trace() -> None:
    """The exception is where it happened, an inner span; that and the root are errors, and nothing else is."""
    made = Made(CHECKOUT)
    made.traces.begin(failed=True)
    made.finish()
    assert {span.name for span in made.spans if span.events} == {"charge card"}
    errors = [span.name for span in made.spans if span.status.status_code is StatusCode.ERROR]
    assert errors == ["charge card", "POST /checkout"]


def test_traces_overlap() -> None:
    """One begins at each tick, so there are always as many open as a trace has ticks."""
    made = Made(CHECKOUT)
    for number in range(3 * TICKS):
        made.traces.begin(failed=False)
        made.traces.tick()
        assert made.traces.open == min(number + 1, TICKS - 1)
    gaps = defaultdict(list)
    for place, span in enumerate(made.spans):
        gaps[span.context.trace_id if span.context else 0].append(place)
    assert all(places[-1] - places[0] > len(CHECKOUT) for places in gaps.values() if len(places) == len(CHECKOUT))


def test_a_parent_that_decided_not_to_sample() -> None:
    """The trace is its parent's, and none of its spans is recorded or measured."""
    made = Made(CHECKOUT)
    chance = random.Random(7)
    span = made.traces.begin(failed=False, context=unsampled_parent(chance))
    assert span.get_span_context().trace_id != 0
    made.finish()
    assert (len(made.spans), made.traces.ended, made.traces.unrecorded) == (0, 0, len(CHECKOUT))
    assert not made.traces.end_times


def test_a_call_to_the_second_process() -> None:
    """The context arrives by traceparent and tracestate, and what it begins there is of the same trace."""
    listener = Listener()
    caller = Caller(listener.port)
    front, back = Made(FRONT, caller), Made(BACK)
    try:
        front.traces.begin(failed=True)
        front.finish()
        caller.close()
        until(lambda: len(listener.calls) == 1)
    finally:
        listener.close()
    context, failed = listener.calls.popleft()
    back.traces.begin(failed=failed, context=context)
    back.finish()
    assert (failed, caller.lost) == (True, 0)
    [server] = [span for span in back.spans if span.name == BACK[0].name]
    [client] = [span for span in front.spans if span.name == FRONT[CALLS].name]
    assert server.parent is not None
    assert server.parent.is_remote
    assert client.context is not None
    assert (server.parent.trace_id, server.parent.span_id) == (client.context.trace_id, client.context.span_id)


def test_calls_that_do_not_get_through() -> None:
    """They are counted, and keep nobody."""
    listener = Listener()
    listener.close()
    caller = Caller(listener.port)
    front = Made(FRONT, caller)
    front.traces.begin(failed=False)
    front.finish()
    caller.close()
    assert caller.lost == 1


# -- the pace ----------------------------------------------------------------------------------------------------


def test_the_pace() -> None:
    """A tick each hundredth of a second."""
    clock = FakeClock()
    pace, began = Pace(clock, clock.advance), clock()
    assert [pace.wait() - began for _ in range(3)] == pytest.approx([TICK, 2 * TICK, 3 * TICK])


def test_the_pace_after_a_delay() -> None:
    """What was missed is made up for step by step, never at once, and not at all if it was too much."""
    clock = FakeClock()
    pace, began = Pace(clock, clock.advance), clock()
    clock.advance(10 * TICK)
    ticks = [pace.wait() - began for _ in range(60)]
    between = [later - earlier for earlier, later in pairwise(ticks)]
    assert min(between) >= 0.6 * TICK
    assert ticks[-1] == pytest.approx(60 * TICK)
    clock.advance(60.0)
    at = clock()
    for _ in range(1000):
        pace.wait()
    assert clock() - at == pytest.approx(1000 * TICK - 0.5, abs=2 * TICK)


# -- what it tells -----------------------------------------------------------------------------------------------


class Silent:
    """A side without a processor."""

    def __init__(self) -> None:
        self.tracer = TracerProvider(shutdown_on_exit=False).get_tracer(__name__)

    def state(self) -> dict[str, object]:
        return {"phase": "observe", "ended": 3, "dropped": {"queue_full": 1}}

    def shut_down(self, timeout_millis: int) -> None:
        pass


def test_the_storm_tells_what_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trace with its time, its spans, and whether it fails or is not sampled; all of them end."""
    clock = FakeClock()
    monkeypatch.setattr(program, "Pace", lambda: Pace(clock, clock.advance))
    monkeypatch.setattr(program.time, "monotonic", clock)
    out = io.StringIO()
    side, teller = Silent(), Teller(out)
    begun: list[Span] = []
    traces = OpenTraces(side.tracer, CHECKOUT, ticks=200, began=lambda span, place, _: begun.append(span))
    readings = Readings(side, traces, teller)  # type: ignore[arg-type]
    storm = Storm(traces, readings, teller, failing=0.5, unsampled=0.25)
    storm.offer((1000.0, 2.0), threading.Event(), is_storm=True)
    storm.offer((1000.0, 1.0), threading.Event(), is_storm=False)
    storm.finish()
    told = Told()
    calm_is_told_after_the_end = []
    for line in out.getvalue().splitlines():
        assert told.take(line)
        if told.storm and told.started and told.started[-1].at >= told.storm[0] + 2.0 + 2 * TICK:
            calm_is_told_after_the_end.append(told.storm[1] is not None)
    assert all(calm_is_told_after_the_end)
    assert calm_is_told_after_the_end
    began, ended = told.storm or (0.0, None)
    assert ended is not None
    assert ended - began == pytest.approx(2.0, abs=2 * TICK)
    in_the_part_that_counts = [reading.ends.spans for reading in told.readings if began + 1.25 < reading.at < ended]
    assert len(readings.ends) == pytest.approx(sum(in_the_part_that_counts), abs=260)
    assert len(told.started) == pytest.approx(300, abs=3)
    assert storm.started == 10 * len(told.started) == len(begun)
    assert {trace.trace_id for trace in told.started} == {f"{s.get_span_context().trace_id:032x}" for s in begun}
    assert 100 < sum(trace.failed for trace in told.started) < 200
    unsampled = [trace for trace in told.started if not trace.is_sampled]
    assert 40 < len(unsampled) < 110
    assert storm.of_unsampled == traces.unrecorded == 10 * len(unsampled)
    assert storm.started == traces.ended + traces.unrecorded
    assert len(told.readings) == pytest.approx(20, abs=1)
    assert told.readings[-1].phase == "observe"
    assert sum(reading.ends.spans for reading in told.readings) <= traces.ended


def test_a_storm_that_is_to_stop() -> None:
    """It starts nothing more."""
    side, teller = Silent(), Teller(io.StringIO())
    traces = OpenTraces(side.tracer, CHECKOUT, ticks=2)
    stop = threading.Event()
    stop.set()
    storm = Storm(traces, Readings(side, traces, teller), teller, failing=0, unsampled=0)  # type: ignore[arg-type]
    storm.offer((1000.0, 60.0), stop, is_storm=True)
    assert storm.started == 0


def test_quantiles() -> None:
    """Of nanoseconds, in seconds."""
    found = EndTimes.of(range(1000, 2_001_000, 1000))
    assert (found.spans, found.longest) == (2000, 2e-3)
    assert (found.p50, found.p99, found.p999) == pytest.approx((1e-3, 1.98e-3, 1.998e-3))
    assert EndTimes.of([]) == EndTimes()


def test_what_is_told_is_heard() -> None:
    """The lines of a Teller come to the values that it was given."""
    reading = Reading(
        at=1.5, is_storm=True, started=10, memory=1 << 20, cpu=0.5, ends=EndTimes(1, 0.1), dropped={"queue_full": 1}
    )
    closing = Closing(
        ended=10,
        unsampled=0,
        ends=EndTimes(2),
        lost_calls=0,
        seconds_to_shut_down=0.1,
        last=reading,
    )
    out = io.StringIO()
    teller = Teller(out)
    teller.reading(reading)
    teller.closing(closing)
    teller.log("a line")
    teller.ports(grpc=1, http=2)
    teller.storm(1.0)
    told = Told()
    assert all(told.take(line) for line in out.getvalue().splitlines())
    assert told.storm == (1.0, None)
    assert told.readings == [reading]
    assert told.closing == closing
    assert (told.log, told.ports) == (["a line"], {"grpc": 1, "http": 2})
