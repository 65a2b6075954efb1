"""otel-shed: keeps tracing from hurting the program it observes, and keeps the traces that matter.

The public names, and ``__version__``. They are imported when first asked for, because the distro has to look at the
environment before anything imports the SDK, which reads it once, and raises for what it cannot parse.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_shed.config import ShedConfig
    from otel_shed.control.brownout import BrownoutSnapshot
    from otel_shed.control.phase import Action, Phase
    from otel_shed.control.pressure import PressureReading, PressureSignal
    from otel_shed.exporter import SheddingSpanExporter
    from otel_shed.otlp.exporter import OTLPSpanExporter
    from otel_shed.otlp.proof import compiled_parts
    from otel_shed.outcome import DropReason
    from otel_shed.pipeline.verdict import Policy, TraceView, Verdict
    from otel_shed.processor import SheddingSpanProcessor
    from otel_shed.record import Priority
    from otel_shed.sampler import AdaptiveSampler
    from otel_shed.shedder import LoadShedder
    from otel_shed.stats import Stats

__all__ = [
    "Action",
    "AdaptiveSampler",
    "BrownoutSnapshot",
    "DropReason",
    "LoadShedder",
    "OTLPSpanExporter",
    "Phase",
    "Policy",
    "PressureReading",
    "PressureSignal",
    "Priority",
    "ShedConfig",
    "SheddingSpanExporter",
    "SheddingSpanProcessor",
    "Stats",
    "TraceView",
    "Verdict",
    "compiled_parts",
]

_HOMES = {
    "Action": "otel_shed.control.phase",
    "AdaptiveSampler": "otel_shed.sampler",
    "BrownoutSnapshot": "otel_shed.control.brownout",
    "DropReason": "otel_shed.outcome",
    "LoadShedder": "otel_shed.shedder",
    "OTLPSpanExporter": "otel_shed.otlp.exporter",
    "Phase": "otel_shed.control.phase",
    "Policy": "otel_shed.pipeline.verdict",
    "PressureReading": "otel_shed.control.pressure",
    "PressureSignal": "otel_shed.control.pressure",
    "Priority": "otel_shed.record",
    "ShedConfig": "otel_shed.config",
    "SheddingSpanExporter": "otel_shed.exporter",
    "SheddingSpanProcessor": "otel_shed.processor",
    "Stats": "otel_shed.stats",
    "TraceView": "otel_shed.pipeline.verdict",
    "Verdict": "otel_shed.pipeline.verdict",
    "compiled_parts": "otel_shed.otlp.proof",
}


import_module("otel_shed.log_limit")  # first, so that every line of the log begins with the library's name


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def _version() -> str:
    try:
        return version("otel-shed")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
