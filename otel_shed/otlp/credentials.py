"""gRPC credentials that a package provides and a variable names, as the stock gRPC exporter takes them.

Owns nothing; called by the thread that makes an exporter. The rule: a provider that fails is one warning, and the
exporter goes on with the credentials that its other settings make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from otel_shed.arguments import check_instance
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


def check_channel(credentials: Any, options: Any) -> None:
    """TypeError, with the argument's name, for what gRPC would not take."""
    if credentials is not None:
        import grpc

        check_instance("credentials", credentials, grpc.ChannelCredentials, "grpc.ChannelCredentials")
    if options is not None:
        is_list = isinstance(options, Sequence) and not isinstance(options, (str, bytes))
        if not is_list or not all(map(_is_option, options)):
            raise TypeError("channel_options must be None or a sequence of pairs: a name, and an integer or text")


def _is_option(option: Any) -> bool:
    if not isinstance(option, (tuple, list)) or len(option) != 2:
        return False
    name, value = option
    # gRPC itself takes a float, too, which means nothing to it; and values of its own.
    is_value = isinstance(value, (int, str, bytes)) or type(value).__module__.partition(".")[0] == "grpc"
    return isinstance(name, (str, bytes)) and is_value
