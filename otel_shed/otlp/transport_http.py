"""OTLP over HTTP: one POST on a connection that is kept alive.

Owns the connection, through urllib3's pool of one, and the body that was compressed last. The sending thread makes and
uses both; ``cancel`` only shuts the socket down, from its own thread. The rules: nothing of an exchange, however slowly
the server trickles, outlasts its deadline; and nobody closes a socket that the sending thread is using, whose number
would be another's by then.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError

from otel_shed.native import allocate_lock
from otel_shed.otlp.certificates import tls_context
from otel_shed.otlp.compress import compressed, compression_library
from otel_shed.otlp.connection import Exchange, HTTPPool, HTTPSPool
from otel_shed.otlp.response import Response, UsualResponse
from otel_shed.otlp.retry import Attempt, Verdict, http_answer, no_answer
from otel_shed.otlp.secrets import path_without_secrets
from otel_shed.otlp.settings import ExporterSettings
from otel_shed.otlp.transport import MAX_RESPONSE_BYTES, bounded, user_agent

_CHUNK = 65536


class HTTPTransport:
    """One connection to one URL. wall_clock: seconds since the epoch, for a Retry-After that is a date."""

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._place = settings.place
        self._clock = clock
        self._wall_clock = wall_clock
        self._headers = {
            "user-agent": user_agent(),
            **dict(settings.headers),
            "content-type": "application/x-protobuf",
            # Answers are a few bytes: what is not compressed cannot blow up.
            "accept-encoding": "identity",
        }
        if settings.compression != "none":
            self._headers["content-encoding"] = settings.compression
            self._library = compression_library()
        self._compressed: tuple[bytes, bytes] | None = None  # a payload that may be sent again, and its body
        self._renew()

    def _renew(self) -> None:
        self._manager: urllib3.PoolManager | None = None
        self._url = ""  # the endpoint as urllib3 has it, and logs it
        self._exchange = Exchange(self._clock)
        self._in_use = allocate_lock()  # held to use the connection, or to close it
        self._cancelled = self._closed = False

    def send(self, payload: bytes, timeout: float) -> Attempt:
        try:
            with self._in_use:
                return self._send(self._body(payload), timeout).hiding(self._settings.secrets.hide)
        finally:
            self._close_unused()

    def _send(self, body: bytes, timeout: float) -> Attempt:
        exchange = self._exchange
        exchange.deadline = self._clock() + bounded(timeout)
        attempt = self._post(body)
        if not attempt.answered and not attempt.timed_out and exchange.was_stale and not self._cancelled:
            # The server had closed the kept connection while it was idle: nothing was tried yet.
            attempt = self._post(body)
        if attempt.verdict is not Verdict.RETRYABLE:
            self._compressed = None
        return attempt

    def _body(self, payload: bytes) -> bytes:
        if self._settings.compression == "none":
            return payload
        if self._compressed is None or self._compressed[0] is not payload:
            body = compressed(payload, self._settings.compression, self._library)
            self._compressed = (payload, body)
        return self._compressed[1]

    def _post(self, body: bytes) -> Attempt:
        exchange = self._exchange
        exchange.begin()
        try:
            connection = exchange.connection
            response = (connection.post(body) if connection else None) or self._request(body)
            return _CANCELLED if response is None else self._read(response)
        # http.client and OpenSSL have their own exceptions; ValueError is a URL or header that cannot be sent.
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            # With the pool goes its TLS context: certificates that were replaced are read for the next connection.
            self._drop()
            return _CANCELLED if self._cancelled else _unanswered(error)
        except BaseException:  # a signal handler's: the next request must not get the answer to this one
            self._drop()
            raise

    def _request(self, body: bytes) -> Response | None:
        """A request on a connection that urllib3 makes; None if there is to be none."""
        manager = self._manager or self._connect()
        if self._cancelled:
            return None
        return manager.urlopen(
            "POST",
            self._url,
            body=body,
            headers=self._headers,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(total=self._exchange.left()),
        )

    def _read(self, response: Response | UsualResponse) -> Attempt:
        if isinstance(response, UsualResponse):
            return self._answer(response, response.body)
        content, whole = bytearray(), True
        try:
            while chunk := response.read(_CHUNK):
                content += chunk
                if len(content) > MAX_RESPONSE_BYTES:
                    # The specification: such a response MUST be treated as a non-retryable error.
                    words = f"the response is larger than {MAX_RESPONSE_BYTES} bytes"
                    return Attempt(Verdict.PERMANENT, str(response.status), words)
            response.release_conn()
        except (HTTPError, http.client.HTTPException, OSError, ValueError):  # the last for a chunk of no size
            whole = False  # the status line has come, and it decides
        finally:
            # A connection that was read to the end is back in the pool already; this closes any other.
            response.close()
            if self._exchange.has_surplus:
                self._drop()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            whole = False  # unasked for
        return self._answer(response, bytes(content), whole=whole)

    def _answer(self, response: Response | UsualResponse, body: bytes, *, whole: bool = True) -> Attempt:
        now, place = self._wall_clock(), self._place
        return http_answer(response.status, response.headers, body, now=now, url=place, whole=whole)

    def _connect(self) -> urllib3.PoolManager:
        settings = self._settings
        arguments: dict[str, Any] = {"num_pools": 1, "maxsize": 1}
        if not settings.insecure:
            files = (settings.certificate_file, settings.client_certificate_file, settings.client_key_file)
            arguments["ssl_context"] = tls_context(*files)
        manager: urllib3.PoolManager
        if settings.proxy is None:
            manager = urllib3.PoolManager(**arguments)
        else:
            proxy = urllib3.util.parse_url(settings.proxy)
            headers = urllib3.make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else None
            manager = urllib3.ProxyManager(proxy._replace(auth=None).url, proxy_headers=headers, **arguments)
        manager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}
        url = urllib3.util.parse_url(settings.endpoint)
        self._exchange.target = "/" + url.request_uri.lstrip("/")
        self._url = url._replace(path=path_without_secrets(url.path or "/"), query=None).url
        manager.connection_from_url(self._url).conn_kw["exchange"] = self._exchange
        self._manager = manager
        return manager

    def cancel(self) -> None:
        self._cancelled = True
        self._exchange.interrupt()

    def close(self) -> None:
        self.cancel()
        self._closed = True
        self._close_unused()

    def _close_unused(self) -> None:
        """Close the connection, if it is to be, and nobody uses it; who does comes by here afterwards."""
        if self._closed and self._in_use.acquire(False):
            self._drop()
            self._in_use.release()

    def _drop(self) -> None:
        manager, self._manager = self._manager, None
        self._exchange.connection = None
        if manager is not None:
            manager.clear()

    def after_fork_in_child(self) -> None:
        # The parent's socket is closed here with its last reference, which sends nothing over it.
        self._renew()


_CANCELLED = no_answer("cancelled", "the exporter was shut down")

# The first that fits decides, from the outermost exception inwards; urllib3's own are in none of these.
_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, "timed out"),
    (ConnectionRefusedError, "connection refused"),
    (socket.gaierror, "name not resolved"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionError, "disconnected"),
    (http.client.HTTPException, "not HTTP"),
)


def _unanswered(error: BaseException) -> Attempt:
    """What came instead of an answer; the specification has all of it retried."""
    chain = list(_causes(error))
    for cause in chain:
        for kind, code in _CODES:
            if isinstance(cause, kind):
                return no_answer(code, cause, timed_out=kind is TimeoutError)
    return no_answer("no answer", chain[-1])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and what it was raised for, which urllib3 puts into the arguments."""
    for _ in range(8):
        if error is None:
            return
        yield error
        inner = next((argument for argument in error.args if isinstance(argument, BaseException)), None)
        error = inner or error.__cause__
