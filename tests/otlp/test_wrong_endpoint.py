"""Answers that come from no collector: web pages and redirects, as values."""

from __future__ import annotations

import pytest
from urllib3 import HTTPHeaderDict

from otel_shed.otlp.retry import Attempt, Verdict, http_answer
from otel_shed.otlp.wrong_endpoint import html_page
from otel_shed.testing.answers import partial_success

URL = "http://collector:4318/v1/traces"


def answer(status: int, content_type: str | None, body: bytes, **headers: str) -> Attempt:
    found = HTTPHeaderDict(headers)
    if content_type is not None:
        found["Content-Type"] = content_type
    return http_answer(status, found, body, now=0.0, url=URL)


# -- web pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 203])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>"),
        ("Text/HTML; charset=utf-8", b"It works!"),
        ("application/xhtml+xml", b"<?xml version='1.0'?><html/>"),
        (None, b"<!DOCTYPE html><html><body>It works!"),
        ("application/octet-stream", b"\xef\xbb\xbf\r\n <!-- made by x --><!doctype HTML\n>"),
        ("text/plain", b"\n<HTML lang=en>"),
        ("application/json", b"<html><head>"),
        (None, b"<head><title>x</title></head>"),
        ("application/x-protobuf", b"<html>"),
    ],
)
def test_a_page_is_a_failure_that_is_not_retried(status: int, content_type: str | None, body: bytes) -> None:
    """By its content type or by how its body begins; the words say what was found at which URL."""
    attempt = answer(status, content_type, body)
    assert (attempt.verdict, attempt.answered, attempt.retry_after) == (Verdict.PERMANENT, True, None)
    assert attempt.words.startswith(f"{status}: an HTML page")
    assert f"at {URL}, where a collector was expected" in attempt.words


def test_the_title_of_a_page_is_told() -> None:
    """On one line, and cut; a page of a failure is told in the same way."""
    page = b"<html><head><TITLE lang=en>\n Welcome &amp;\n hello \x1b[1m</title>"
    words = f'an HTML page, "Welcome & hello  [1m", at {URL}'
    assert answer(200, "text/html", page).message == f"{words}, where a collector was expected"
    assert answer(502, "text/html", page).message == words
    assert answer(502, "text/html", page).verdict is Verdict.RETRYABLE
    assert len(html_page("text/html", b"<title>" + b"x" * 5000) or "") < 120


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""),
        ("text/html", b""),
        ("application/x-protobuf", b""),
        ("application/json", b"{}"),
        ("application/json", b'{"partialSuccess":{},"page":"<html>"}'),
        ("text/plain", b"OK"),
        ("text/plain; charset=utf-8", b"see <html> for more"),
        (None, b"accepted"),
        (None, b"\xff<html>"),
        ("text/xml", b"<response>ok</response>"),
        (None, b"<htmlish>"),
        (None, b"<!-- x -->" * 400),
        ("application/x-protobuf", partial_success(0, "<html>")),
    ],
)
def test_everything_else_that_answers_200_is_a_success(content_type: str | None, body: bytes) -> None:
    """No body, no type, JSON, text: what arrived is not to be sent twice."""
    assert answer(200, content_type, body).accepted


def test_a_page_that_breaks_off_is_one() -> None:
    """The content type is enough where the body was not read whole; without it an unread body is a success."""
    for body in (b"", b"\x1f\x8b compressed"):
        assert not http_answer(200, {"content-type": "text/html"}, body, now=0.0, whole=False).accepted
        assert http_answer(200, {"content-type": "text/plain"}, body, now=0.0, whole=False).accepted
    rejecting = partial_success(3, "no")
    assert http_answer(200, {}, rejecting, now=0.0, whole=False).rejected == 0


# -- redirects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_a_redirect_is_told_and_not_followed(status: int) -> None:
    """From where to where, whatever page comes with it; it is not retried."""
    attempt = answer(status, "text/html", b"<html>moved", Location="https://other:4318/v1/traces")
    assert attempt.verdict is Verdict.PERMANENT
    words = f"a redirect, which is not followed, from {URL} to https://other:4318/v1/traces"
    assert attempt.words == f"{status}: {words}"


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/login", "to http://collector:4318/login"),
        ("//other/x", "to http://other/x"),
        ("https://other/x?next=secret", "to https://other/x?<hidden>"),
        ("https://user:secret@other/x", "to https://<hidden>@other/x"),
        ("https://[", "to https://["),
        ("", "to an address that it does not give"),
        (None, "to an address that it does not give"),
    ],
)
def test_where_a_redirect_leads(location: str | None, told: str) -> None:
    """A relative address is made whole, a secret in it is not told, and one that is none harms nothing."""
    headers = {} if location is None else {"Location": location}
    assert answer(308, None, b"", **headers).message.endswith(told)


def test_not_modified_is_no_redirect() -> None:
    """304 leads nowhere."""
    assert answer(304, None, b"").words == "304"
