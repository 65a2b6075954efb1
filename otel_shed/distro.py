"""The entry points: what the launcher and the SDK call when the environment names this library.

Called on the thread that starts the program, before the program. The rule: found but not named, or disabled, they do
what is done without them, so that installing the package changes nothing; named, they never raise, and whatever is
wrong is warned about and defaulted, because an exception here makes a program without traces.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, MutableMapping
from importlib.metadata import entry_points
from typing import Any

from otel_shed.environment import Environment, shown
from otel_shed.launcher import leave_out_lines_about_configurators, other_entry_points
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
    is_enabled,
    is_named,
    repair_components,
    repair_limits,
    repair_set_up,
    replaced,
    set_if_unset,
    spell_name,
)

# Ahead of the SDK's import, in the course of which it reads limits; a bad one raises out of it.
if is_named(os.environ, PYTHON_DISTRO, PYTHON_CONFIGURATOR) and is_enabled(os.environ):
    repair_limits(os.environ)

import opentelemetry.sdk._configuration as sdk_configuration
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Sampler
from opentelemetry.trace import get_tracer_provider

from otel_shed.control.ceiling import Ceiling, parse_ceiling
from otel_shed.otlp.settings import HTTP_PROTOBUF
from otel_shed.substitution import batch_processors_of_ours, otlp_exporters, span_processor, warn

try:
    from opentelemetry.instrumentation.distro import BaseDistro, DefaultDistro  # type: ignore[attr-defined]
except ImportError:  # no launcher; the configurator and the samplers do without it
    BaseDistro = DefaultDistro = object


_EXPORTERS = {METRICS_EXPORTER, LOGS_EXPORTER}
# What code passes to the configurator, and the variable that says the same: the SDK would do both.
_ARGUMENTS = {
    "trace_exporter_names": TRACES_EXPORTER,
    "span_processors": TRACES_EXPORTER,
    "metric_exporter_names": METRICS_EXPORTER,
    "log_exporter_names": LOGS_EXPORTER,
    "log_record_processors": LOGS_EXPORTER,
    "sampler": TRACES_SAMPLER,
}


class ShedDistro(BaseDistro):  # type: ignore[misc]
    """``OTEL_PYTHON_DISTRO=shed``: sets what is unset, so that the launcher alone turns load shedding on.

    The configurator and the sampler become this library's, the exporters of traces, metrics and logs ``otlp`` as with
    the stock distro, and SIGTERM flushes. Variables of the SDK that would keep it from starting are unset, with one
    warning for each.
    """

    _without_us: Any = None

    def _configure(self, **kwargs: Any) -> None:
        spell_name(os.environ)
        leave_out_lines_about_configurators()
        self._without_us = _distro_without_us()
        if self._without_us is not None:
            self._without_us.configure(**kwargs)
            return
        try:
            _set_defaults()
        except Exception as error:
            warn("the distro could not set its defaults", error)

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """As the distro that would be there without this one does."""
        if self._without_us is not None:
            self._without_us.load_instrumentor(entry_point, **kwargs)
        else:
            super().load_instrumentor(entry_point, **kwargs)


def _set_defaults() -> None:
    environ = os.environ
    repair_limits(environ)
    repair_set_up(environ)
    if CONFIG_FILE not in environ:  # which has the SDK ignore the rest
        repair_components(environ)
    set_if_unset(environ, PYTHON_CONFIGURATOR, NAME)
    set_defaults(environ)


def _distro_without_us() -> Any:
    """The distro that does the work where this one must not; None if this one is to act."""
    if not is_named(os.environ, PYTHON_DISTRO):
        for other in other_entry_points("opentelemetry_distro"):
            if isinstance(distro := other.load()(), BaseDistro):
                return distro
        return DefaultDistro()
    if is_enabled(os.environ):
        return None
    try:
        from opentelemetry.distro import OpenTelemetryDistro
    except ImportError:
        return DefaultDistro()
    return OpenTelemetryDistro()


def set_defaults(environ: MutableMapping[str, str], given: Collection[str] = ()) -> None:
    """Set what is unset; ``given``: variables in whose place code has given something."""
    for name, value in DEFAULTS.items():
        if name not in given and (name not in _EXPORTERS or _has_exporter(environ, name)):
            set_if_unset(environ, name, value)


def _has_exporter(environ: Mapping[str, str], variable: str) -> bool:
    """Whether the OTLP exporter of metrics or logs can be had: one that cannot be would have the whole set-up fail."""
    environment = Environment(environ)
    if environment.text(variable) is not None:
        return True
    signal = variable.split("_")[1]
    named = environment.text(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environment.text("OTEL_EXPORTER_OTLP_PROTOCOL")
    name = "otlp_proto_http" if named == HTTP_PROTOBUF else "otlp_proto_grpc"
    try:
        (entry_point,) = entry_points(group=f"opentelemetry_{signal.lower()}_exporter", name=name)
        entry_point.load()
    except Exception as error:
        warn(f"{signal.lower()} are not exported", error)
        return False
    return True


class ShedConfigurator(sdk_configuration._OTelSDKConfigurator):
    """Sets the SDK up from the environment, or from OTEL_CONFIG_FILE, with this library's span processors.

    It acts where OTEL_PYTHON_CONFIGURATOR or OTEL_PYTHON_DISTRO names ``shed``, and where code calls ``configure()``
    itself. What is unset it sets as the distro does, but for what code passes in. Metrics and logs are set up as the
    stock configurator does it.
    """

    def _configure(self, **kwargs: Any) -> None:
        # The launcher tells its version, and calls whatever it finds first; code means this class when it says it.
        found_by_launcher = "auto_instrumentation_version" in kwargs
        if found_by_launcher and not is_named(os.environ, PYTHON_CONFIGURATOR, PYTHON_DISTRO):
            other = next(other_entry_points("opentelemetry_configurator"), None)
            if other is not None:
                leave_out_lines_about_configurators(worker=other.name)
                other.load()().configure(**kwargs)
            return
        leave_out_lines_about_configurators()
        if is_enabled(os.environ):
            self._configure_shedding(kwargs)
        else:
            self._configure_stock(**kwargs)

    def _configure_stock(self, **kwargs: Any) -> None:
        super()._configure(**kwargs)  # type: ignore[no-untyped-call]

    def _configure_shedding(self, kwargs: dict[str, Any]) -> None:
        try:
            repair_limits(os.environ)
            repair_set_up(os.environ)
            set_if_unset(os.environ, FLUSH_ON_SIGTERM, DEFAULTS[FLUSH_ON_SIGTERM])  # a file has no place for it
            if not self._configured_from_file():
                self._configure_from_environment(dict(kwargs))
        except Exception as error:
            if _tracing_is_set_up():
                warn("tracing is set up, but something after it could not be", error)
                return
            warn("load shedding could not be set up, so the SDK is on its own", error)
            self._fall_back(kwargs)

    def _fall_back(self, kwargs: dict[str, Any]) -> None:
        try:
            self._configure_stock(**kwargs)
        except Exception as error:
            warn("the SDK could not set tracing up", error)

    def _configured_from_file(self) -> bool:
        """False if there is no file, or it is of no use, and the environment has to do."""
        if CONFIG_FILE not in os.environ or not hasattr(sdk_configuration, CONFIG_FILE):  # SDKs that know no files
            return False
        try:
            with batch_processors_of_ours():
                self._configure_stock()
        except Exception as error:
            if _tracing_is_set_up():
                raise
            warn(f"{CONFIG_FILE}={shown(os.environ[CONFIG_FILE])} is ignored", error)
            del os.environ[CONFIG_FILE]
            return False
        return True

    def _configure_from_environment(self, kwargs: dict[str, Any]) -> None:
        repair_components(os.environ)
        set_defaults(os.environ, {name for argument, name in _ARGUMENTS.items() if kwargs.get(argument)})
        if kwargs.get("sampler") is None:
            kwargs["sampler"] = _ratio_sampler()
        names = [name.strip() for name in os.environ.get(TRACES_EXPORTER, "").split(",")]
        ours = {} if "exporter_args_map" in kwargs else otlp_exporters(names)
        processors = [span_processor(exporter) for exporter in dict.fromkeys(ours.values())]
        kwargs["span_processors"] = [*(kwargs.get("span_processors") or ()), *processors]
        kwargs.setdefault("export_span_processor", span_processor)
        # The SDK would make the stock exporter of the same name as well.
        with replaced(os.environ, TRACES_EXPORTER, ",".join(name for name in names if name not in ours)):
            self._configure_stock(**kwargs)


def _tracing_is_set_up() -> bool:
    return isinstance(get_tracer_provider(), TracerProvider)


def shed_sampler(argument: str | None = None) -> Sampler:
    """``OTEL_TRACES_SAMPLER=shed``: decides at every local root, whatever a parent in another process decided.

    ``argument``: OTEL_TRACES_SAMPLER_ARG, a ceiling: ``0.25`` or ``rate=100``, root spans a second.
    """
    try:
        from otel_shed.sampler import AdaptiveSampler
        from otel_shed.shedder import LoadShedder

        shedder = LoadShedder.default()
        if not shedder.config.enabled:
            return ALWAYS_ON
        sampler = AdaptiveSampler(threshold=shedder.assembly.control.threshold, ceiling=_ceiling(argument))
        shedder.assembly.add_sampler(sampler)
        return sampler
    except Exception as error:
        warn("the sampler always_on is used", error)
        return ALWAYS_ON


def parentbased_shed_sampler(argument: str | None = None) -> Sampler:
    """``OTEL_TRACES_SAMPLER=parentbased_shed``: decides where there is no parent, and else follows the parent.

    ``argument``: as for ``shed``.
    """
    try:
        from otel_shed.shedder import LoadShedder

        shedder = LoadShedder.default()
        return shedder.sampler(ceiling=_ceiling(argument) if shedder.config.enabled else None)
    except Exception as error:
        warn("the sampler parentbased_always_on is used", error)
        return DEFAULT_ON


def _ratio_sampler() -> Sampler | None:
    try:
        from otel_shed.ratio import named_ratio_sampler

        return named_ratio_sampler(os.environ)
    except Exception as error:
        warn("the SDK's sampler is used", error)
        return None


def _ceiling(argument: str | None) -> Ceiling | None:
    try:
        return parse_ceiling(argument)
    except ValueError as allowed:
        Environment(os.environ).warn("OTEL_TRACES_SAMPLER_ARG", (argument or "").strip(), str(allowed), "no ceiling")
        return None
