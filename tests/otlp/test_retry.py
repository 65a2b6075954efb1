"""OTLP's retry rules as values: what an answer means, what wait it asks for, and how long the back-off is."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import HTTPHeaderDict

from otel_shed.otlp import retry
from otel_shed.otlp.retry import (
    Attempt,
    RetryPolicy,
    Verdict,
    grpc_failure,
    http_answer,
    parse_retry_after,
)
from otel_shed.testing.answers import partial_success, retry_info, retry_info_alone

NOW = 1_700_000_000.0
RECOVERS = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
PERMANENT = [
    *("UNKNOWN", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED"),
    *("FAILED_PRECONDITION", "UNIMPLEMENTED", "INTERNAL"),
]
PROTOBUF = {"content-type": "application/x-protobuf"}


def answer(status: int, body: bytes = b"", **headers: str) -> Attempt:
    found = HTTPHeaderDict({name.replace("_", "-"): value for name, value in headers.items()})
    return http_answer(status, found, body, now=NOW)


def status_with(*details: object, message: str = "") -> bytes:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return bytes(Status(details=packed, message=message).SerializeToString())


# -- gRPC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [None, 2.5])
@pytest.mark.parametrize("code", RECOVERS)
def test_a_code_that_recovers(code: str, delay: float | None) -> None:
    """The six retryable codes are retried, with the wait that RetryInfo asks for, if it does."""
    attempt = grpc_failure(code, "words", delay and retry_info(delay))
    assert attempt == Attempt(Verdict.RETRYABLE, code, "words", retry_after=delay)
    assert attempt.throttled == (delay is not None)


@pytest.mark.parametrize("delay", [None, 2.5])
@pytest.mark.parametrize("code", PERMANENT)
def test_a_code_that_does_not_recover(code: str, delay: float | None) -> None:
    """All other codes are final, and a RetryInfo that comes with one asks for nothing."""
    attempt = grpc_failure(code, None, delay and retry_info(delay))
    assert attempt == Attempt(Verdict.PERMANENT, code)
    assert not attempt.throttled


def test_resource_exhausted() -> None:
    """RESOURCE_EXHAUSTED is retried if, and only if, the server says by RetryInfo that it will recover."""
    assert grpc_failure("RESOURCE_EXHAUSTED", "", None).verdict is Verdict.PERMANENT
    assert grpc_failure("RESOURCE_EXHAUSTED", "", status_with(ErrorInfo())).verdict is Verdict.PERMANENT
    assert grpc_failure("RESOURCE_EXHAUSTED", "", retry_info(4)).retry_after == 4.0
    no_wait = grpc_failure("RESOURCE_EXHAUSTED", "", retry_info(0))
    assert (no_wait.verdict, no_wait.retry_after) == (Verdict.RETRYABLE, None)


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        (None, None),
        (b"", None),
        (b"\xff\xff\xff\xff", None),
        (status_with(), None),
        (status_with(ErrorInfo(reason="busy")), None),
        (Status(details=[AnyMessage(type_url="x/google.rpc.RetryInfo", value=b"\xff\xff")]).SerializeToString(), None),
        (Status(details=[AnyMessage(type_url="no url at all")]).SerializeToString(), None),
        (retry_info(0.25), 0.25),
        (status_with(ErrorInfo(), RetryInfo(retry_delay=Duration(seconds=3))), 3.0),
        (status_with(RetryInfo()), 0.0),
        (status_with(RetryInfo(retry_delay=Duration(seconds=-3, nanos=-1))), 0.0),
        (status_with(RetryInfo(retry_delay=Duration(seconds=315_576_000_000))), retry.LONGEST_REQUESTED_WAIT),
        (status_with(RetryInfo(retry_delay=Duration(seconds=2**63 - 1, nanos=2**31 - 1))), 3600.0),
    ],
)
def test_retry_info(details: bytes | None, seconds: float | None) -> None:
    """The first RetryInfo among the details counts, from 0 to an hour; what is none, or garbage, is no wish."""
    assert retry.retry_info(details) == seconds


@pytest.mark.parametrize("code", [*RECOVERS, "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize(
    ("details", "alone", "seconds"),
    [
        (None, retry_info_alone(2.5), 2.5),
        (status_with(ErrorInfo()), retry_info_alone(2.5), 2.5),
        (b"\xff\xff", retry_info_alone(2.5), 2.5),
        (retry_info(2.5), b"\xff\xff", 2.5),
        (retry_info(2.5), retry_info_alone(0), 2.5),
        (retry_info(2.5), retry_info_alone(4), 4.0),
        (retry_info(7), retry_info_alone(4), 7.0),
        (None, RetryInfo(retry_delay=Duration(seconds=2**63 - 1, nanos=2**31 - 1)).SerializeToString(), 3600.0),
        (None, retry_info_alone(0), None),
    ],
)
def test_a_retry_info_of_its_own(code: str, details: bytes | None, alone: bytes, seconds: float | None) -> None:
    """The trailer that the stock exporter reads asks for a wait as the standard one does; the longer of both counts."""
    attempt = grpc_failure(code, "words", details, alone)
    assert attempt == Attempt(Verdict.RETRYABLE, code, "words", retry_after=seconds)


def test_a_retry_info_of_its_own_that_is_none() -> None:
    """Garbage promises nothing, and a code that is final stays so."""
    assert grpc_failure("RESOURCE_EXHAUSTED", "", None, b"\xff\xff").verdict is Verdict.PERMANENT
    assert grpc_failure("INTERNAL", "", None, retry_info_alone(2)) == Attempt(Verdict.PERMANENT, "INTERNAL")


@settings(deadline=None)
@given(
    st.none() | st.binary(max_size=200), st.none() | st.binary(max_size=200), st.sampled_from([*RECOVERS, *PERMANENT])
)
def test_no_trailer_is_harmful(details: bytes | None, alone: bytes | None, code: str) -> None:
    """Whatever stands in the trailers, the attempt has a verdict, and a wait between nothing and an hour or none."""
    attempt = grpc_failure(code, "", details, alone)
    assert attempt.retry_after is None or 0 < attempt.retry_after <= retry.LONGEST_REQUESTED_WAIT


# -- HTTP ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(200, 600))
def test_an_http_status(status: int) -> None:
    """2xx is success; 429, 502, 503 and 504 are retried when Retry-After says; all else is final, whatever it says."""
    plain, with_wait = answer(status), answer(status, retry_after="20")
    if status < 300:
        expected = Verdict.ACCEPTED
    else:
        expected = Verdict.RETRYABLE if status in (429, 502, 503, 504) else Verdict.PERMANENT
    assert (plain.verdict, with_wait.verdict) == (expected, expected)
    assert plain.retry_after is None
    assert with_wait.retry_after == (20.0 if expected is Verdict.RETRYABLE else None)
    assert plain.throttled == (status == 429)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *[("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("007", 7.0), ("1.5", 1.5), ("3601", 3600.0), ("9" * 18, 3600.0)],
        *[(formatdate(NOW + 90, usegmt=True), 90.0), (formatdate(NOW, usegmt=True), 0.0)],
        *[(formatdate(NOW - 90, usegmt=True), 0.0), (formatdate(NOW + 90_000, usegmt=True), 3600.0)],
        *[("Tuesday, 14-Nov-23 22:14:50 GMT", 90.0), ("Tue Nov 14 22:14:50 2023", 90.0)],  # HTTP's older two forms
        *[("Tue, 14 Nov 2023 23:14:50 +0100", 90.0), ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0)],
        *[("", None), ("-5", None), ("+5", None), ("1e3", None), ("0x10", None), ("inf", None), ("NaN", None)],
        *[("5 s", None), ("5, 6", None), (".5", None), ("5.", None), ("٣", None), ("9" * 400, None)],
        *[("soon", None), ("14 Nov 2023 22:14:50 GMT", None), ("Tue, 99 Foo 2023 22:14:50 GMT", None)],
        *[("Tue, 14 Nov 99999 22:14:50 GMT", None), ("Tue, 14 Nov 2023 99:14:50 GMT", None), ("T" * 5000, None)],
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds, or a date in any of HTTP's forms, make 0 to an hour; anything else is no wish."""
    assert parse_retry_after(value, now=NOW) == seconds


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{5,9} \S{1,6}"))
def test_no_retry_after_is_harmful(value: str) -> None:
    """Whatever the header says, it is 0 to an hour or nothing."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= retry.LONGEST_REQUESTED_WAIT


def test_a_date_is_by_the_servers_clock() -> None:
    """Where the answer says what time the server has, our own clock does not matter; where that is garbage, it does."""
    later, theirs = formatdate(NOW + 5000, usegmt=True), formatdate(NOW + 4980, usegmt=True)
    assert answer(503, retry_after=later, date=theirs).retry_after == 20.0
    assert answer(503, retry_after=formatdate(NOW + 20, usegmt=True), date="?").retry_after == 20.0


@pytest.mark.parametrize("value", ["0", "-1", "soon", formatdate(NOW - 9, usegmt=True)])
def test_a_wait_of_nothing_is_none(value: str) -> None:
    """A Retry-After that asks for no wait leaves the client to its back-off."""
    assert answer(503, retry_after=value) == Attempt(Verdict.RETRYABLE, "503")


def test_what_a_failure_says() -> None:
    """The message is the Status's, or the text, on one line of at most 300 characters; of garbage there is none."""
    assert answer(400, status_with(message="bad\ndata"), **PROTOBUF).words == "400: bad data"
    assert answer(400, b"\xff\xff", **PROTOBUF).words == "400"
    assert answer(502, b"<h1>\r\nBad\x1b[31m \xff</h1>").message == "<h1> Bad [31m \ufffd</h1>"
    assert answer(502, b"x" * 10_000).message == "x" * 299 + "…"


# -- success ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "rejected", "message"),
    [
        (b"", 0, ""),
        (b"\xff\xff\xff", 0, ""),
        (partial_success(3, "too old"), 3, "too old"),
        (partial_success(0, "use gzip"), 0, "use gzip"),
        (partial_success(-3, "what"), 0, "what"),
        (partial_success(1, "a\nb" + "c" * 400), 1, "a b" + "c" * 296 + "…"),
    ],
)
def test_a_success(body: bytes, rejected: int, message: str) -> None:
    """A partial success is read by both protocols alike, and a body that cannot be read is a full one."""
    by_grpc = retry.accepted_answer("OK", body)
    assert (by_grpc.verdict, by_grpc.rejected, by_grpc.message) == (Verdict.ACCEPTED, rejected, message)
    for headers in (PROTOBUF, {"content-type": "Application/X-Protobuf; a=b"}, {}):
        by_http = http_answer(200, HTTPHeaderDict(headers), body, now=NOW)
        assert (by_http.accepted, by_http.rejected, by_http.message) == (True, rejected, message)
    assert http_answer(200, {"content-type": "text/plain"}, body, now=NOW).rejected == 0


def test_no_answer() -> None:
    """What nothing came back from is retried, unless it is said to be of no use."""
    assert retry.no_answer("timed out", OSError("a\nb"), timed_out=True) == Attempt(
        Verdict.RETRYABLE, "timed out", "a b", answered=False, timed_out=True
    )
    assert retry.no_answer("TLS failed", retryable=False).verdict is Verdict.PERMANENT


# -- waits -----------------------------------------------------------------------------------------------------------

policies = st.builds(
    RetryPolicy,
    initial=st.floats(0.001, 10),
    factor=st.floats(1, 10),
    maximum=st.floats(10, 600),
    jitter=st.floats(0, 0.5),
)
failures = st.integers(1, 10_000)
randoms = st.floats(0, 1)
ALMOST = 1e-9  # floats


@settings(deadline=None)
@given(policies, failures, randoms)
def test_back_off_is_bounded(policy: RetryPolicy, failed: int, random: float) -> None:
    """Whatever the random number, the back-off is exponential, capped, and off by the jitter at most."""
    usual = policy.initial
    for _ in range(min(failed - 1, 64)):
        usual = min(policy.maximum, usual * policy.factor)
    delay = policy.backoff(failed, lambda: random)
    assert usual * (1 - policy.jitter) * (1 - ALMOST) <= delay <= usual * (1 + policy.jitter) * (1 + ALMOST)


@settings(deadline=None)
@given(policies, failures, randoms, st.floats(0.001, retry.LONGEST_REQUESTED_WAIT))
def test_a_throttle_is_bounded(policy: RetryPolicy, failed: int, random: float, asked: float) -> None:
    """The wait is never less than was asked for or than the back-off, and at most half the jitter more."""
    back_off = policy.backoff(failed, lambda: random)
    delay = policy.throttle(asked, failed, lambda: random)
    assert max(asked, back_off) <= delay <= max(asked * (1 + policy.jitter / 2) * (1 + ALMOST), back_off)


def test_the_usual_back_off() -> None:
    """1 s, doubled each time up to 30 s, give or take a fifth."""
    policy = RetryPolicy()
    assert [policy.backoff(failed, lambda: 0.5) for failed in (1, 2, 3, 4, 5, 6, 100)] == [1, 2, 4, 8, 16, 30, 30]
    assert (policy.backoff(1, lambda: 0.0), policy.backoff(1, lambda: 1.0)) == (0.8, 1.2)
    assert policy.throttle(0.1, 5, lambda: 0.5) == 16.0
