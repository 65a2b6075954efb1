"""The collector that is held to a rate: what it answers, when, and what it tells."""

from __future__ import annotations

import io
import json

import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_shed.command.storm.limited import Limit, Mode, spans_of
from otel_shed.command.storm.testimony import Arrived, Teller, Told
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.clock import FakeClock


def payload(spans: int) -> bytes:
    made = [Span(trace_id=bytes(16), span_id=number.to_bytes(8, "big")) for number in range(spans)]
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=made)])
    return bytes(ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString())


class Asked:
    """A limit of 100 spans a second, asked one request after the other."""

    def __init__(self, mode: Mode) -> None:
        self.clock = FakeClock()
        self.out = io.StringIO()
        self.forwarded: list[bytes] = []
        self._limit = Limit(
            mode=mode,
            spans_per_second=100.0,
            teller=Teller(self.out),
            forward=self.forwarded.append,
            wait=self.clock.advance,
            clock=self.clock,
        )

    def ask(self, spans: int | None) -> Answer:
        given = b"" if spans is None else payload(spans)
        return self._limit(Request(0, "grpc", given, {}, spans=spans))

    @property
    def told(self) -> Told:
        testimony = Told()
        assert all(testimony.take(line) for line in self.out.getvalue().splitlines())
        return testimony


def retry_after(answer: Answer) -> float:
    """What the gRPC trailer says, in seconds."""
    [(key, value)] = answer.trailers
    assert key == "grpc-status-details-bin"
    assert isinstance(value, bytes)
    info = RetryInfo()
    assert Status.FromString(value).details[0].Unpack(info)
    return info.retry_delay.ToMilliseconds() / 1000


def test_a_slow_collector() -> None:
    """It answers when it is through with a request, one after the other; each span arrives in its turn."""
    asked = Asked("slow")
    began = asked.clock()
    assert asked.ask(50).accepts
    assert asked.clock() - began == pytest.approx(0.5)
    assert asked.ask(100).accepts
    assert asked.clock() - began == pytest.approx(1.5)
    assert [asked.told.arrived[number].at - began for number in (0, 49, 149)] == pytest.approx([0.01, 0.5, 1.5])
    assert asked.forwarded == [payload(50), payload(100)]


def test_a_rejecting_collector() -> None:
    """It takes a burst of two seconds at once, refuses what is more, and takes that after the time it said."""
    asked = Asked("reject")
    assert asked.ask(150).accepts
    refused = asked.ask(100)
    assert (refused.accepts, refused.code, refused.status) == (False, "RESOURCE_EXHAUSTED", 429)
    assert retry_after(refused) == pytest.approx(0.5)
    assert refused.headers == {"Retry-After": "1"}
    asked.clock.advance(0.49)
    assert not asked.ask(100).accepts
    asked.clock.advance(0.011)
    assert asked.ask(100).accepts
    assert [spans for _, spans in asked.told.refused] == [100, 100]
    assert len(asked.told.arrived) == 250
    assert len(asked.forwarded) == 2


def test_a_request_larger_than_the_burst() -> None:
    """It is taken when the whole burst is there, and paid for afterwards."""
    asked = Asked("reject")
    assert asked.ask(300).accepts
    asked.clock.advance(0.99)
    assert not asked.ask(1).accepts
    asked.clock.advance(0.03)
    assert asked.ask(1).accepts


def test_what_is_no_request() -> None:
    """It is refused for good, and uses nothing of the rate."""
    asked = Asked("reject")
    assert asked.ask(None).status == 400
    assert asked.ask(200).accepts


def test_what_is_told_of_a_span() -> None:
    """Its ids, its parent's, whether it failed, and the threshold in its tracestate."""
    span = Span(trace_id=b"\1" * 16, span_id=b"\2" * 8, parent_span_id=b"\3" * 8, trace_state="x=1,ot=rv:1;th:8")
    span.status.code = 2
    resource = ResourceSpans(scope_spans=[ScopeSpans(spans=[span, Span(span_id=b"\4" * 8)])])
    message = ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()
    first, second = spans_of(message, 5.0)
    assert first == Arrived("01" * 16, "02" * 8, "03" * 8, True, 1 << 55, 5.0)
    assert second == Arrived("", "04" * 8, "", False, None, 5.0)


def test_lines_of_others() -> None:
    """What no Teller wrote is passed over."""
    testimony = Told()
    assert [testimony.take(line) for line in ("warning: x", '{"torn": ', json.dumps({"other": 1}), "{}")] == [False] * 4
    assert testimony.started == []
