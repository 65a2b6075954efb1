"""The SDK's own variables, made harmless before the SDK reads them.

A bad value in one of them makes the SDK raise, some already at its import, and the program runs without traces; the
specification asks for a warning and the default. Called on the thread that sets tracing up, and only where the library
was named: no other program's environment is touched. Imports nothing of the SDK, so that it can run before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from otel_shed.environment import Environment

NAME = "shed"
"""The name of every entry point that OTEL_PYTHON_DISTRO, OTEL_PYTHON_CONFIGURATOR or OTEL_TRACES_SAMPLER may give."""

PYTHON_DISTRO = "OTEL_PYTHON_DISTRO"
PYTHON_CONFIGURATOR = "OTEL_PYTHON_CONFIGURATOR"
CONFIG_FILE = "OTEL_CONFIG_FILE"
TRACES_EXPORTER = "OTEL_TRACES_EXPORTER"
METRICS_EXPORTER = "OTEL_METRICS_EXPORTER"
LOGS_EXPORTER = "OTEL_LOGS_EXPORTER"
TRACES_SAMPLER = "OTEL_TRACES_SAMPLER"
TRACES_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG"
FLUSH_ON_SIGTERM = "OTEL_SHED_FLUSH_ON_SIGTERM"

DEFAULTS = {
    TRACES_EXPORTER: "otlp",
    METRICS_EXPORTER: "otlp",
    LOGS_EXPORTER: "otlp",
    TRACES_SAMPLER: "parentbased_shed",
    FLUSH_ON_SIGTERM: "true",
}
"""What the distro and the configurator set where it is unset; the exporters are the stock distro's defaults."""

# What people write for it. pyproject.toml has entry points for these; the launcher wants a name to the letter.
_NEAR_NAME = re.compile(r"(?:otel[-_. ]?)?shed", re.IGNORECASE)

_INT_MAX = 2**31 - 1
_THE_DEFAULT = "the default"
_LIMITS = (
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)
_PROTOCOLS = _GRPC, _HTTP = ("grpc", "http/protobuf")
_OTLP = "OTEL_EXPORTER_OTLP_"
# The one for all signals last: a signal that has an endpoint of its own may need another protocol.
_PROTOCOL_VARIABLES = tuple(f"{_OTLP}{signal}PROTOCOL" for signal in ("TRACES_", "METRICS_", "LOGS_", ""))
_OTHER_SCHEME = re.compile(r"(?!https?:)[a-z][a-z0-9+.\-]*:(?:[^0-9]|$)", re.IGNORECASE)
# By variable, the group of the entry points that it names; the exporters take several names, or "none".
_COMPONENTS = {
    TRACES_EXPORTER: "opentelemetry_traces_exporter",
    METRICS_EXPORTER: "opentelemetry_metrics_exporter",
    LOGS_EXPORTER: "opentelemetry_logs_exporter",
    TRACES_SAMPLER: "opentelemetry_traces_sampler",
    "OTEL_PYTHON_ID_GENERATOR": "opentelemetry_id_generator",
}
RATIO_SAMPLERS = frozenset({"traceidratio", "parentbased_traceidratio"})


def is_enabled(environ: Mapping[str, str]) -> bool:
    """OTEL_SHED_ENABLED: true unless it says false."""
    return Environment(environ).boolean("OTEL_SHED_ENABLED", True)


def is_named(environ: Mapping[str, str], *variables: str) -> bool:
    """Whether one of ``variables`` (PYTHON_DISTRO, PYTHON_CONFIGURATOR) asks for this library.

    By its name, or by one that can mean nothing else: ``otel-shed``, ``otel_shed``, ``SHED``.
    """
    return any(_NEAR_NAME.fullmatch(environ.get(variable, "").strip()) for variable in variables)


def spell_name(environ: MutableMapping[str, str]) -> None:
    """Have the variables that ask for this library do so by the name that the launcher knows."""
    for variable in (PYTHON_DISTRO, PYTHON_CONFIGURATOR):
        if is_named(environ, variable):
            environ[variable] = NAME


def set_if_unset(environ: MutableMapping[str, str], name: str, value: str) -> None:
    """As setdefault, but that a variable which is empty or white space counts as unset."""
    if Environment(environ).text(name) is None:
        environ[name] = value


@contextmanager
def replaced(environ: MutableMapping[str, str], name: str, value: str) -> Iterator[None]:
    """The variable has ``value`` within the block, and afterwards what it had before."""
    before = environ.get(name)
    environ[name] = value
    try:
        yield
    finally:
        if before is None:
            environ.pop(name, None)
        else:
            environ[name] = before


def repair_limits(environ: MutableMapping[str, str]) -> None:
    """Unset the limits that are empty (the SDK takes that for no limit), no integer, negative or absurdly large."""
    environment = Environment(environ)
    for name in _LIMITS:
        limit = environment.number(name, _THE_DEFAULT, low=0, high=_INT_MAX, integer=True)
        if limit == _THE_DEFAULT:
            environ.pop(name, None)


def repair_set_up(environ: MutableMapping[str, str]) -> None:
    """Unset the names of a configurator that there is not, and of a configuration file where there is no name."""
    _repair(environ, PYTHON_CONFIGURATOR, partial(_installed, "opentelemetry_configurator"), several=False)
    if CONFIG_FILE in environ and Environment(environ).text(CONFIG_FILE) is None:
        del environ[CONFIG_FILE]


def repair_components(environ: MutableMapping[str, str]) -> None:
    """Drop the names of exporters, samplers, generators and protocols that there are not; nothing left is unset.

    Case does not count (``OTEL_TRACES_EXPORTER=OTLP``), as the specification has it of names.
    """
    _repair_protocols(environ)
    for name, group in _COMPONENTS.items():
        _repair(environ, name, partial(_installed, group), several=name.endswith("_EXPORTER"))
    _repair_ratio(environ)


def _installed(group: str) -> tuple[str, ...]:
    return tuple(sorted(entry_points(group=group).names))


def _repair(
    environ: MutableMapping[str, str], variable: str, allowed: Callable[[], tuple[str, ...]], *, several: bool
) -> None:
    if variable not in environ:
        return
    environment = Environment(environ)
    text = environment.text(variable)
    if text is None:
        del environ[variable]
        return
    if several and text.lower() == "none":
        return
    known = allowed()
    spelled = {name.lower(): name for name in known} | {name: name for name in known}
    names = [name for part in (text.split(",") if several else [text]) if (name := part.strip())]
    kept = [found for name in names if (found := spelled.get(name) or spelled.get(name.lower()))]
    if len(kept) < len(names) or not kept:
        environment.warn(variable, text, f"known ({', '.join(known)})", ",".join(kept) or _THE_DEFAULT)
    if not kept:
        del environ[variable]
    elif ",".join(kept) != environ[variable]:
        environ[variable] = ",".join(kept)


def fitting_protocol(given: str, endpoint: str | None) -> str:
    """The protocol for what is none of them (``http``, ``http/json``): the one that the endpoint fits.

    A scheme other than http and https is gRPC. Port 4318 or a path is HTTP, port 4317 alone is gRPC; where there is
    neither, ``given`` decides.
    """
    where = endpoint or ""
    if _OTHER_SCHEME.match(where):
        return _GRPC
    try:
        url = urlsplit(where if "//" in where else f"//{where}")
        port, path = url.port, url.path.strip("/")
    except ValueError:
        port, path = None, ""
    if port == 4318 or path:
        return _HTTP
    return _HTTP if port != 4317 and given.lower().startswith("http") else _GRPC


def _repair_protocols(environ: MutableMapping[str, str]) -> None:
    """Put the protocol that fits the endpoint in the place of one that there is not, for each telemetry signal."""
    environment = Environment(environ)
    general = environment.text(f"{_OTLP}PROTOCOL")
    for name in _PROTOCOL_VARIABLES:
        text, endpoint = environment.text(name), environment.text(name.removesuffix("PROTOCOL") + "ENDPOINT")
        given = text or (endpoint and general)
        if not given or given.lower() in _PROTOCOLS:
            _repair(environ, name, lambda: _PROTOCOLS, several=False)
            continue
        used = fitting_protocol(given, endpoint or environment.text(f"{_OTLP}ENDPOINT"))
        if text is not None:
            environment.warn(name, text, f"known ({', '.join(_PROTOCOLS)})", used)
        environ[name] = used


def _repair_ratio(environ: MutableMapping[str, str]) -> None:
    """Say 1 where a ratio sampler's argument is bad: that is the default, and the SDK logs twice to come to it."""
    environment = Environment(environ)
    if environ.get(TRACES_SAMPLER) in RATIO_SAMPLERS and environment.text(TRACES_SAMPLER_ARG) is not None:
        environ[TRACES_SAMPLER_ARG] = str(environment.number(TRACES_SAMPLER_ARG, 1.0, low=0, high=1))
