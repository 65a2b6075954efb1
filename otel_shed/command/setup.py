"""What is configured, and from where: the launcher's part, every setting that is not the default, what looks wrong.

Called by the doctor's main thread; reads the environment and changes nothing. The rule: no value that may be a secret
is shown (headers, credentials in a URL).
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import math
import platform
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass

from otel_shed import environment_variables
from otel_shed.command.survey import Finding, Mark, proxy_variable
from otel_shed.compiled import PURE_PYTHON
from otel_shed.config import SETTINGS, ShedConfig
from otel_shed.control.ceiling import RateCeiling, parse_ceiling
from otel_shed.environment import Environment, shown
from otel_shed.otlp.settings import CODE, DEFAULT_TIMEOUT, ENDPOINT_HEADERS, ExporterSettings
from otel_shed.sdk_environment import (
    CONFIG_FILE,
    DEFAULTS,
    FLUSH_ON_SIGTERM,
    LOGS_EXPORTER,
    METRICS_EXPORTER,
    NAME,
    PYTHON_CONFIGURATOR,
    PYTHON_DISTRO,
    TRACES_EXPORTER,
    TRACES_SAMPLER,
    TRACES_SAMPLER_ARG,
    is_enabled,
    is_named,
)

RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_PACKAGES = {"SDK": "opentelemetry-sdk", "gRPC": "grpcio"}
_OTLP_EXPORTERS = {"otlp", "otlp_shed", "otlp_proto_grpc", "otlp_proto_http"}
_NAMED_BY = {PYTHON_DISTRO: "opentelemetry_distro", PYTHON_CONFIGURATOR: "opentelemetry_configurator"}
_SAMPLERS_OF_OURS = {"shed", "parentbased_shed"}
# Seconds; nobody waits so long for one answer.
_LONG_TIMEOUT = 300.0
_SAMPLES_NOTHING = {"always_off", "parentbased_always_off"}


@dataclass(frozen=True)
class Row:
    """A setting as it is shown: its name, its value, and where that comes from."""

    name: str
    value: str
    source: str = ""


def versions() -> str:
    """One line: what runs here."""
    parts = [f"otel-shed {_version('otel-shed')}", f"Python {platform.python_version()}"]
    parts += [f"{name} {_version(package)}" for name, package in _PACKAGES.items()]
    return ", ".join([*parts, f"{platform.system()} {platform.machine()}"])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def name_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Names that the launcher does not find; it wants them to the letter, and says nothing of a distro's."""
    for variable, group in _NAMED_BY.items():
        installed = importlib.metadata.entry_points(group=group).names
        name = environ.get(variable)
        if name is not None and name not in installed:
            meant = f"; {variable}={NAME} is meant?" if is_named(environ, variable) else ""
            yield Finding(
                Mark.WARN,
                f"{variable}={shown(name)}: none of that name is installed ({', '.join(sorted(installed))}), "
                f"and opentelemetry-instrument then exports nothing{meant}",
            )


def launcher_findings(environ: MutableMapping[str, str]) -> Iterator[Finding]:
    """Whether opentelemetry-instrument would have this library at work, and what would keep spans from it."""
    environment = Environment(environ)
    named = _named(environ)
    if not named:
        yield Finding(
            Mark.NOTE,
            f"opentelemetry-instrument does not use otel-shed: that takes {PYTHON_DISTRO}={NAME}. "
            "Code that makes a LoadShedder or a SheddingSpanProcessor needs no variable",
        )
    elif not is_enabled(environ):
        yield Finding(
            Mark.WARN, f"{named[0]}={environ[named[0]]}, but OTEL_SHED_ENABLED=false: the stock SDK runs in its place"
        )
    else:
        how = f"{named[0]}={environ[named[0]]}"
        yield Finding(Mark.OK, f"opentelemetry-instrument uses otel-shed ({how}){_filled_in(environment)}")
    if named and not _is_installed("opentelemetry.instrumentation"):
        yield Finding(Mark.WARN, "opentelemetry-instrument is not installed: pip install otel-shed[launcher]")
    if NAME not in importlib.metadata.entry_points(group="opentelemetry_distro").names:
        yield Finding(Mark.WARN, "otel-shed runs here without being installed: opentelemetry-instrument cannot find it")
    if environment.boolean("OTEL_SDK_DISABLED", False):
        yield Finding(Mark.WARN, "OTEL_SDK_DISABLED=true: nothing is traced")
    if (file := environment.text(CONFIG_FILE)) is not None:
        yield Finding(Mark.NOTE, f"{CONFIG_FILE}={file}: the SDK takes its set-up from that file, not from variables")
    exporters = environment.text(TRACES_EXPORTER)
    if exporters is not None and not _OTLP_EXPORTERS & {name.strip() for name in exporters.split(",")}:
        yield Finding(Mark.WARN, f"{TRACES_EXPORTER}={exporters}: no span goes to the collector")
    if (sampler := environment.text(TRACES_SAMPLER)) in _SAMPLES_NOTHING:
        yield Finding(Mark.WARN, f"{TRACES_SAMPLER}={sampler}: no trace is recorded but for what a caller asks for")
    is_ours = sampler in _SAMPLERS_OF_OURS or (sampler is None and bool(named))
    if is_ours and is_enabled(environ):
        yield from _ceiling(environment.text(TRACES_SAMPLER_ARG))
    if environment.text("OTEL_SERVICE_NAME") is None and "service.name=" not in environ.get(RESOURCE_ATTRIBUTES, ""):
        yield Finding(Mark.NOTE, "this environment gives the program no name: that is OTEL_SERVICE_NAME")
    yield from _unknown_variables(environ)


def _named(environ: Mapping[str, str]) -> list[str]:
    """The variables by which the launcher finds this library."""
    return [name for name in _NAMED_BY if is_named(environ, name) and not any(name_findings({name: environ[name]}))]


def program_rows(environ: Mapping[str, str]) -> Iterator[Row]:
    """What a program under the launcher gets: its sampler, the exporters of its signals, whether SIGTERM flushes."""
    environment = Environment(environ)
    by_us = "set by otel-shed"
    is_ours = bool(_named(environ)) and is_enabled(environ)
    file = environment.text(CONFIG_FILE)
    has_stock = "distro" in importlib.metadata.entry_points(group="opentelemetry_distro").names
    by_stock = (
        ("otlp", "set by the stock distro") if has_stock and not environ.get(PYTHON_DISTRO) else ("none", "unset")
    )

    def row(name: str, variable: str, otherwise: tuple[str, str]) -> Row:
        if file is not None:
            return Row(name, "as the file says", CONFIG_FILE)
        if (given := environment.text(variable)) is not None:
            return Row(name, given, variable)
        return Row(name, DEFAULTS[variable], by_us) if is_ours else Row(name, *otherwise)

    sampler = row("sampler", TRACES_SAMPLER, ("parentbased_always_on", "the SDK's default"))
    argument = environment.text(TRACES_SAMPLER_ARG)
    yield Row(sampler.name, f"{sampler.value}, {shown(argument)}" if argument else sampler.value, sampler.source)
    yield row("traces go to", TRACES_EXPORTER, by_stock)
    yield row("metrics go to", METRICS_EXPORTER, by_stock)
    yield row("logs go to", LOGS_EXPORTER, by_stock)
    flushes = environment.boolean(FLUSH_ON_SIGTERM, is_ours) and is_enabled(environ)
    given = environment.text(FLUSH_ON_SIGTERM) is not None
    yield Row(
        "SIGTERM flushes", "yes" if flushes else "no", FLUSH_ON_SIGTERM if given else by_us if is_ours else "default"
    )


def timeout_findings(settings: ExporterSettings) -> Iterator[Finding]:
    """A time limit that was meant in milliseconds, as the specification has it; the Python SDK reads seconds."""
    if _LONG_TIMEOUT <= settings.timeout < math.inf:
        variable = settings.sources.get("TIMEOUT", "timeout")
        yield Finding(
            Mark.WARN,
            f"{variable} is in seconds: {settings.timeout:,.0f} s is {settings.timeout / 3600:.1f} hours for one "
            f"request. If milliseconds are meant, {settings.timeout / 1000:g} says it",
        )


def compiled_findings() -> Iterator[Finding]:
    """Whether spans are encoded in C, and if not, why; which costs CPU and nothing else."""
    from otel_shed.otlp.proof import compiled_parts

    parts = compiled_parts()
    yield Finding(Mark.OK if parts else Mark.NOTE, f"the compiled parts are {parts}")


def _ceiling(argument: str | None) -> Iterator[Finding]:
    """What our samplers make of their argument."""
    try:
        ceiling = parse_ceiling(argument)
    except ValueError as allowed:
        yield Finding(Mark.WARN, f"{TRACES_SAMPLER_ARG}={shown(argument)} is not {allowed}; using no ceiling")
        return
    if isinstance(ceiling, RateCeiling):
        yield Finding(
            Mark.NOTE, f"{TRACES_SAMPLER_ARG}: at most {ceiling.roots_per_second:g} traces a second begin here"
        )
    elif ceiling is not None:
        yield Finding(Mark.NOTE, f"{TRACES_SAMPLER_ARG}: at most {ceiling.probability:g} of the traces are recorded")


def _filled_in(environment: Environment) -> str:
    """What the distro or the configurator sets where it finds nothing, in words."""
    unset = [f"{name}={value}" for name, value in DEFAULTS.items() if environment.text(name) is None]
    return f", and sets what is unset here: {', '.join(unset)}" if unset else ""


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = {name for name in vars(environment_variables) if name.startswith("OTEL_")}
    known |= {setting.variable for setting in SETTINGS}
    for name in sorted(environ):
        if name.startswith("OTEL_SHED_") and name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
            meant = f"; is {near[0]} meant?" if near else ""
            yield Finding(Mark.WARN, f"{name} is set, but there is no such variable{meant}")


def shed_rows(config: ShedConfig, environ: Mapping[str, str]) -> Iterator[Row]:
    """The settings of this library that are not at their defaults."""
    environment = Environment(environ)
    for setting in SETTINGS:
        value = getattr(config, setting.name)
        if value != setting.default:
            given = environment.text(setting.variable) is not None
            source = setting.variable if given else f"follows from {setting.at_most}"
            yield Row(setting.name, setting.in_words(value), f"{source}; default {setting.in_words(setting.default)}")
    if environment.boolean(PURE_PYTHON, False):
        yield Row("pure_python", "true", f"{PURE_PYTHON}; default false")


def exporter_rows(settings: ExporterSettings, environ: Mapping[str, str]) -> Iterator[Row]:
    """Protocol and endpoint, and what else of the exporter is not at its default."""

    def source(ending: str) -> str:
        found = settings.sources.get(ending, "default")
        return f"--{ending.partition('_')[0].lower()}" if found == CODE else found

    yield Row("protocol", settings.protocol, source("PROTOCOL"))
    yield Row("endpoint", settings.shown_endpoint, source("ENDPOINT"))
    yield Row("TLS", "no" if settings.insecure else "yes")
    if settings.headers:
        names = ", ".join(name for name, _ in settings.headers)
        sources = [source(ending) for ending in (ENDPOINT_HEADERS, "HEADERS") if ending in settings.sources]
        yield Row("headers", names, f"{', '.join(sources)}; the values are not shown")
    if settings.timeout != DEFAULT_TIMEOUT:
        yield Row("timeout", f"{settings.timeout:g} s", source("TIMEOUT"))
    if settings.compression != "none":
        yield Row("compression", settings.compression, source("COMPRESSION"))
    for name, ending, value in (
        ("authorities", "CERTIFICATE", settings.certificate_file),
        ("client certificate", "CLIENT_CERTIFICATE", settings.client_certificate_file),
        ("client key", "CLIENT_KEY", settings.client_key_file),
    ):
        if value is not None and not settings.insecure:
            yield Row(name, value, source(ending))
    if (proxy := proxy_variable(settings, environ)) is not None:
        yield Row("proxy", "yes", proxy)
