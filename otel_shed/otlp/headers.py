"""Request headers as variables and code give them: OpenTelemetry's ``name=value,name=value``, or a mapping.

Owns nothing; called by the thread that makes an exporter. The rule: what leaves here can be sent by gRPC and by HTTP,
so names are lower case; and no value, which may be a credential, appears in an error or a log line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

Headers = tuple[tuple[str, str], ...]

ALLOWED = "a comma-separated list of name=value"

# RFC 9110's token is what the specification allows in a key, and W3C Baggage before it.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ENCODED_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
# What goes over the wire: gRPC takes printable ASCII only, and HTTP no more than that without ambiguity.
_SENDABLE_VALUE = re.compile(r"[\x20-\x7e]*")


def parse_headers(text: str) -> tuple[Headers, int]:
    """The headers of a variable's text, and how many entries of it are none.

    A value that is URL-encoded as the specification asks is decoded. One with a space in it cannot be, so it is taken
    as it stands (``authorization=Basic dXNlcg==``): the stock exporters, and those of other languages, do the same.
    """
    headers: dict[str, str] = {}
    bad = 0
    for entry in text.split(","):
        if not entry.strip():
            continue
        name, _, value = (part.strip() for part in entry.partition("="))
        if _ENCODED_VALUE.fullmatch(value):
            name, value = unquote(name).strip(), unquote(value).strip()
        try:
            if "=" not in entry:
                raise ValueError(ALLOWED)
            headers.update([checked(name, value)])
        except ValueError:
            bad += 1
    return tuple(headers.items()), bad


def headers_from(given: Mapping[str, str] | Iterable[tuple[str, str]] | str) -> Headers:
    """The headers that code gave, in any of the three forms; ValueError for one that cannot be sent."""
    if isinstance(given, str):
        headers, bad = parse_headers(given)
        if bad:
            raise ValueError(ALLOWED)
        return headers
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple(dict(checked(name, value) for name, value in pairs).items())


def merged(headers: Headers, over: Headers) -> Headers:
    """``headers``, but for those that ``over`` has too."""
    return tuple({**dict(headers), **dict(over)}.items())


def checked(name: object, value: object) -> tuple[str, str]:
    """The header with its name in lower case; ValueError, without the value, if it cannot be sent."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        # A name that is none may be a whole header: what comes after the name in it is its value.
        begins = _NAME.match(name) if isinstance(name, str) else None
        told = f", not {begins[0]!r:.60} and more" if begins else ""
        raise ValueError(f"{ALLOWED}, with letters, digits and -._ in names{told}")
    if not isinstance(value, str) or not _SENDABLE_VALUE.fullmatch(value):
        raise ValueError(f"{ALLOWED}, with printable ASCII in values, unlike that of {name!r:.60}")
    if name.lower().endswith("-bin"):
        raise ValueError(f"{ALLOWED}, of text; {name!r:.60} is for bytes in gRPC")
    return name.lower(), value
