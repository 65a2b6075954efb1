"""Runs the cases beside it: one answer of a server, then OK, and what a client of OTLP has to make of it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.retry import Attempt, RetryPolicy
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings
from otel_shed.otlp.transport import Transport
from otel_shed.otlp.transport_grpc import STATUS_DETAILS, GRPCTransport
from otel_shed.otlp.transport_http import HTTPTransport
from otel_shed.outcome import DropReason
from otel_shed.testing.answers import Answer, Request, partial_success, retry_info
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.receiver import HOST, Receiver

HERE = Path(__file__).parent
FILES: dict[str, dict[str, Any]] = {
    path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.json"))
}
CASES = [
    pytest.param(protocol, case, id=f"{name.removesuffix('.json')}: {protocol}: {case['case']}")
    for name, file in FILES.items()
    for protocol in file["protocols"]
    for case in file["cases"]
]
THROTTLED = [param for param in CASES if param.values[1]["is"] == "throttled"]
MEANINGS = {"accepted", "dropped", "retried", "throttled"}

SPANS = 5
BUDGET = 10.0
TIMEOUT = 30.0  # real seconds, of one request; of one that is never answered:
SHORT_TIMEOUT = 0.3
# The longest wait that is asked for is an hour, and is to be seen whole.
POLICY = RetryPolicy(longest_park=3 * 3600.0)
# A wait is never shorter than was asked, and at most a tenth longer so that not all clients come at once.
SPREAD = 1.1
DATE_RESOLUTION = 2.0  # HTTP's dates have whole seconds, and one may pass before the answer is written


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver(keep=16) as receiver:
        yield receiver


class RealTime:
    """A transport whose requests have real time limits, each of ``limits`` once and then the last.

    What is left by the clock that tests move may be some milliseconds, in which a busy machine answers nothing.
    """

    def __init__(self, transport: Transport, *limits: float) -> None:
        self._transport = transport
        self._limits = list(limits)
        self.cancel = transport.cancel
        self.close = transport.close
        self.after_fork_in_child = transport.after_fork_in_child

    def send(self, payload: bytes, timeout: float) -> Attempt:
        limit = self._limits.pop(0) if len(self._limits) > 1 else self._limits[0]
        return self._transport.send(payload, limit)


class Sender:
    """A client for one case: real requests, and waits that take no time but are written down."""

    def __init__(self, protocol: str, endpoint: str, *limits: float) -> None:
        settings = ExporterSettings.resolve({}, protocol=protocol, endpoint=endpoint)
        self.clock = FakeClock()
        self.client = OTLPClient(
            RealTime(GRPCTransport(settings) if protocol == GRPC else HTTPTransport(settings), *limits),
            timeout=TIMEOUT,
            clock=self.clock,
            wait=self.clock.wait,
            policy=POLICY,
        )
        self.send = self.client.send


@pytest.fixture
def sender(receiver: Receiver, protocol: str, case: dict[str, Any]) -> Iterator[Sender]:
    receiver.requests.clear()
    endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
    sender = Sender(protocol, endpoint, *([SHORT_TIMEOUT] if case["answer"].get("hang") else []), TIMEOUT)
    yield sender
    sender.client.close()
    receiver.answer = lambda _: Answer()


def payload(name: str) -> bytes:
    spans = ScopeSpans(spans=[Span(name=f"{name}-{number}") for number in range(SPANS)])
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[spans])])
    return bytes(request.SerializeToString())


def answer(given: dict[str, Any]) -> Answer:
    """The answer that a case's words describe; its keys are listed in README.md."""
    words = dict(given)
    made: dict[str, Any] = {key: words.pop(key) for key in ("code", "details", "status", "hang") if key in words}
    made["disconnect"] = words.pop("disconnect", False)
    headers = dict(words.pop("headers", {}))
    if "retry_after_date" in words:
        headers["Retry-After"] = formatdate(time.time() + words.pop("retry_after_date"), usegmt=True)
    if "retry_info" in words:
        number = grpc.StatusCode[made["code"]].value[0]
        made["trailers"] = ((STATUS_DETAILS, retry_info(words.pop("retry_info"), code=number)),)
    if "status_details" in words:
        made["trailers"] = ((STATUS_DETAILS, bytes.fromhex(words.pop("status_details"))),)
    if "partial" in words:
        made["body"] = partial_success(**words.pop("partial"))
    if "status_message" in words:
        made["body"] = Status(message=words.pop("status_message")).SerializeToString()
    if "body" in words:
        made["body"] = bytes.fromhex(words.pop("body"))
    if "text" in words:
        made["body"] = words.pop("text").encode()
    if "size" in words:
        made["body"] = bytes(words.pop("size"))
    assert not words, f"a case has words that nobody reads: {words}"
    return Answer(headers=headers, **made)


def answers(receiver: Receiver, given: dict[str, Any], times: int) -> None:
    """Have the receiver answer so for so many requests, and then with OK."""
    left = [given] * times

    def script(_: Request) -> Answer:
        return answer(left.pop()) if left else Answer()

    receiver.answer = script


def honours(waited: float, case: dict[str, Any]) -> bool:
    """Whether a wait is what the case's answer asked for; back-off comes in where that is longer."""
    asked = case["asked"]
    least = asked - (DATE_RESOLUTION if "retry_after_date" in case["answer"] else 0.0)
    longest_back_off = POLICY.initial * POLICY.factor * (1 + POLICY.jitter)
    return least <= waited <= max(asked * SPREAD, longest_back_off)


def test_there_are_cases() -> None:
    """The folder has cases: each gRPC code with and without RetryInfo, each HTTP class, and each has a meaning."""
    assert FILES
    assert all(file["clause"] and file["protocols"] and file["cases"] for file in FILES.values())
    assert {case["is"] for file in FILES.values() for case in file["cases"]} == MEANINGS
    asked = [case["answer"] for file in FILES.values() for case in file["cases"]]
    failures = {code.name for code in grpc.StatusCode} - {"OK"}
    assert {given["code"] for given in asked if given.keys() == {"code", "details"}} == failures
    assert {given["code"] for given in asked if "retry_info" in given} == failures
    plain = {given["status"] for given in asked if given.keys() == {"status"}}
    with_seconds = {given["status"] for given in asked if "Retry-After" in given.get("headers", {})}
    assert plain >= {200, 304, 400, 408, 413, 429, 500, 502, 503, 504, 505, 599}
    assert {status for status in plain if status >= 400} <= with_seconds


@pytest.mark.parametrize(("protocol", "case"), CASES)
def test_an_answer(receiver: Receiver, sender: Sender, case: dict[str, Any]) -> None:
    """What becomes of the batch, and of the one after it, is what the clause says."""
    meaning = case["is"]
    answers(receiver, case["answer"], 1)
    first, second = payload("first"), payload("second")
    outcome = sender.send(first, SPANS, budget=BUDGET)
    seen = [request.payload for request in receiver.requests]
    if meaning == "accepted":
        rejected = case.get("rejected", 0)
        assert (outcome.accepted, outcome.rejected, outcome.reason) == (SPANS - rejected, rejected, None)
        assert (seen, sender.clock.waits) == ([first], [])
    elif meaning == "dropped":
        assert (outcome.accepted, outcome.rejected, outcome.reason) == (0, 0, DropReason.NOT_RETRYABLE)
        assert (seen, sender.clock.waits) == ([first], [])
    else:
        assert (outcome.accepted, outcome.rejected, outcome.reason) == (SPANS, 0, None)
        assert seen == [first, first]
        (waited,) = sender.clock.waits
        if meaning == "throttled":
            assert honours(waited, case)
        else:
            assert abs(waited - POLICY.initial) <= POLICY.initial * POLICY.jitter
    assert outcome.attempts == len(seen)
    assert outcome.throttled_until is None
    if "message" in case:
        assert outcome.message == case["message"].replace("URL", f"{receiver.http_endpoint}/v1/traces")

    sender.clock.waits.clear()
    assert sender.send(second, SPANS, budget=BUDGET).accepted == SPANS
    assert [request.payload for request in receiver.requests] == [*seen, second]
    assert sender.clock.waits == []


@pytest.mark.parametrize(("protocol", "case"), THROTTLED)
def test_a_wait_outlives_its_batch(receiver: Receiver, sender: Sender, case: dict[str, Any]) -> None:
    """A batch that cannot wait as long as it was asked to is given up, and the next one does wait."""
    answers(receiver, case["answer"], 2)
    first, second = payload("first"), payload("second")
    began = sender.clock()
    outcome = sender.send(first, SPANS, budget=case["asked"] / 4, park=False)
    assert (outcome.accepted, outcome.rejected, outcome.reason) == (0, 0, DropReason.RETRY_EXHAUSTED)
    assert outcome.throttled_until == sender.client.throttled_until
    assert outcome.throttled_until is not None
    assert honours(outcome.throttled_until - began, case)
    assert [request.payload for request in receiver.requests] == [first]

    outcome = sender.send(second, SPANS, budget=BUDGET)
    assert (outcome.accepted, outcome.rejected, outcome.reason) == (SPANS, 0, None)
    assert [request.payload for request in receiver.requests] == [first, second, second]
    assert len(sender.clock.waits) == 2
    assert all(honours(waited, case) for waited in sender.clock.waits)


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
def test_a_server_that_is_not_there(protocol: str) -> None:
    """A connection that cannot be made is tried again, after waits that double, with jitter, until the time is up."""
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # and does not listen
        sender = Sender(protocol, f"http://{HOST}:{unused.getsockname()[1]}", TIMEOUT)
        outcome = sender.send(payload("first"), SPANS, budget=BUDGET)
        sender.client.close()
    assert (outcome.accepted, outcome.rejected, outcome.reason) == (0, 0, DropReason.RETRY_EXHAUSTED)
    assert len(sender.clock.waits) == outcome.attempts - 1 >= 2
    for number, waited in enumerate(sender.clock.waits):
        usual = POLICY.initial * POLICY.factor**number
        assert abs(waited - usual) <= usual * POLICY.jitter
    assert len({waited / POLICY.factor**number for number, waited in enumerate(sender.clock.waits)}) > 1
    assert sender.client.throttled_until is None
