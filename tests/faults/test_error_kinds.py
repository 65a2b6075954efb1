"""What stats() says of collectors that refuse, are not there, or do not answer: which of them it is."""

from __future__ import annotations

import pytest

from otel_shed import OTLPSpanExporter, SheddingSpanProcessor
from otel_shed.testing.answers import Answer, Script
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span
from tests.faults.sending import HTTP, PROTOCOLS
from tests.launched import free_port

ANSWERS: dict[str, Script] = {
    "rate_limited": lambda _: Answer(code="RESOURCE_EXHAUSTED", status=429),
    "unavailable": lambda _: Answer(code="UNAVAILABLE", status=503),
    "timeout": lambda _: Answer(hang=True),
    "invalid": lambda _: Answer(code="INVALID_ARGUMENT", status=400),
}


def errors(port: int | None, protocol: str) -> set[str]:
    """The kinds of errors that one span has met with."""
    endpoint = f"http://127.0.0.1:{port}"
    exporter = OTLPSpanExporter(protocol, endpoint, timeout=0.3, environ={})
    processor = SheddingSpanProcessor(exporter, export_timeout_millis=400)
    processor.on_end(ended_span())
    assert not processor.force_flush()
    stats = processor.stats()
    assert stats.exported == 0
    processor.shutdown()
    return set(stats.export_errors)


@pytest.mark.parametrize("kind", ANSWERS)
@PROTOCOLS
def test_what_a_collector_answers(protocol: str, kind: str) -> None:
    """A limit, an overload, silence and a refusal are told apart."""
    with Receiver(answer=ANSWERS[kind]) as receiver:
        assert errors(receiver.http_port if protocol == HTTP else receiver.grpc_port, protocol) == {kind}


@PROTOCOLS
def test_nobody_is_there(protocol: str) -> None:
    """A refused connection is not an answer."""
    assert errors(free_port(), protocol) == {"unreachable"}
