"""Forks while a request is on its way: gRPC forks badly then, so none of ours may be inside it."""

from __future__ import annotations

import subprocess
import sys

from otel_shed.testing.answers import Answer
from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import run, value_of
from tests.faults.sending import GRPC, PROTOCOLS
from tests.launched import bare_environment

FORKS = 16


@PROTOCOLS
def test_forks_in_the_middle_of_requests(protocol: str) -> None:
    """Every child can send, the parent loses nothing, an interruption is no attempt, no fork waits for an answer."""
    with Receiver(answer=lambda request: Answer(delay=0.15)) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        code, output = run("forks_in_a_call.py", protocol, endpoint, str(FORKS), "1")
    assert code == 0, output
    assert value_of(output, "statuses") == "{0}"
    assert (value_of(output, "lost"), value_of(output, "attempts")) == ("0", "1")
    assert float(value_of(output, "longest")) < 1.0


_FIRST_REQUEST = """
import sys
from otel_shed import OTLPSpanExporter
from tests.faults.sending import sent
exporter = OTLPSpanExporter("http/protobuf", "http://localhost:1/v1/traces", compression="gzip", environ={})
before = set(sys.modules)
sent(exporter, budget=0.1)
print(sorted(set(sys.modules) - before))
"""


def test_the_first_request_imports_nothing() -> None:
    """A child that is forked in the middle of an import by another thread waits for it for ever."""
    ran = subprocess.run(
        [sys.executable, "-c", _FIRST_REQUEST], env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
