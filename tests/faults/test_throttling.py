"""A collector that asks for a wait of thirty seconds: real sockets, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig, SheddingSpanProcessor, Stats
from otel_shed.native import WorkerThread
from otel_shed.otlp.client import OTLPClient
from otel_shed.pipeline import pipeline
from otel_shed.testing.answers import Answer, Request, retry_info, retry_info_alone
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import HTTP, PROTOCOLS

WAIT = 30.0
HELD = 1_000_000
TICK = 0.1
_LATER = Answer(
    code="RESOURCE_EXHAUSTED",
    trailers=(("grpc-status-details-bin", retry_info(WAIT, code=8)),),
    status=429,
    headers={"Retry-After": str(int(WAIT))},
)
_LATER_FOR_STOCK = Answer(
    code="RESOURCE_EXHAUSTED", trailers=(("google.rpc.retryinfo-bin", retry_info_alone(WAIT)),), status=429
)


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no worker thread: its turns are the test's to take, and so is the time."""

    def start_thread(*, name: str, target: Callable[[], None]) -> WorkerThread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pipeline, "start_thread", start_thread)


class Bench:
    """A program with its collector, which asks for a wait at the first request."""

    def __init__(self, protocol: str, receiver: Receiver, clock: FakeClock) -> None:
        self.clock = clock
        self.later = _LATER
        self.receiver = receiver
        self.asked: list[float] = []
        receiver.answer = self._answer
        endpoint = f"{receiver.http_endpoint}/v1/traces" if protocol == HTTP else receiver.grpc_endpoint
        exporter = OTLPSpanExporter(protocol, endpoint, environ={}, clock=clock)
        # The same client, but for its waits and what is random about them.
        old = exporter._client
        exporter._client = OTLPClient(
            old._transports[0], timeout=10.0, clock=clock, wait=clock.wait, random=lambda: 0.5
        )
        self.shedder = LoadShedder(
            ShedConfig(max_held_bytes=HELD, max_request_bytes=500_000, high_priority_names=["pay*"]),
            exporter=exporter,
            clock=clock,
        )
        processor = self.shedder.span_processor()
        assert isinstance(processor, SheddingSpanProcessor)
        self._worker = processor._pipeline._worker
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self.tracer: Tracer = provider.get_tracer(__name__)
        self.numbers = 0
        self.load: list[str] = []
        self.phases: dict[Phase, set[str]] = {}
        self.most_held = 0
        clock.after(TICK, self._live)

    def _answer(self, request: Request) -> Answer:
        # On the receiver's thread, while the test's waits for this answer.
        self.asked.append(self.clock())
        return Answer() if len(self.asked) > 1 else self.later

    def _live(self) -> None:
        """A tenth of a second of the program, also while the worker waits."""
        for name in self.load:
            self.tracer.start_span(name, attributes={"number": self.numbers, "body": "x" * 1_000}).end()
            self.numbers += 1
        stats = self.stats
        assert stats.unaccounted == 0
        self.most_held = max(self.most_held, stats.queued_bytes)
        self.phases.setdefault(stats.phase, set()).update(stats.reasons)
        self.clock.after(TICK, self._live)

    def run(self, seconds: float, *load: str) -> None:
        """Let so much time pass, with spans of these names in each tenth of a second."""
        self.load = list(load)
        end = self.clock() + seconds
        while self.clock() < end:
            self._worker.turn()
            self.clock.advance(TICK)

    @property
    def stats(self) -> Stats:
        return self.shedder.stats()

    def requested(self, number: int) -> list[tuple[str, int]]:
        """Name and number of the spans of the request of this number."""
        message = ExportTraceServiceRequest.FromString(self.receiver.requests[number].payload)
        scopes = [scope for resource in message.resource_spans for scope in resource.scope_spans]
        return [(span.name, span.attributes[0].value.int_value) for scope in scopes for span in scope.spans]

    @property
    def delivered(self) -> list[tuple[str, int]]:
        """Those of all requests that were accepted."""
        return [span for number in range(1, len(self.receiver.requests)) for span in self.requested(number)]


@pytest.fixture
def bench(protocol: str, clock: FakeClock) -> Iterator[Bench]:
    with Receiver(keep=1_000) as receiver:
        yield Bench(protocol, receiver, clock)


@PROTOCOLS
def test_a_wait_that_the_queue_can_bridge(bench: Bench) -> None:
    """Twenty spans a second: no request for 30 s, the phase is DEGRADE for `throttled`, and then all is delivered."""
    bench.run(60.0, "get", "get")
    assert WAIT <= bench.asked[1] - bench.asked[0] < 1.2 * WAIT
    bench.run(10.0)
    assert set(bench.phases) == {Phase.NORMAL, Phase.DEGRADE, Phase.RECOVERY}
    assert "throttled" in bench.phases[Phase.DEGRADE]
    assert bench.stats.phase is Phase.NORMAL
    assert dict(bench.stats.dropped) == {}
    assert sorted(bench.delivered) == [("get", number) for number in range(bench.numbers)]


@pytest.mark.parametrize("protocol", ["grpc"])
def test_a_wait_that_is_asked_for_as_the_stock_exporter_hears_it(bench: Bench) -> None:
    """A RetryInfo in a trailer of its own is kept to, and nothing is lost."""
    bench.later = _LATER_FOR_STOCK
    bench.run(70.0, "get")
    bench.run(10.0)
    assert WAIT <= bench.asked[1] - bench.asked[0] < 1.2 * WAIT
    assert "throttled" in bench.phases[Phase.DEGRADE]
    assert dict(bench.stats.dropped) == {}
    assert sorted(bench.delivered) == [("get", number) for number in range(bench.numbers)]


@PROTOCOLS
def test_a_wait_that_is_too_long_for_the_queue(bench: Bench) -> None:
    """A thousand spans a second: what is held is bounded, and what is let go is counted, and of low importance."""
    names = [*["get"] * 99, "pay"]
    bench.run(30.0, *names)
    bench.run(20.0)
    assert WAIT <= bench.asked[1] - bench.asked[0] < 1.2 * WAIT
    assert 0.99 * HELD < bench.most_held <= HELD
    assert bench.stats.phase is Phase.NORMAL
    for phase in (Phase.DEGRADE, Phase.SHED_OPTIONAL):
        assert "throttled" in bench.phases[phase]
    assert set(bench.stats.dropped) <= {"queue_full", "over_budget"}
    shed = sum(bench.stats.dropped.values()), bench.stats.summarized
    assert min(shed) > 100
    delivered = set(bench.delivered)
    ended = [(names[number % len(names)], number) for number in range(bench.numbers)]
    missing = [span for span in ended if span not in delivered]
    assert len(missing) == sum(shed) == bench.stats.ended - bench.stats.exported
    assert {name for name, _ in missing} == {"get"}
    assert all(span in delivered for span in bench.requested(0)), "what was in flight is not let go"
