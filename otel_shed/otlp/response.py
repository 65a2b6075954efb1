"""Answers over HTTP: the usual one, read at once, and any other, read by http.client.

Owns nothing but the last few usual answers, as they were read. The sending thread calls it. The rules: what is read at
once is what http.client would have read, and leaves a connection that can be used again; whatever is not plainly so is
left to it. An answer whose end is in doubt ends its connection, so that no byte of it becomes the next one's.
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


class FramingError(http.client.HTTPException):
    """An answer whose end nobody can tell."""


# One request has one final answer and some interim ones before it (RFC 9110, 15.2); http.client knows only the 100.
MOST_INTERIM = 16
_SWITCHING = 101
_BODILESS = frozenset({_SWITCHING, 204, 304})
_LENGTH = re.compile("[0-9]{1,18}", re.ASCII)
_LONGEST_LINE = 65536  # as http.client has it


class FinalResponse(http.client.HTTPResponse):
    """The final answer to a request, on a connection that is kept only if both sides know where the answer ended."""

    def _read_status(self) -> tuple[str, int, str]:
        """Also called for a proxy's answer to CONNECT."""
        for _ in range(MOST_INTERIM + 1):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= found[1] < 200 or found[1] == _SWITCHING:
                return found
            self._skip_headers()
        raise FramingError(f"more than {MOST_INTERIM} interim responses")

    def _skip_headers(self) -> None:
        for _ in range(_MOST_HEADERS + 1):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if line in (b"\r\n", b"\n", b""):
                return
            if len(line) > _LONGEST_LINE:
                break
        raise FramingError("the head of an interim response is too long")

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:  # which http.client would take for all that there is
            raise ValueError("the size of a chunk is negative")
        return size

    def begin(self) -> None:
        super().begin()
        codings = self.headers.get_all("transfer-encoding", [])
        lengths = _lengths(self.headers.get_all("content-length", []))
        if not codings and (len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths))):
            # RFC 9112, 6.3: "the user agent MUST close the connection to the server and discard the received response".
            raise FramingError(f"Content-Length: {', '.join(sorted(lengths))}")
        if self.status in _BODILESS:
            self.chunked = False
            if codings or not lengths <= {"0"} or self.status == _SWITCHING:
                self.will_close = True
        elif codings:
            if lengths or len(codings) > 1 or not self.chunked:
                self.will_close = True
        elif lengths:
            self.length = int(lengths.pop())


def _lengths(values: list[str]) -> set[str]:
    """The lengths that are said; one that is said twice is one (RFC 9110, 8.6)."""
    return {each.strip(" \t") for value in values for each in value.split(",")}


class OtherResponse:
    """Any other response, read by http.client."""

    def __init__(self, response: http.client.HTTPResponse, connection: HTTPConnection) -> None:
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
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
