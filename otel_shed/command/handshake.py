"""A TLS connection with the collector, made for what is to be learnt from it.

Called by the doctor's main thread. Owns nothing. The rule: a server is verified exactly as the exporter would do it,
and what is wrong with it is said in words that tell what to do.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from otel_shed.command.reach import Address, UnreachableError
from otel_shed.otlp.certificates import tls_context
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings

# OpenSSL's X509_V_ERR_...: self-signed, also in the chain; issuer not found; first certificate not verifiable.
_NOT_TRUSTED = {18, 19, 20, 21}
_EXPIRED = 10
_OTHER_HOST = {62, 64}
_IDENTITY = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY name the files"


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
        raise UnreachableError(_in_words(error, address), str(error)) from None
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
    return f"TLS with {address} fails"


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
