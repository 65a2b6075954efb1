"""Which proxy the environment asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.proxy import proxy_for

PLAIN = "http://collector:4318/v1/traces"
TLS = "https://collector.example:4318/v1/traces"
PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def every_warning_is_the_first() -> Iterator[None]:
    """A bad variable is warned about once a process; here once a test."""
    forget_warnings()
    yield
    forget_warnings()


@pytest.mark.parametrize(
    ("environ", "plain", "tls"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"https_proxy": PROXY}, None, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY, PROXY),
        ({"all_proxy": PROXY, "https_proxy": "https://other"}, PROXY, "https://other"),
        ({"http_proxy": "http://small", "HTTP_PROXY": PROXY}, "http://small", None),
        ({"HTTP_PROXY": "", "HTTPS_PROXY": " "}, None, None),
        ({"HTTP_PROXY": "proxy:3128"}, PROXY, None),
        ({"HTTP_PROXY": "http://user:pass@proxy"}, "http://user:pass@proxy", None),
    ],
)
def test_a_proxy_is_for_its_scheme(environ: dict[str, str], plain: str | None, tls: str | None) -> None:
    """HTTP_PROXY for http, HTTPS_PROXY for https, ALL_PROXY for what has none; lower-case names come first."""
    assert (proxy_for(PLAIN, environ), proxy_for(TLS, environ)) == (plain, tls)


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        ("http://collector:4318/", "collector", True),
        ("http://collector:4318/", "*", True),
        ("http://collector:4318/", "elsewhere, collector", True),
        ("http://collector:4318/", "elsewhere collector", True),
        ("http://COLLECTOR:4318/", "Collector", True),
        ("http://collector:4318/", "collector:4318", True),
        ("http://collector:4318/", "collector:4317", False),
        ("http://collector:4318/", "ector", False),
        ("http://a.example.com/", "example.com", True),
        ("http://a.example.com/", ".example.com", True),
        ("http://badexample.com/", "example.com", False),
        ("http://127.0.0.1:4318/", "127.0.0.1", True),
        ("http://10.1.2.3:4318/", "10.0.0.0/8", True),
        ("http://11.1.2.3:4318/", "10.0.0.0/8", False),
        ("http://collector:4318/", "10.0.0.0/8", False),
        ("http://[::1]:4318/", "::1", True),
        ("http://[fd00::1]:4318/", "fd00::/8", True),
        ("http://collector:4318/", ",,", False),
    ],
)
def test_no_proxy(url: str, no_proxy: str, direct: bool) -> None:
    """Hosts, domains, addresses and networks, each with or without a port, are connected to directly."""
    assert (proxy_for(url, {"HTTP_PROXY": PROXY, "NO_PROXY": no_proxy}) is None) is direct


def test_a_header_of_a_request_is_no_proxy() -> None:
    """In a CGI script HTTP_PROXY is what a client sent; http_proxy is not."""
    cgi = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "http://attacker"}
    assert proxy_for(PLAIN, cgi) is None
    assert proxy_for(PLAIN, cgi | {"http_proxy": PROXY}) == PROXY


@pytest.mark.parametrize("proxy", ["socks5://secret@proxy:1080", "http://", "http://proxy:secret"])
def test_a_proxy_that_cannot_be_used(proxy: str, caplog: pytest.LogCaptureFixture) -> None:
    """One warning that names the variable but no password, and the next variable counts."""
    with caplog.at_level(logging.WARNING, "otel_shed"):
        assert proxy_for(PLAIN, {"HTTP_PROXY": proxy, "ALL_PROXY": PROXY}) == PROXY
        assert proxy_for(PLAIN, {"HTTP_PROXY": proxy}) is None
    (line,) = (record.getMessage().removeprefix(PREFIX) for record in caplog.records)
    assert line.startswith("HTTP_PROXY=")
    assert "secret" not in line
