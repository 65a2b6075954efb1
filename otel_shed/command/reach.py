"""How far one gets at a collector's address, step by step: its name, a connection, and which protocol is spoken.

Called by the doctor's main thread. Owns nothing. The rule: no step takes longer than the time that it is given, and
what went wrong is said in words that tell what to do, not in an exception's.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast
from urllib.parse import urlsplit

from otel_shed.otlp.credentials import credentials_from_provider
from otel_shed.otlp.endpoint import TRACES_PATH
from otel_shed.otlp.retry import Attempt, no_answer
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings
from otel_shed.otlp.transport import Transport

PORTS = {GRPC: 4317, HTTP_PROTOBUF: 4318}
NAMES = {GRPC: "OTLP/gRPC", HTTP_PROTOBUF: "OTLP/HTTP"}
_GRPC_DEFAULT_PORT = 443
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")

# gRPC's own words for an answer that is not its own kind of HTTP/2, and for none at all.
_NOT_GRPC = ("http2 header", "http1.x", "content-type", "http status", "failed parsing http/2")
_SILENT = ("before receiving settings", "deadline exceeded")
_GRPC_PREFIX = re.compile(r"^(?:[A-Z_]+: )?(?:ipv[46]|unix):\S+: ")
_LONGEST_WORDS = 160
# The libraries' words for why nobody answered, and ours.
_UNHEARD = {
    "certificate": "the certificate is not accepted",
    "handshake": "TLS fails",
    "ssl": "TLS fails",
    "refused": "the connection is refused",
    "no such file": "there is no such socket",
    "resolution": "the name is not found",
    "name or service": "the name is not found",
    "proxy": "the proxy does not let it through",
    "reset": "the connection is broken off",
}
# For a call that keeps its own time.
_GRACE_SECONDS = 0.5

T = TypeVar("T")


class UnreachableError(Exception):
    """A step failed; the text says why, in words, and ``raw`` in the library's."""

    def __init__(self, text: str, raw: str = "") -> None:
        super().__init__(text)
        self.raw = raw


@dataclass(frozen=True)
class Address:
    """A host's name or address, and a port. peer: the address that is known to take connections."""

    host: str
    port: int
    peer: str = ""

    @classmethod
    def of(cls, settings: ExporterSettings) -> Address | None:
        """Where these settings lead; None for a target that gRPC alone understands (unix:, xds:)."""
        endpoint = settings.endpoint
        if settings.protocol == GRPC:
            target = endpoint.removeprefix("dns:///")
            if "/" in target or target.startswith(_GRPC_SCHEMES):
                return None
            endpoint = f"//{target}"
        try:
            parts = urlsplit(endpoint)
            port = parts.port
        except ValueError:
            return None
        if parts.hostname is None:
            return None
        default = _GRPC_DEFAULT_PORT if settings.protocol == GRPC or not settings.insecure else 80
        return cls(parts.hostname, port or default)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of an empty request. speaks: OTLP by that protocol is spoken there. ok: and the request was taken.

    raw: the library's own words.
    """

    speaks: bool
    ok: bool
    text: str
    raw: str = ""


def within(timeout: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises; TimeoutError after ``timeout`` seconds, and then it goes on without us.

    For what looks names up: the system's resolver knows no time limit.
    """
    done: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except Exception as error:
            done.put((None, error))

    threading.Thread(target=run, name="otel-shed-doctor", daemon=True).start()
    try:
        result, error = done.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(T, result)


def resolve(host: str, timeout: float) -> list[str]:
    """The addresses of a name, in the order in which they are tried. Raises UnreachableError."""
    try:
        entries = within(timeout, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise UnreachableError(f"looking up the name {host} took longer than {timeout:g} s") from None
    except OSError as error:
        raise UnreachableError(f"the name {host} is not found: {error.strerror or error}") from None
    except UnicodeError:  # a part of the name is empty or too long to be asked for
        raise UnreachableError(f"the name {host} is not a valid one") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def connect(address: Address, peers: Sequence[str], timeout: float) -> Address:
    """Connect to the first of ``peers`` that lets us, and hang up. Raises UnreachableError."""
    failure: OSError = OSError("it has no address")
    for peer in peers:
        try:
            socket.create_connection((peer, address.port), timeout / len(peers)).close()
            return replace(address, peer=peer)
        except OSError as error:
            failure = error
    if isinstance(failure, ConnectionRefusedError):
        raise UnreachableError(f"nothing listens at {address}: the connection is refused")
    if isinstance(failure, TimeoutError):
        raise UnreachableError(
            f"{address} does not take the connection within {timeout:.1f} s: a wrong address, or a firewall in between"
        )
    raise UnreachableError(f"{address} cannot be reached: {failure.strerror or failure}", str(failure))


def with_protocol(settings: ExporterSettings, protocol: str, address: Address) -> ExporterSettings:
    """The same, but for another protocol or port; without the headers, which are meant for no other server."""
    scheme = "http" if settings.insecure else "https"
    endpoint = str(address) if protocol == GRPC else f"{scheme}://{address}{TRACES_PATH}"
    return replace(settings, protocol=protocol, endpoint=endpoint, headers=(), compression="none", proxy=None)


def ask(settings: ExporterSettings, timeout: float, environ: Mapping[str, str]) -> Answer:
    """Send an empty request, which OTLP allows, as the exporter would send a full one."""
    if settings.protocol == GRPC:
        from otel_shed.otlp.transport_grpc import GRPCTransport

        credentials = None if settings.insecure else credentials_from_provider(environ)
        attempt = _sent(GRPCTransport(settings, credentials=credentials), timeout)
        return replace(_grpc_answer(attempt), raw="" if attempt.accepted else attempt.words)
    from otel_shed.otlp.transport_http import HTTPTransport

    attempt = _sent(HTTPTransport(settings), timeout)
    answer = _http_answer(attempt, urlsplit(settings.place).path)
    return replace(answer, raw="" if attempt.accepted else attempt.words)


def _sent(transport: Transport, timeout: float) -> Attempt:
    try:
        return within(timeout + _GRACE_SECONDS, lambda: transport.send(b"", timeout))
    except TimeoutError:
        return no_answer("timed out", timed_out=True)
    finally:
        transport.close()


def _http_answer(attempt: Attempt, path: str) -> Answer:
    if attempt.accepted:
        return Answer(speaks=True, ok=True, text="it answers")
    if not attempt.answered:
        return Answer(speaks=False, ok=False, text=_unheard(attempt))
    if attempt.code in {"401", "403"}:
        return Answer(speaks=True, ok=False, text=f"it wants other credentials: {in_short(attempt)}")
    if attempt.code.startswith("2"):
        return Answer(speaks=False, ok=False, text=f"a web server answers: {in_short(attempt)}")
    if attempt.code.startswith("3"):
        advice = "if that is where the collector is, the endpoint has to name it"
        return Answer(speaks=False, ok=False, text=f"it answers {in_short(attempt)}: {advice}")
    if attempt.code in {"404", "405"}:
        return Answer(speaks=False, ok=False, text=f"a web server answers, but it has nothing at {path}")
    if attempt.code in {"429", "503"}:
        return Answer(speaks=True, ok=False, text=f"it is too busy: {in_short(attempt)}")
    # An empty body may be refused by a server that takes spans: that it looks at the body at all is what counts.
    return Answer(speaks=attempt.code in {"400", "415", "422"}, ok=False, text=f"it answers {in_short(attempt)}")


def _grpc_answer(attempt: Attempt) -> Answer:
    if attempt.accepted:
        return Answer(speaks=True, ok=True, text="it answers")
    said = attempt.message.lower()
    if "a redirect, which is not followed" in said:
        return Answer(speaks=False, ok=False, text=f"it answers {attempt.words}")
    if any(words in said for words in _NOT_GRPC):
        return Answer(speaks=False, ok=False, text="something answers, but not by gRPC")
    if not attempt.answered:
        return Answer(speaks=False, ok=False, text=_unheard(attempt))
    if attempt.code in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return Answer(speaks=True, ok=False, text=f"it wants other credentials: {in_short(attempt)}")
    if attempt.code == "UNIMPLEMENTED":
        return Answer(speaks=False, ok=False, text="a gRPC server answers, but it has no OTLP trace service")
    return Answer(speaks=True, ok=False, text=f"it answers {in_short(attempt)}")


def _unheard(attempt: Attempt) -> str:
    if attempt.timed_out or any(words in attempt.message.lower() for words in _SILENT):
        return "it takes the connection, and then no answer comes: it hangs, or speaks something else"
    said = attempt.words.lower()
    words = next((words for part, words in _UNHEARD.items() if part in said), "")
    # What the transports say where nobody answered is in lower case.
    return words or ("no connection comes about" if attempt.code.isupper() else attempt.code)


def in_short(attempt: Attempt) -> str:
    """Code and message of an attempt, without what only fills the screen."""
    # gRPC repeats itself; the last error is the one that says something, after a code and an address.
    message = _GRPC_PREFIX.sub("", attempt.message.rpartition("last error: ")[2])
    if attempt.code.startswith(("2", "3")):  # our own words for what was found; the addresses are needed whole
        return attempt.words
    if message.lstrip().startswith("<"):  # a web server's page
        message = ""
    if len(message) > _LONGEST_WORDS:
        message = message[: _LONGEST_WORDS - 1] + "…"
    return f"{attempt.code}: {message}" if message else attempt.code
