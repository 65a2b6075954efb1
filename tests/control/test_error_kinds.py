"""The kinds of errors that Stats tells apart."""

from __future__ import annotations

import pytest

from otel_shed.control.signals.error_kinds import kind_of
from otel_shed.otlp.retry import Attempt, grpc_failure, http_answer, no_answer

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (http_answer(200, {}, b"", now=NOW), None),
        (http_answer(429, {}, b"", now=NOW), "rate_limited"),
        (http_answer(503, {"retry-after": "3"}, b"", now=NOW), "rate_limited"),
        (http_answer(503, {}, b"", now=NOW), "unavailable"),
        (http_answer(502, {}, b"", now=NOW), "unavailable"),
        (http_answer(500, {}, b"", now=NOW), "unavailable"),
        (http_answer(400, {}, b"", now=NOW), "invalid"),
        (http_answer(401, {}, b"", now=NOW), "invalid"),
        (http_answer(404, {}, b"", now=NOW), "invalid"),
        (http_answer(413, {}, b"", now=NOW), "invalid"),
        (grpc_failure("RESOURCE_EXHAUSTED", "quota", None), "rate_limited"),
        (grpc_failure("RESOURCE_EXHAUSTED", "message larger than max", None), "invalid"),
        (grpc_failure("UNAVAILABLE", "", None), "unavailable"),
        (grpc_failure("UNAVAILABLE", "", None, answered=False), "unreachable"),
        (grpc_failure("INTERNAL", "", None), "unavailable"),
        (grpc_failure("DEADLINE_EXCEEDED", "", None), "timeout"),
        (grpc_failure("DEADLINE_EXCEEDED", "", None, answered=False, timed_out=True), "timeout"),
        (grpc_failure("INVALID_ARGUMENT", "", None), "invalid"),
        (grpc_failure("UNAUTHENTICATED", "", None), "invalid"),
        (no_answer("connection refused"), "unreachable"),
        (no_answer("timed out", timed_out=True), "timeout"),
        (no_answer("cancelled"), None),
    ],
)
def test_what_kind_of_error_it_was(attempt: Attempt, error: str | None) -> None:
    """Whoever is refused can tell why, in five kinds; what this process interrupts is nobody's error."""
    assert kind_of(attempt) == error
