"""The seam between OTLP's rules and the network: one request out, one Attempt back.

Owns nothing that changes. The rule: a transport makes one request a call and decides nothing; whether and when there is
another is up to the client. Names the sizes that both protocols keep to, and what we call ourselves.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Protocol

from opentelemetry.exporter.otlp.version import __version__ as exporter_version

from otel_shed.otlp.retry import Attempt

# The specification's recommended limits, "OTLP/gRPC Request" and "OTLP/gRPC Response" (the same for HTTP).
MAX_REQUEST_BYTES = 64 * 1024 * 1024
MAX_RESPONSE_BYTES = 4 * 1024 * 1024

# What "no time limit" is to libraries that overflow on infinity (gRPC takes it for a deadline that has passed) or on
# more than 2**31 milliseconds (Python's sockets).
FOREVER = 1_000_000.0


class Transport(Protocol):
    """Sends bytes to one endpoint. ``send`` is called by one thread at a time, the rest by any thread."""

    def send(self, payload: bytes, timeout: float) -> Attempt:
        """Make one request of at most ``timeout`` seconds; connects with the first. Never raises for what happened."""

    def cancel(self) -> None:
        """Interrupt the call in flight, as far as that can be done, and refuse all further ones."""

    def close(self) -> None:
        """Give up the connection; nothing is sent after it."""

    def after_fork_in_child(self) -> None:
        """Leave the connection to the parent, untouched; the next ``send`` makes one of our own."""


def bounded(timeout: float) -> float:
    """The time limit, or FOREVER where that is none."""
    return min(timeout, FOREVER)


@cache
def user_agent() -> str:
    """Our product token, then the one that the specification gives to OpenTelemetry's exporters in Python."""
    try:
        version = importlib.metadata.version("otel-shed")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        version = "0"
    return f"otel-shed/{version} OTel-OTLP-Exporter-Python/{exporter_version}"
