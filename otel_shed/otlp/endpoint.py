"""Where to send: from what a variable or code says to a URL (http/protobuf) or a target (grpc).

Owns nothing; called by the thread that makes an exporter. The rules: every form that the stock exporters take is taken;
http and https decide about TLS, and an endpoint with another scheme, or none, leaves it open.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from otel_shed.otlp.headers import Headers
from otel_shed.otlp.secrets import without_secrets

GRPC_DEFAULT = "http://localhost:4317"
HTTP_DEFAULT = "http://localhost:4318"
TRACES_PATH = "/v1/traces"

GRPC_ALLOWED = "a URL like http://collector:4317, or a gRPC target like collector:4317"
HTTP_ALLOWED = "an http:// or https:// URL"

# Schemes that gRPC looks up by itself. All others (grpc://, tcp://) only stand before a host and a port.
_TARGET = re.compile(r"(?:dns|unix|unix-abstract|vsock|ipv4|ipv6|xds|google-c2p):", re.IGNORECASE)


class Endpoint(NamedTuple):
    """``address`` is what the transport connects to; ``insecure`` is None where it does not say; ``headers`` are the
    credentials that a URL had in front of the host, as HTTP sends them. Its repr may be printed.
    """

    address: str
    insecure: bool | None
    headers: Headers = ()

    def __repr__(self) -> str:
        return f"Endpoint({without_secrets(self.address)!r}, insecure={self.insecure})"


def grpc_endpoint(text: str) -> Endpoint:
    """A URL of any scheme, of which only host and port count, or any target that gRPC knows; else ValueError."""
    if not isinstance(text, str):
        raise ValueError(GRPC_ALLOWED)
    text = text.strip()
    if not text or any(character.isspace() for character in text):
        raise ValueError(GRPC_ALLOWED)
    if _TARGET.match(text):
        # dns:collector:4317, dns://resolver/collector:4317, unix:///run/collector.sock; but dns://collector:4317 is
        # what the stock exporter makes collector:4317 of, and it means nothing else to gRPC.
        host, _, target = text.partition("://")[2].partition("/")
        return Endpoint(text if target or not host else host, None)
    if "//" not in text:  # host:port, or a bare host
        host = re.split("[?#]", text, maxsplit=1)[0]
        if not host or "@" in host:
            raise ValueError(GRPC_ALLOWED)
        return Endpoint(host, None)
    parts = _split(text, GRPC_ALLOWED)
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError(GRPC_ALLOWED)
    return Endpoint(parts.netloc, {"http": True, "https": False}.get(parts.scheme))


def http_endpoint(text: str, *, default_path: str | None = None, append: bool = False) -> Endpoint:
    """An http or https URL; else ValueError.

    ``append``: the URL is a base to which the signal's path is added (OTEL_EXPORTER_OTLP_ENDPOINT).
    ``default_path``: what stands for a path if the URL has none, not even ``/``.
    """
    if not isinstance(text, str):
        raise ValueError(HTTP_ALLOWED)
    # White space is encoded wherever it is, as requests does it; a host that has some is then none.
    parts = _split(re.sub(r"\s", lambda space: quote(space[0]), text.strip()), HTTP_ALLOWED)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host or ("%" in host and ":" not in host):
        raise ValueError(HTTP_ALLOWED)
    path = parts.path
    if append:
        path = path.removesuffix("/") + TRACES_PATH
    elif not path and default_path:
        path = default_path
    credentials, _, place = parts.netloc.rpartition("@")
    address = parts._replace(netloc=place, path=path or "/", fragment="").geturl()
    return Endpoint(address, parts.scheme == "http", _basic(credentials) if credentials else ())


def _split(text: str, allowed: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for one that is no number, or out of range
        return parts
    except ValueError:
        raise ValueError(allowed) from None


def _basic(credentials: str) -> Headers:
    token = base64.b64encode(unquote(credentials).encode()).decode()
    return (("authorization", f"Basic {token}"),)
