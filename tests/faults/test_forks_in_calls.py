"""Forks while a request is on its way: gRPC forks badly then, so none of ours may be inside it."""

from __future__ import annotations

from otel_shed.testing.answers import Answer
from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import run, value_of
from tests.faults.sending import GRPC, PROTOCOLS

FORKS = 16


@PROTOCOLS
def test_forks_in_the_middle_of_requests(protocol: str) -> None:
    """Every child can send, the parent loses nothing, an interruption is no attempt, no fork waits for an answer."""
    with Receiver(answer=lambda request: Answer(delay=0.15)) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        code, output = run("forks_in_a_call.py", protocol, endpoint, str(FORKS))
    assert code == 0, output
    assert value_of(output, "statuses") == "{0}"
    assert (value_of(output, "lost"), value_of(output, "attempts")) == ("0", "1")
    assert float(value_of(output, "longest")) < 1.0
