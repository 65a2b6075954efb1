"""Where to send: from what a variable or code says to a URL (http/protobuf) or a target (grpc).

Owns nothing; called by the thread that makes an exporter. The rule: the scheme decides about TLS; an endpoint without
one leaves it open.
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from otel_shed.otlp.headers import Headers

GRPC_DEFAULT = "http://localhost:4317"
HTTP_DEFAULT = "http://localhost:4318"
TRACES_PATH = "/v1/traces"

GRPC_ALLOWED = "a URL like http://collector:4317, or a gRPC target like collector:4317"
HTTP_ALLOWED = "an http:// or https:// URL"


class Endpoint(NamedTuple):
    """``address`` is what the transport connects to; ``insecure`` is None where it does not say; ``headers`` are the
    credentials that a URL had in front of the host, as HTTP sends them.
    """

    address: str
    insecure: bool | None
    headers: Headers = ()


def grpc_endpoint(text: str) -> Endpoint:
    """An http or https URL, of which only host and port count, or any target that gRPC knows; else ValueError."""
    if not isinstance(text, str):
        raise ValueError(GRPC_ALLOWED)
    if "://" not in text:
        # host:port, a bare host, unix:path or unix-abstract:name
        if not text or any(character.isspace() for character in text):
            raise ValueError(GRPC_ALLOWED)
        return Endpoint(text, None)
    parts = _split(text, GRPC_ALLOWED)
    if parts.scheme not in {"http", "https"}:  # dns:///collector:4317, unix:///run/collector.sock
        return Endpoint(text, None)
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError(GRPC_ALLOWED)
    return Endpoint(parts.netloc, parts.scheme == "http")


def http_endpoint(text: str, *, default_path: str | None = None, append: bool = False) -> Endpoint:
    """An http or https URL; else ValueError.

    ``append``: the URL is a base to which the signal's path is added (OTEL_EXPORTER_OTLP_ENDPOINT).
    ``default_path``: what stands for a path if the URL has none, not even ``/``.
    """
    if not isinstance(text, str):
        raise ValueError(HTTP_ALLOWED)
    parts = _split(text, HTTP_ALLOWED)
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(c.isspace() for c in text):
        raise ValueError(HTTP_ALLOWED)
    path = parts.path
    if append:
        path = path.removesuffix("/") + TRACES_PATH
    elif not path and default_path:
        path = default_path
    credentials, _, host = parts.netloc.rpartition("@")
    address = parts._replace(netloc=host, path=path or "/", fragment="").geturl()
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
