"""Wrong parts in code: each argument of each public constructor refuses what it cannot use, by its name, at once."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

import otel_shed
from otel_shed import (
    AdaptiveSampler,
    LoadShedder,
    OTLPSpanExporter,
    PressureReading,
    Priority,
    ShedConfig,
    SheddingSpanExporter,
    SheddingSpanProcessor,
    Verdict,
)
from otel_shed.config import SETTINGS
from otel_shed.control.ceiling import FixedCeiling, RateCeiling
from otel_shed.setting import Kind
from otel_shed.shedder import DefaultSpanExporter
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span

NO_EXPORTERS = [object(), "http://collector:4317", 5, b"x", [], RecordingExporter, lambda spans: None]
NO_CALLABLES = [5, "text", object(), [], RecordingExporter, Priority]
NO_METER_PROVIDERS = [object(), "otel", 5, True]
NO_NUMBERS = ["many", object(), [], True, 1.5]
NO_SHEDDERS = [object(), "default", 5, LoadShedder, ShedConfig(), True]
NO_SIGNALS = [None, 5, object(), "text", [object()], [5], ["memory"], [None]]
NO_SAMPLERS = [5, "always_on", object(), 0.5, ParentBased]
NO_FLAGS = ["false", 1, object()]
NO_TEXT = [5, object(), [], True]
NO_CLOCKS = [None, 5, "now", object(), lambda: "now", lambda: None, lambda now: 1.0]
NO_OPTIONS = [[("a", value)] for value in (None, 1.5, object(), [1])] + [[(5, 1)]]
NO_FILES = [5.5, object(), [], "/nowhere/at/all.pem"]

BATCH_SIZES = {name: [*NO_NUMBERS, 0, -1] for name in ("max_queue_size", "max_export_batch_size")}
DELAYS = {
    "schedule_delay_millis": ["soon", object(), True, 0, -1],
    "export_timeout_millis": ["soon", object(), True, -1],
}
EXPORTER = {
    "span_exporter": NO_EXPORTERS,
    "max_batches": [*NO_NUMBERS, 0, -1],
    "shedder": NO_SHEDDERS,
    "meter_provider": NO_METER_PROVIDERS,
}

# What each argument refuses.
REFUSED: dict[Callable[..., Any], dict[str, list[Any]]] = {
    SheddingSpanProcessor: {
        "span_exporter": [None, *NO_EXPORTERS],
        **BATCH_SIZES,
        **DELAYS,
        "shedder": NO_SHEDDERS,
        "meter_provider": NO_METER_PROVIDERS,
    },
    SheddingSpanExporter: EXPORTER,
    DefaultSpanExporter: {name: wrong for name, wrong in EXPORTER.items() if name != "shedder"},
    LoadShedder: {
        "config": [object(), "default", 5, {}, ShedConfig],
        "exporter": NO_EXPORTERS,
        "signals": NO_SIGNALS,
        "priority": [*NO_CALLABLES, Priority.HIGH],
        "policy": NO_CALLABLES,
        "meter_provider": NO_METER_PROVIDERS,
        "clock": NO_CLOCKS,
    },
    AdaptiveSampler: {
        "root": NO_SAMPLERS,
        "threshold": [None, *NO_CALLABLES],
        "ceiling": [0.5, "0.5", object(), FixedCeiling],
        "follow_remote_parent": [*NO_FLAGS, None],
    },
    OTLPSpanExporter: {
        "protocol": [*NO_TEXT, "carrier pigeon"],
        "endpoint": [*NO_TEXT, "http://"],
        "headers": [5, object(), True, "no equals sign", [5], ["ab", 5], {"a": 5}, {5: "a"}],
        "timeout": ["soon", object(), [], True, -1],
        "compression": [*NO_TEXT, "zip"],
        "insecure": NO_FLAGS,
        "certificate_file": NO_FILES,
        "client_key_file": NO_FILES,
        "client_certificate_file": NO_FILES,
        "credentials": [object(), "secret", 5, True],
        "channel_options": [5, object(), "text", ["a"], [5], [("a", 1, 2)], True, *NO_OPTIONS],
        "max_request_bytes": [*NO_NUMBERS, 0, 1023, 2**40],
        "meter_provider": NO_METER_PROVIDERS,
        "environ": [None, 5, object(), [], "PATH=/bin"],
        "clock": NO_CLOCKS,
    },
    FixedCeiling: {"probability": ["half", None, object(), 1.5, -0.1, float("nan")]},
    RateCeiling: {"roots_per_second": ["many", None, object(), 0, -1, float("inf")], "clock": NO_CLOCKS},
    Verdict: {
        "reason": ["bored", 5, object()],
        "threshold": ["half", object(), -1, 1 << 56],
        "min_priority": ["high", 5, None, object()],
        "rank": ["high", 5, None, object()],
    },
}
WRONG = [
    pytest.param(made, name, value, id=f"{made.__name__}-{name}-{number}")
    for made, arguments in REFUSED.items()
    for name, values in arguments.items()
    for number, value in enumerate(values)
]
# Values that this library makes and hands out, or whose readers check them; and what only describes a part.
NOT_MADE_BY_USERS = {"Action", "BrownoutSnapshot", "DropReason", "Phase", "Priority", "Stats", "TraceView"}
NOT_MADE_BY_USERS |= {"Policy", "PressureSignal", "PressureReading", "ShedConfig", "compiled_parts"}


@pytest.mark.parametrize(("made", "name", "value"), WRONG)
def test_a_wrong_part_is_refused_by_name(made: Callable[..., Any], name: str, value: Any) -> None:
    """TypeError or ValueError, in which the argument's name stands, and nothing is left running."""
    arguments: dict[str, Any] = {"span_exporter": RecordingExporter()} if made is SheddingSpanProcessor else {}
    if made is RateCeiling:
        arguments["roots_per_second"] = 5.0
    with pytest.raises((TypeError, ValueError), match=name):
        made(**{**arguments, name: value})


def test_a_wrong_size_counts_before_a_wrong_exporter() -> None:
    """It raises the ValueError of the stock processor, whose own tests pass None for an exporter meanwhile."""
    with pytest.raises(ValueError, match="max_queue_size"):
        SheddingSpanProcessor(None, max_queue_size=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*BATCH_SIZES, *DELAYS])
def test_sizes_beside_a_shedder_too(name: str) -> None:
    """The processor's settings are checked by the same rules where the others come from a shedder."""
    for value in {**BATCH_SIZES, **DELAYS}[name]:
        with pytest.raises((TypeError, ValueError), match=name):
            SheddingSpanProcessor(RecordingExporter(), shedder=LoadShedder(ShedConfig()), **{name: value})


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_settings(row: Any) -> None:
    """Each setting of ShedConfig."""
    for value in [object(), [5], 5, "a,b"] if row.kind is Kind.NAMES else [object(), [], {}, "nothing like it"]:
        with pytest.raises(ValueError, match=row.name):
            ShedConfig(**{row.name: value})


def test_no_argument_is_forgotten() -> None:
    """Each argument of each public constructor is in the table above."""
    for made, arguments in REFUSED.items():
        assert set(inspect.signature(made).parameters) == set(arguments)
    assert {made.__name__ for made in REFUSED} >= set(otel_shed.__all__) - NOT_MADE_BY_USERS
    assert {field.name for field in dataclasses.fields(ShedConfig)} == {row.name for row in SETTINGS}


@pytest.mark.parametrize("value", NO_EXPORTERS)
def test_faces_of_a_shedder(value: Any) -> None:
    """What a shedder is asked to make is checked as what is made directly."""
    shedder = LoadShedder(ShedConfig())
    for make in (shedder.span_processor, shedder.span_exporter):
        with pytest.raises(TypeError, match="exporter"):
            make(value)
    for wrong in NO_SAMPLERS:
        with pytest.raises(TypeError, match="root"):
            shedder.sampler(wrong)
    with pytest.raises(TypeError, match="ceiling"):
        shedder.sampler(ceiling=0.5)  # type: ignore[arg-type]


def test_what_was_given_is_not_shown() -> None:
    """It may be an endpoint with a key in it."""
    with pytest.raises(TypeError) as raised:
        SheddingSpanProcessor("https://collector/?api-key=secret")  # type: ignore[arg-type]
    assert "secret" not in str(raised.value)
    assert str(raised.value) == (
        "span_exporter must be a SpanExporter, an object with export and shutdown, not of the type str"
    )


class Duck:
    """An exporter by what it does; it flushes nothing."""

    def __init__(self) -> None:
        self.taken = 0

    def export(self, spans: Any) -> None:
        self.taken += len(spans)

    def shutdown(self) -> None:
        pass


def test_what_does_what_is_needed_is_taken() -> None:
    """An exporter that is no SpanExporter by type, and None wherever it stands for the default."""
    duck: Any = Duck()
    processor = SheddingSpanProcessor(duck)
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert duck.taken == 1
    processor.shutdown()
    assert isinstance(LoadShedder(exporter=None, signals=iter(())).sampler(ALWAYS_ON), AdaptiveSampler)
    assert OTLPSpanExporter("grpc", channel_options=[("a", 1), ("b", "text"), (b"c", b"bytes"), ["d", True]])
    assert isinstance(SheddingSpanExporter(None).span_exporter, SpanExporter)
    assert PressureReading(0.5, "memory").pressure == 0.5
