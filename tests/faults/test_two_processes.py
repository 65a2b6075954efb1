"""One distributed trace through two processes, over HTTP with the headers of the W3C: they agree on what they decide.

Both hold their part of each trace and decide on it by themselves, when it has ended there.
"""

from __future__ import annotations

import http.client
import random
from collections import defaultdict
from collections.abc import Iterator

import pytest
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig, TraceView, Verdict
from otel_shed.outcome import DropReason
from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import start, value_of

FRONT, BACK = 2, 3  # spans of a trace in each process
ALL = 1 << 56
TRACES = 300
_propagator = TraceContextTextMapPropagator()


class Front:
    """The process that is called first: it makes a span, and one for its call of the second."""

    def __init__(self, endpoint: str, threshold: int, port: int) -> None:
        self._threshold = threshold
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.shedder = LoadShedder(
            ShedConfig(memory_limit_bytes=1 << 50),
            exporter=OTLPSpanExporter("http/protobuf", f"{endpoint}/v1/traces", environ={}),
            policy=self._policy,
        )
        self.shedder.force_phase(Phase.OBSERVE)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.shedder.span_processor())
        self._tracer = self.provider.get_tracer("front")

    def _policy(self, trace: TraceView) -> Verdict:
        if trace.failed:
            return Verdict()
        kept = trace.randomness >= self._threshold
        return Verdict(None if kept else DropReason.OVER_BUDGET, self._threshold)

    def trace(self, *, failed: bool = False, parent: Context | None = None) -> int:
        """A trace through both; its id."""
        root = self._tracer.start_span("GET /checkout", context=parent)
        call = self._tracer.start_span("POST /payments", context=set_span_in_context(root))
        headers: dict[str, str] = {}
        _propagator.inject(headers, set_span_in_context(call, Context()))
        self.post("/payments/that-fail" if failed else "/payments", headers)
        for span in (call, root):
            if failed:
                span.set_status(StatusCode.ERROR)
            span.end()
        return root.get_span_context().trace_id

    def post(self, path: str, headers: dict[str, str]) -> None:
        self._connection.request("POST", path, headers=headers)
        self._connection.getresponse().read()

    def close(self) -> None:
        self.post("/end", {})
        self.provider.shutdown()
        self._connection.close()


class Arrived:
    """What the collector got of a trace."""

    def __init__(self) -> None:
        self.spans = 0
        self.thresholds: set[str] = set()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(grpc_port=None, keep=1000) as receiver:
        yield receiver


def arrived(receiver: Receiver) -> dict[int, Arrived]:
    traces: defaultdict[int, Arrived] = defaultdict(Arrived)
    for request in receiver.requests:
        for resource in ExportTraceServiceRequest.FromString(request.payload).resource_spans:
            for span in [span for scope in resource.scope_spans for span in scope.spans]:
                trace = traces[int.from_bytes(span.trace_id, "big")]
                trace.spans += 1
                trace.thresholds.add(TraceState.from_header([span.trace_state]).get("ot", ""))
    return traces


def lived(receiver: Receiver, front: int, back: int) -> tuple[set[int], set[int], str]:
    """A few hundred traces, one in ten of which fails, with these thresholds; their ids, which failed, the account."""
    with start("called.py", receiver.http_endpoint, str(back)) as called:
        program = Front(receiver.http_endpoint, front, int(called.wait_for_line("port").split()[1]))
        ids = [program.trace(failed=number % 10 == 0) for number in range(TRACES)]
        program.close()
        assert called.wait(30) == 0, called.output
        assert program.shedder.stats().unaccounted == 0
        return set(ids), set(ids[::10]), called.output


def test_at_the_same_threshold_traces_are_whole_across_both(receiver: Receiver) -> None:
    """All of a trace arrives or nothing, by its randomness, and each span says the threshold; failed ones arrive."""
    half = ALL // 2
    ids, failed, account = lived(receiver, half, half)
    traces = arrived(receiver)
    assert {trace.spans for trace in traces.values()} == {FRONT + BACK}
    assert set(traces) == failed | {each for each in ids if each % ALL >= half}
    assert all(traces[each].thresholds == ({""} if each in failed else {"th:8"}) for each in traces)
    assert (value_of(account, "ended"), value_of(account, "unaccounted")) == (str(BACK * TRACES), "0")


def test_at_two_thresholds_what_both_keep_is_whole(receiver: Receiver) -> None:
    """The stricter one keeps a part of what the other does, and of these traces all spans arrive."""
    ids, failed, _ = lived(receiver, ALL // 2, ALL // 4 * 3)
    traces = arrived(receiver)
    for each in ids - failed:
        kept = (each % ALL >= ALL // 2) * FRONT + (each % ALL >= ALL // 4 * 3) * BACK
        assert (traces[each].spans if each in traces else 0) == kept
    assert all(traces[each].spans == FRONT + BACK for each in failed)


def test_nothing_is_sent_of_what_a_parent_decided_not_to_sample(receiver: Receiver) -> None:
    """In neither process, failed or not; and both know how many there were."""
    chance = random.Random(1)
    with start("called.py", receiver.http_endpoint, "0") as called:
        program = Front(receiver.http_endpoint, 0, int(called.wait_for_line("port").split()[1]))
        for number in range(20):
            ids = chance.getrandbits(128) | 1, chance.getrandbits(64) | 1
            away = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.DEFAULT))
            program.trace(failed=number % 2 == 0, parent=set_span_in_context(NonRecordingSpan(away), Context()))
        program.trace()
        program.close()
        assert called.wait(30) == 0, called.output
        account = called.output
    assert [trace.spans for trace in arrived(receiver).values()] == [FRONT + BACK]
    assert value_of(account, "ended") == str(BACK)
