"""What of the settings is secret, and how a text is printed without it.

Owns nothing; for any thread. The rules: an endpoint is printed by ``without_secrets`` and by nothing else, and a
message that came from outside (a server may send back what it was sent) passes ``Secrets.hide`` first.
"""

from __future__ import annotations

import base64
import binascii
import html
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, unquote_plus

from otel_shed.environment import shown

HIDDEN = "<hidden>"

_BEGINNING = re.compile(r"\s*(?:(?:[A-Za-z][A-Za-z0-9+.\-]*:)?/{2,})?")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:@\[\]]+)(?::[0-9]*)?")
# Some back ends have the key in the path (/receiver/v1/otlp/<key>); a word of this length with a digit in it is one.
_KEY_IN_PATH = re.compile(r"(?<![^/=])(?=[^/]*[0-9])[^/=]{20,}={0,2}(?![^/])")
# Parameters of a segment of the path (/v1;key=...;a=b/traces) may have what a query may have.
_PARAMETERS = re.compile(r";([^/]*)")
_PEM = "-----BEGIN"
# Shorter ones are found in any text, and hiding them there would hide what it says.
_SHORTEST_SECRET = 6
_CUT_OFF = "…"


def without_secrets(text: str) -> str:
    """An endpoint as it may be printed: no user, no password, no query, no key and no parameter in the path.

    ``text`` may be one that could not be parsed; where its parts cannot be told from one another, nothing of it is left
    but the scheme.
    """
    if _PEM in text:
        return HIDDEN
    beginning = _BEGINNING.match(text)
    start, rest = (beginning[0], text[beginning.end() :]) if beginning else ("", text)
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in rest and "@" not in authority and not _HOST_AND_PORT.fullmatch(authority):
        return start + HIDDEN  # a password with a slash in it, for one
    user, at, host = authority.rpartition("@")
    place, mark, _ = rest[len(authority) :].partition("?")
    place = place.partition("#")[0]
    return "".join([start, HIDDEN if user else "", at, host, path_without_secrets(place), mark and mark + HIDDEN])


def path_without_secrets(path: str) -> str:
    """A path as it may be printed."""
    return _KEY_IN_PATH.sub(HIDDEN, _PARAMETERS.sub(f";{HIDDEN}", path))


def given_in_code(value: object) -> str:
    """A wrong argument as an error may show it; of an object only what it is, as its repr may tell anything."""
    if isinstance(value, (str, os.PathLike)):
        return shown(without_secrets(os.fsdecode(value)))
    if value is None or isinstance(value, (bool, int, float)):
        return shown(value)
    return f"an object of type {type(value).__name__}"


class Secrets:
    """The secrets of one exporter; its repr shows none."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST_SECRET}
        self._secrets = sorted(forms, key=len, reverse=True)  # one may be a part of another

    def hide(self, text: str) -> str:
        """The text with each secret replaced; also one that the end of a text cut short has the beginning of."""
        if not text:
            return text
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if text.endswith(_CUT_OFF):
            text = self._without_cut(text[: -len(_CUT_OFF)]) + _CUT_OFF
        return text

    def _without_cut(self, text: str) -> str:
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(text)), _SHORTEST_SECRET - 3, -1):
                if text.endswith(secret[:length]):
                    return text[:-length] + HIDDEN
        return text


def _forms(secret: str) -> set[str]:
    """The secret as it was given, and as a server may send it back."""
    decoded = unquote(secret)
    return {form for each in (secret, decoded) for form in (each, quote(each, safe=""), html.escape(each))}


def secrets_of(endpoints: Iterable[str], headers: Iterable[tuple[str, str]], proxies: Iterable[str]) -> Secrets:
    """What is secret in these: values of headers; users, passwords, queries and keys in the path of URLs."""
    found: set[str] = set()
    for _, value in headers:
        found |= {value, value.rpartition(" ")[2], _decoded(value.rpartition(" ")[2])}
    for url in (*endpoints, *proxies):
        beginning = _BEGINNING.match(url)
        rest = url[beginning.end() :] if beginning else url
        user, _, place = rest.rpartition("@")
        found |= {user, user.partition(":")[2]}
        path, _, query = place.partition("?")
        found |= set(_KEY_IN_PATH.findall(path))
        for pairs in (rest.partition("?")[2], query, *_PARAMETERS.findall(path)):  # the first two may have the @
            for pair in (pairs, *re.split("[&;]", pairs.partition("#")[0])):
                value = pair.partition("=")[2] or pair
                found |= {pair, value, unquote_plus(value)}
    return Secrets(found | {each.partition(":")[2] for each in found if each.count(":") == 1})


def _decoded(token: str) -> str:
    """The user and password of ``Authorization: Basic``; the token itself if it is none."""
    try:
        return base64.b64decode(token, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return token


# Each of them may have a password in it; gRPC reads some by itself.
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")


def proxies_in(environ: Mapping[str, str]) -> list[str]:
    """The proxies that the environment names, used or not."""
    names = [spelling for name in PROXY_VARIABLES for spelling in (name, name.upper())]
    return [environ[name] for name in names if environ.get(name)]
