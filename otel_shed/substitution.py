"""This library's span processors and exporter where the SDK would put its own.

Called by the configurator, on the thread that starts the program. The rule: a fault in a part of ours is one warning
and the stock part. So the parts are imported where they are used: one that does not load is such a fault.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, TraceIdRatioBased

from otel_shed.environment import logger
from otel_shed.interruption import is_applications
from otel_shed.sdk_environment import CONFIG_FILE

# What OTEL_TRACES_EXPORTER calls the OTLP exporters, and the protocol that each name asks for; None: the variables do.
OTLP_NAMES = {"otlp": None, "otlp_shed": None, "otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
# Since SDK 1.44 in a package of its own, before that in the SDK.
_FILE_FACTORIES = ("opentelemetry.configuration._tracer_provider", "opentelemetry.sdk._configuration._tracer_provider")


def otlp_exporters(names: Iterable[str]) -> dict[str, SpanExporter]:
    """Ours for each of the names that OTLP_NAMES has; names that come to the same protocol share one exporter.

    A name is missing where there is a fault in ours, and the stock exporter has to do.
    """
    made: dict[str, SpanExporter] = {}
    by_protocol: dict[str, SpanExporter] = {}
    try:
        from otel_shed.otlp.exporter import OTLPSpanExporter

        for name in names:
            if name in OTLP_NAMES:
                exporter = OTLPSpanExporter(protocol=OTLP_NAMES[name])
                made[name] = by_protocol.setdefault(exporter.settings.protocol, exporter)
    except Exception as error:
        warn("the stock OTLP exporter is used", error)
    return made


def span_processor(span_exporter: SpanExporter) -> SpanProcessor:
    """What stands before an exporter that the environment names."""
    try:
        from otel_shed.shedder import LoadShedder

        return LoadShedder.default().span_processor(_unwrapped(span_exporter))
    except Exception as error:
        warn("the stock span processor is used", error)
        return _stock_processor(span_exporter)


def _batch_processor(span_exporter: SpanExporter, **settings: Any) -> SpanProcessor:
    """What stands before a configuration file's ``batch`` exporter; a setting is None where the file has none."""
    usable = _usable(settings)
    try:
        from otel_shed.processor import SheddingSpanProcessor
        from otel_shed.shedder import LoadShedder

        return SheddingSpanProcessor(_unwrapped(span_exporter), shedder=LoadShedder.default(), **usable)
    except Exception as error:
        warn("the stock span processor is used", error)
        return _stock_processor(span_exporter, **usable)


def _ratio_sampler(rate: float) -> Sampler:
    """What stands for the SDK's TraceIdRatioBased of a configuration file."""
    try:
        from otel_shed.ratio import RatioSampler

        return RatioSampler(rate)
    except ImportError as error:
        warn("the SDK's sampler is used", error)
        return TraceIdRatioBased(rate)


def _usable(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a configuration file that hold, with one warning for each that does not."""
    from otel_shed.config import SETTING, ShedConfig

    usable: dict[str, Any] = {}
    for name, value in settings.items():
        if value is not None:
            try:
                usable[name] = SETTING[name].check(value)
            except ValueError as error:
                logger.warning("%s: %s; using the default", CONFIG_FILE, error)
    queue = usable.get("max_queue_size") or ShedConfig.from_env().max_queue_size
    if queue is not None and usable.get("max_export_batch_size", 0) > queue:
        logger.warning("%s: max_export_batch_size is larger than max_queue_size; using %d", CONFIG_FILE, queue)
        usable["max_export_batch_size"] = queue
    return usable


def _unwrapped(span_exporter: SpanExporter) -> SpanExporter:
    """What a SheddingSpanExporter exports to: one queue before it is enough."""
    from otel_shed.exporter import SheddingSpanExporter

    return span_exporter.span_exporter if isinstance(span_exporter, SheddingSpanExporter) else span_exporter


def _stock_processor(span_exporter: SpanExporter, **settings: Any) -> SpanProcessor:
    """The SDK's own, which raises for variables that are bad; so it is given what they come to."""
    from otel_shed.assembly import NOMINAL_QUEUE
    from otel_shed.config import ShedConfig

    config = ShedConfig.from_env(**settings)
    return BatchSpanProcessor(
        span_exporter,
        # Where it is not set, the stock default, unless that is too small for the batches that are.
        max_queue_size=config.max_queue_size or max(NOMINAL_QUEUE, config.max_export_batch_size),
        schedule_delay_millis=config.schedule_delay_millis,
        max_export_batch_size=config.max_export_batch_size,
        export_timeout_millis=config.export_timeout_millis,
    )


@contextmanager
def batch_processors_of_ours() -> Iterator[None]:
    """Within the block, the ``batch`` of a configuration file is ours, and so is its ``trace_id_ratio_based``."""
    # The factory knows them by their names in its module; there is no other hook.
    factory = _file_factory()
    if factory is None:
        if find_spec("opentelemetry.configuration") is not None:  # without it the SDK has something to say itself
            logger.warning("%s: this version's batch processors cannot be replaced, they are stock", CONFIG_FILE)
        yield
        return
    ours = {"BatchSpanProcessor": _batch_processor, "TraceIdRatioBased": _ratio_sampler}
    stock = {name: getattr(factory, name) for name in ours if hasattr(factory, name)}
    for name in stock:
        setattr(factory, name, ours[name])
    try:
        yield
    finally:
        for name, part in stock.items():
            setattr(factory, name, part)


def _file_factory() -> Any:
    """The module that makes span processors of a configuration file; private to the SDK, so None if it moved."""
    for name in _FILE_FACTORIES:
        try:
            module = import_module(name)
        except ImportError:
            continue
        if hasattr(module, "BatchSpanProcessor"):
            return module
    return None


def warn(what: str, error: Exception) -> None:
    """One line for what is done instead, and why; at level debug where it failed, without the errors' texts.

    The error goes on if it is the application's: a time limit holds while tracing is set up, too.
    """
    if is_applications(error):
        raise error
    logger.warning("%s: %s: %s", what, type(error).__name__, _words(error))
    logger.debug("where it failed:\n%s", "".join(traceback.format_tb(error.__traceback__)))


def _words(error: Exception) -> str:
    """The first line of what an error says; of a fault in a configuration file its place, as its text may be a key."""
    cause: Any = error.__cause__ or error
    if (mark := getattr(cause, "problem_mark", None)) is not None:  # PyYAML's
        return f"{cause.problem}, line {mark.line + 1}"
    if hasattr(cause, "absolute_path"):  # jsonschema's
        return f"against the schema ({cause.validator}) at {' -> '.join(map(str, cause.absolute_path))}"
    return str(error).partition("\n")[0]
