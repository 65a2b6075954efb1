"""Answers over HTTP: the usual one, read at once, and any other, read by http.client.

Owns nothing but the last few usual answers, as they were read. The sending thread calls it. The rule: what is read at
once is what http.client would have read, and leaves a connection that can be used again; whatever is not plainly so is
left to it.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from urllib3.connection import HTTPConnection


class Response(Protocol):
    """What is read of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Any:
        """A mapping that finds names in any case, or has them in lower case."""

    def read(self, amount: int, /) -> bytes:
        """So much of the body at most, nothing at its end; raises if that comes too early."""

    def release_conn(self) -> None:
        """It has been read to the end: the connection may be used again."""

    def close(self) -> None:
        """Close the connection, unless it was released."""


@dataclass(frozen=True, slots=True)
class UsualResponse:
    """Status 200 and a body whose length is said, that have come in one piece; names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes
    status: int = 200

    def close(self) -> None:
        """The connection may be used again."""


# Names and values as RFC 9110 5.1 and 5.5 have them; whatever else is left to http.client.
_USUAL = re.compile(rb"HTTP/1\.1 200 [^\r\n]*\r\n((?:[!#-'*+\-.0-9A-Z^-z|~]+:[^\r\n\x00]*\r\n)+)\r\n")
_MOST_HEADERS = 100  # http.client takes no more
_UNUSUAL_HEADERS = frozenset({"connection", "content-encoding", "transfer-encoding"})


# Within a second a collector says the same again and again.
@lru_cache(maxsize=4)
def usual_response(received: bytes) -> UsualResponse | None:
    """The whole response that these bytes are, if they are one and there is nothing to it."""
    if (match := _USUAL.match(received)) is None:
        return None
    headers: dict[str, str] = {}
    for line in match[1].decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    body = received[match.end() :]
    if not match[1].count(b"\n") == len(headers) <= _MOST_HEADERS or headers.keys() & _UNUSUAL_HEADERS:
        return None
    return UsualResponse(headers, body) if headers.get("content-length") == str(len(body)) else None


class OtherResponse:
    """Any other response, read by http.client."""

    def __init__(self, response: http.client.HTTPResponse, connection: HTTPConnection) -> None:
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._connection = connection
        self._is_kept = False

    def read(self, amount: int, /) -> bytes:
        body = self._response.read(amount)
        if not body and self._response.length:
            raise http.client.IncompleteRead(b"", self._response.length)
        return body

    def release_conn(self) -> None:
        self._is_kept = not self._response.will_close

    def close(self) -> None:
        self._response.close()
        if not self._is_kept:
            self._connection.close()
