"""Which HTTP proxy the environment asks for, as users of the stock exporter (through requests) are used to.

Owns nothing; called once, by the thread that makes an exporter. The rule: what is named in NO_PROXY is never proxied.
OTLP/gRPC is not concerned: gRPC reads the same variables itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from otel_shed.environment import Environment

_ALLOWED = "an http:// or https:// URL"


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL for an http or https ``url``; None for a direct connection.

    HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, lower-case names first. NO_PROXY lists hosts, domains (with or
    without a leading dot), addresses, networks (10.0.0.0/8), each with or without a port, or ``*``. A proxy that cannot
    be used (SOCKS) logs one warning and is left out.
    """
    parts = urlsplit(url)
    environment = Environment(environ)
    if parts.hostname is None or _bypassed(parts.hostname, parts.port, _either(environment, "no_proxy")[1]):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        variable, proxy = _either(environment, name)
        # In a CGI script HTTP_PROXY is what a client sent as the header Proxy (httpoxy, CVE-2016-5385).
        if not proxy or (variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ):
            continue
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if _is_http(proxy):
            return proxy
        environment.warn(variable, proxy, _ALLOWED, "no proxy", secret=True)
    return None


def _either(environment: Environment, name: str) -> tuple[str, str]:
    """The name that is set of the two spellings, and what it is set to."""
    for spelling in (name, name.upper()):
        if (value := environment.text(spelling)) is not None:
            return spelling, value
    return name, ""


def _is_http(proxy: str) -> bool:
    try:
        parts = urlsplit(proxy)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        return False


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in no_proxy.lower().replace(" ", ",").split(","):
        if not entry:
            continue
        if entry == "*" or (address is not None and _contains(entry, address)):
            return True
        name, _, entry_port = entry.rpartition(":") if entry.count(":") == 1 else (entry, "", "")
        name = name.lstrip(".")
        if entry_port and entry_port != str(port):
            continue
        if host == name or (address is None and host.endswith(f".{name}")):
            return True
    return False


def _contains(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return False
