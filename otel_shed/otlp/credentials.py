"""gRPC credentials that a package provides and a variable names, as the stock gRPC exporter takes them.

Owns nothing; called by the thread that makes an exporter. The rule: a provider that fails is one warning, and the
exporter goes on with the credentials that its other settings make.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from otel_shed.environment import Environment

if TYPE_CHECKING:
    import grpc

VARIABLES = (
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_TRACES_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_CREDENTIAL_PROVIDER",
)
GROUP = "opentelemetry_otlp_credential_provider"


def credentials_from_provider(environ: Mapping[str, str]) -> grpc.ChannelCredentials | None:
    """What the provider of that name makes; None if no variable names one that works."""
    import grpc

    environment = Environment(environ)
    for variable in VARIABLES:
        if (name := environment.text(variable)) is None:
            continue
        try:
            (provider,) = entry_points(group=GROUP, name=name)
            credentials = provider.load()()
        except Exception as error:  # whatever a provider raises
            environment.warn(
                variable, name, f"a provider that works ({type(error).__name__})", "the files' credentials"
            )
            continue
        if isinstance(credentials, grpc.ChannelCredentials):
            return credentials
        environment.warn(variable, name, "a provider of grpc.ChannelCredentials", "the files' credentials")
    return None
