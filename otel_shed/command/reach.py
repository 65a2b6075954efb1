"""How far one gets at a collector's address, step by step: name, connection, TLS, and which protocol is spoken.

Called by the doctor's main thread. Owns nothing. The rule: no step takes longer than the time that it is given, and
what went wrong is said in words that tell what to do, not in an exception's.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from otel_shed.otlp.certificates import tls_context
from otel_shed.otlp.credentials import credentials_from_provider
from otel_shed.otlp.endpoint import TRACES_PATH
from otel_shed.otlp.retry import Attempt
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings
from otel_shed.otlp.transport import Transport

PORTS = {GRPC: 4317, HTTP_PROTOBUF: 4318}
NAMES = {GRPC: "OTLP/gRPC", HTTP_PROTOBUF: "OTLP/HTTP"}
_GRPC_DEFAULT_PORT = 443

# OpenSSL's X509_V_ERR_...: self-signed, also in the chain; issuer not found; first certificate not verifiable.
_NOT_TRUSTED = {18, 19, 20, 21}
_EXPIRED = 10
_OTHER_HOST = {62, 64}
_IDENTITY = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name the files"

# gRPC's own words for an answer that is not its own kind of HTTP/2, and for none at all.
_NOT_GRPC = ("http2 header", "http1.x", "content-type", "http status", "failed parsing http/2")
_SILENT = ("before receiving settings", "deadline exceeded")
_GRPC_PREFIX = re.compile(r"^(?:[A-Z_]+: )?(?:ipv[46]|unix):\S+: ")
_LONGEST_WORDS = 160


class UnreachableError(Exception):
    """A step failed; the text says why, in words."""


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
            endpoint = "//" + endpoint.removeprefix("dns:///")
            if endpoint.count(":") and ("/" in endpoint[2:] or endpoint.startswith(("//unix", "//ipv", "//dns:"))):
                return None
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
    """What came of an empty request. speaks: OTLP by that protocol is spoken there. ok: and the request was taken."""

    speaks: bool
    ok: bool
    text: str


def resolve(host: str, timeout: float) -> list[str]:
    """The addresses of a name, in the order in which they are tried. Raises UnreachableError."""
    found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))
        except OSError as error:
            found.put(error)
        except UnicodeError:  # a part of the name is empty or too long to be asked for
            found.put(OSError("it is no valid name"))

    # getaddrinfo() knows no time limit.
    threading.Thread(target=ask, name="otel-shed-doctor-resolve", daemon=True).start()
    try:
        answer = found.get(timeout=timeout)
    except queue.Empty:
        raise UnreachableError(f"looking up the name {host} took longer than {timeout:g} s") from None
    if isinstance(answer, OSError):
        raise UnreachableError(f"the name {host} is not found: {answer.strerror or answer}")
    return answer


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
    raise UnreachableError(f"{address} cannot be reached: {failure.strerror or failure}")


def shake_hands(address: Address, settings: ExporterSettings, timeout: float) -> str:
    """Make a TLS connection as the exporter would; what came of it, in words. Raises UnreachableError."""
    try:
        context = tls_context(
            settings.certificate_file or (_grpc_authorities() if settings.protocol == GRPC else None),
            settings.client_certificate_file,
            settings.client_key_file,
        )
        context.set_alpn_protocols(["h2"] if settings.protocol == GRPC else ["http/1.1"])
        with (
            socket.create_connection((address.peer, address.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            chosen, version = secured.selected_alpn_protocol(), secured.version()
            is_refused = _hangs_up(secured)
    except OSError as error:  # ssl.SSLError is one
        raise UnreachableError(_in_words(error, address)) from None
    # An HTTP server hangs up without a word only if it is none; that is for another step to find out.
    if is_refused and settings.protocol == GRPC and chosen == "h2":
        raise UnreachableError(f"{address} hangs up once TLS begins: it may want a client certificate; {_IDENTITY}")
    if settings.protocol == GRPC and chosen != "h2":
        raise UnreachableError(
            f"TLS works at {address}, but HTTP/2, which gRPC needs, is not offered there: it may be the port for "
            f"OTLP/HTTP (OTEL_EXPORTER_OTLP_PROTOCOL={HTTP_PROTOBUF})"
        )
    return f"TLS works ({version}); the certificate is trusted and is for {address.host}"


def _grpc_authorities() -> str | None:
    """Whom gRPC trusts, which is not whom the system trusts."""
    import grpc

    named = os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH") or str(
        Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"
    )
    return named if os.path.exists(named) else None


def _hangs_up(secured: ssl.SSLSocket) -> bool:
    # With TLS 1.3 a server looks at our certificate, or the lack of it, after we are done: it gets a moment to object.
    secured.settimeout(0.2)
    try:
        return not secured.recv(1)
    except TimeoutError:
        return False


def _in_words(error: OSError, address: Address) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NOT_TRUSTED:
            return (
                f"the certificate of {address} is not trusted ({error.verify_message}): for a collector of your own, "
                "name the file with its certificate authority in OTEL_EXPORTER_OTLP_CERTIFICATE"
            )
        if error.verify_code in _OTHER_HOST:
            return f"the certificate of {address} is for another host: {error.verify_message}"
        if error.verify_code == _EXPIRED:
            return f"the certificate of {address} has expired"
        return f"the certificate of {address} is refused: {error.verify_message}"
    text = str(error).upper()
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "PACKET_LENGTH_TOO_LONG" in text:
        return f"{address} does not speak TLS, but plain text: the endpoint has to begin with http://"
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
        return f"{address} wants a client certificate; {_IDENTITY}"
    if "UNKNOWN_CA" in text or "BAD_CERTIFICATE" in text:
        return f"{address} does not trust the client certificate"
    if isinstance(error, TimeoutError):
        return f"{address} takes the connection, but does not answer to TLS: plain text (http://), or it hangs"
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)):
        return f"{address} hangs up when TLS begins: it may speak plain text, and then the endpoint begins with http://"
    return f"TLS with {address} fails: {error}"


def speaks_tls(address: Address, timeout: float) -> bool:
    """Whether TLS is spoken where plain text was expected, whatever the certificate is worth."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address.peer, address.port), timeout) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # A server that wants something of us that we do not have speaks TLS all the same.
        return "ALERT" in str(error)
    except OSError:
        return False


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
        return _grpc_answer(attempt)
    from otel_shed.otlp.transport_http import HTTPTransport

    return _http_answer(_sent(HTTPTransport(settings), timeout), urlsplit(settings.endpoint).path)


def _sent(transport: Transport, timeout: float) -> Attempt:
    try:
        return transport.send(b"", timeout)
    finally:
        transport.close()


def _http_answer(attempt: Attempt, path: str) -> Answer:
    if attempt.accepted:
        return Answer(speaks=True, ok=True, text="it answers")
    if not attempt.answered:
        return Answer(speaks=False, ok=False, text=_unheard(attempt))
    if attempt.code in {"401", "403"}:
        return Answer(speaks=True, ok=False, text=f"it wants other credentials: {in_short(attempt)}")
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
    return in_short(attempt)


def in_short(attempt: Attempt) -> str:
    """Code and message of an attempt, without what only fills the screen."""
    # gRPC repeats itself; the last error is the one that says something, after a code and an address.
    message = _GRPC_PREFIX.sub("", attempt.message.rpartition("last error: ")[2])
    if message.lstrip().startswith("<"):  # a web server's page
        message = ""
    if len(message) > _LONGEST_WORDS:
        message = message[: _LONGEST_WORDS - 1] + "…"
    return f"{attempt.code}: {message}" if message else attempt.code
