"""Several requests at once to a real receiver, which counts how many it has; and forks in the middle of them."""

from __future__ import annotations

import threading

import pytest

from otel_shed import OTLPSpanExporter
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import run, value_of
from tests.faults.sending import GRPC, HTTP, PROTOCOLS, RECORDS

PATIENCE = 10.0
FORKS = 8


class Meeting:
    """Answers no request before so many have come that are not answered; counts how many there are at most."""

    def __init__(self, parties: int) -> None:
        self.most = 0
        self._parties = parties
        self._inside = 0
        self._changed = threading.Condition()

    def __call__(self, _: Request) -> Answer:
        with self._changed:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self._parties, PATIENCE)
            self._inside -= 1
        return Answer()


@pytest.mark.parametrize("at_once", [1, 2, 5])
@PROTOCOLS
def test_so_many_requests_are_with_the_collector_at_once(protocol: str, at_once: int) -> None:
    """As many as may be, and no more; each arrives once, over connections that are kept."""
    meeting = Meeting(at_once)
    with Receiver(answer=meeting) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        exporter = OTLPSpanExporter(protocol, endpoint, environ={})
        for _ in range(4):
            outcomes = list(exporter.send_requests([RECORDS] * 10, budget=lambda: 30.0, at_once=at_once))
            assert [(outcome.accepted, outcome.attempts) for outcome in outcomes] == [(5, 1)] * 10
        exporter.shutdown()
        assert meeting.most == at_once
        assert (receiver.counts.requests, receiver.counts.spans) == (40, 200)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@PROTOCOLS
def test_one_that_hangs_does_not_keep_the_others(protocol: str, compression: str) -> None:
    """The others are taken, and that one runs into its own time limit."""
    hung = threading.Event()

    def answer(_: Request) -> Answer:
        if not hung.is_set():
            hung.set()
            return Answer(hang=True)
        return Answer()

    with Receiver(answer=answer) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        exporter = OTLPSpanExporter(protocol, endpoint, compression=compression, environ={})
        outcomes = list(exporter.send_requests([RECORDS] * 9, budget=lambda: 2.0, at_once=3))
        assert sorted(outcome.accepted for outcome in outcomes) == [0] + [5] * 8
        exporter.shutdown()


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_forks_in_the_middle_of_several_requests(protocol: str) -> None:
    """Every child can send as many, the parent loses nothing, no fork waits for one request after the other."""
    with Receiver(answer=lambda request: Answer(delay=0.15)) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        code, output = run("forks_in_a_call.py", protocol, endpoint, str(FORKS), "4")
    assert code == 0, output
    assert value_of(output, "statuses") == "{0}"
    assert (value_of(output, "lost"), value_of(output, "attempts")) == ("0", "1")
    assert float(value_of(output, "longest")) < 1.0
