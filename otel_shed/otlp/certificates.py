"""PEM files: whether they will do, and what a TLS connection is made with.

Owns nothing. The checks run where an exporter is made, the rest where it connects, so that a file that was replaced in
the meantime (a rotated certificate) is used with the next connection. The rule: a server is always verified.
"""

from __future__ import annotations

import os
import ssl
from typing import Any


def readable_file(path: Any) -> str:
    """The path as text; ValueError if there is no file that can be read."""
    try:
        name = os.fsdecode(path)
        with open(name, "rb") as file:
            file.read(1)
    except TypeError:
        raise ValueError("the path of a file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"a file that can be read ({_why(error)})") from None
    return name


def authorities_file(path: Any) -> str:
    """The path as text; ValueError unless it is a file of PEM certificates."""
    name = readable_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(name)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError(f"a file of PEM certificates ({_why(error)})") from None
    return name


def identity_file(path: Any, key: str | None) -> str:
    """The path as text; ValueError unless it is a PEM certificate that ``key`` (None: in the same file) belongs to."""
    name = readable_file(path)
    try:
        _load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), name, key)
    except (OSError, ValueError) as error:
        raise ValueError(f"a PEM certificate with a key that fits and is not encrypted ({_why(error)})") from None
    return name


def _load_identity(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    # An empty password, so that an encrypted key is an error and not a question on the program's terminal.
    context.load_cert_chain(certificate, key, password="")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def tls_context(authorities: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """What an HTTPS connection is made with; OSError if a file cannot be used any more."""
    context = ssl.create_default_context(cafile=authorities)
    if authorities is None:
        # A slim container has no authorities of its own; the stock exporter finds certifi's there, through requests.
        try:
            import certifi
        except ImportError:
            pass
        else:
            context.load_verify_locations(certifi.where())
    if certificate is not None:
        _load_identity(context, certificate, key)
    return context


def grpc_files(authorities: str | None, certificate: str | None, key: str | None) -> dict[str, bytes | None]:
    """The arguments of grpc.ssl_channel_credentials; OSError if a file cannot be read any more."""
    chain = _read(certificate)
    return {
        "root_certificates": _read(authorities),
        # Unlike OpenSSL, gRPC does not look for the key beside the certificate.
        "private_key": chain if key is None else _read(key),
        "certificate_chain": chain,
    }


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
