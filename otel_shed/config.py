"""Every setting: its name, variable, default, range and meaning, each written once, and the two ways to give one.

Owns nothing that changes. Code that gives a bad value hears of it at once (ValueError); an environment that does is
warned about and the program keeps its traces: from_env() never raises for what stands in a variable.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from otel_shed.environment import Environment
from otel_shed.setting import Default, Kind, Setting, setting

BYTES_MAX = 2**40
SPAN_KINDS = ("internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, kw_only=True)
class ShedConfig:
    """The settings of one LoadShedder. Times are milliseconds, sizes are bytes; each has its range in ``SETTINGS``.

    Raises ValueError, naming the setting, the value and the range, for a value of another type or out of range, and for
    a batch larger than the queue, a request larger than what may be held, or a leave_pressure not below enter_pressure.
    Where only the larger of such a pair is given (``ShedConfig(max_queue_size=100)``), the other's default gives way:
    batches of 100. Lists are stored as tuples; choices and kinds, which may be in any case, in lower case.
    """

    enabled: bool = setting(
        True, "OTEL_SHED_ENABLED", "Whether the library acts at all; false is exactly the stock SDK.", kind=Kind.BOOLEAN
    )
    mode: str = setting(
        "enforce",
        "OTEL_SHED_MODE",
        "`observe` computes and reports what `enforce` would do, and sheds nothing.",
        kind=Kind.CHOICE,
        choices=("enforce", "observe"),
    )
    shutdown_grace_millis: float = setting(
        3000, "OTEL_SHED_SHUTDOWN_GRACE", "Shutdown gives up after this long without progress.", kind=Kind.MILLIS
    )
    max_queue_size: int | None = setting(
        None,
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "Spans that may wait; where unset, as many as the bytes allow, and 2,048 for an exporter that is not ours.",
        low=1,
        optional=True,
    )
    max_export_batch_size: int = setting(
        512,
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "Spans in one export call at most; so many waiting start one.",
        low=1,
        at_most="max_queue_size",
    )
    schedule_delay_millis: float = setting(
        5000, "OTEL_BSP_SCHEDULE_DELAY", "How long a span waits for a batch to fill.", kind=Kind.MILLIS, low=0.001
    )
    export_timeout_millis: float = setting(
        30000,
        "OTEL_BSP_EXPORT_TIMEOUT",
        "How long one export call may take, its retries included; 0 is no limit.",
        kind=Kind.MILLIS,
    )
    max_held_spans: int = setting(
        16384,
        "OTEL_SHED_MAX_HELD_SPANS",
        "Spans held in all while traces wait for their decision: undecided, waiting and in flight.",
        low=1,
    )
    max_held_bytes: int = setting(
        33554432,
        "OTEL_SHED_MAX_HELD_BYTES",
        "Bytes of encoded spans held in all: queued, waiting and in flight.",
        low=1024,
        high=BYTES_MAX,
    )
    max_request_bytes: int = setting(
        4000000,
        "OTEL_SHED_MAX_REQUEST_BYTES",
        "Bytes of one request before compression; a batch is split before it is sent (gRPC servers often take 4 MiB).",
        low=1024,
        high=64 * 2**20,  # what OTLP's own limit for a client is; the exporter refuses more
        at_most="max_held_bytes",
    )
    concurrent_requests: int = setting(
        1, "OTEL_SHED_CONCURRENT_REQUESTS", "Requests made at a time, each on its own connection.", low=1, high=64
    )
    flush_on_sigterm: bool = setting(
        False,
        "OTEL_SHED_FLUSH_ON_SIGTERM",
        "Whether SIGTERM flushes before the process ends; the distro turns it on.",
        kind=Kind.BOOLEAN,
    )
    enter_pressure: float = setting(
        0.75,
        "OTEL_SHED_ENTER_PRESSURE",
        "The pressure, up to 1, at which shedding begins.",
        kind=Kind.NUMBER,
        low=0.02,
        high=1,
    )
    leave_pressure: float = setting(
        0.5,
        "OTEL_SHED_LEAVE_PRESSURE",
        "The pressure below which shedding may end; lower than the one at which it begins.",
        kind=Kind.NUMBER,
        low=0.01,
        high=0.99,
        at_most="enter_pressure",
        strictly=True,
    )
    enter_drops_per_second: float = setting(
        5.0,
        "OTEL_SHED_ENTER_DROPS_PER_SECOND",
        "Spans a second lost to a full queue at which shedding begins.",
        kind=Kind.NUMBER,
        low=0.1,
        high=1e9,
    )
    calm_millis: float = setting(
        3000,
        "OTEL_SHED_CALM",
        "How long the pressure must stay low before less is shed.",
        kind=Kind.MILLIS,
        high=3600000,
    )
    min_probability: float = setting(
        0.01,
        "OTEL_SHED_MIN_PROBABILITY",
        "The least share of unremarkable traces that is kept while traces are shed for want of budget.",
        kind=Kind.NUMBER,
        low=0.000001,
        high=1,
    )
    keep_share: float = setting(
        0.5,
        "OTEL_SHED_KEEP_SHARE",
        "The share of the budget that goes first to failed, HIGH and CRITICAL traces.",
        kind=Kind.NUMBER,
        high=1,
    )
    slow_trace_millis: float | None = setting(
        None,
        "OTEL_SHED_SLOW_TRACE",
        "Local traces that take at least this long are kept as failed ones are.",
        kind=Kind.MILLIS,
        optional=True,
    )
    trace_timeout_millis: float = setting(
        30000,
        "OTEL_SHED_TRACE_TIMEOUT",
        "A trace that is held is decided at the latest this long after its first span ended.",
        kind=Kind.MILLIS,
        low=1,
        high=3600000,
    )
    priority_attributes: Sequence[str] = setting(
        ("otlp.priority", "observability.priority"),
        "OTEL_SHED_PRIORITY_ATTRIBUTES",
        "Span attributes whose value is a priority: low, normal, high or critical.",
        kind=Kind.NAMES,
    )
    low_priority_names: Sequence[str] = setting(
        (), "OTEL_SHED_LOW_PRIORITY_NAMES", "Patterns (`*`, `?`) of the names of spans that are LOW.", kind=Kind.NAMES
    )
    high_priority_names: Sequence[str] = setting(
        (), "OTEL_SHED_HIGH_PRIORITY_NAMES", "Patterns (`*`, `?`) of the names of spans that are HIGH.", kind=Kind.NAMES
    )
    critical_priority_names: Sequence[str] = setting(
        (),
        "OTEL_SHED_CRITICAL_PRIORITY_NAMES",
        "Patterns (`*`, `?`) of the names of spans that are CRITICAL.",
        kind=Kind.NAMES,
    )
    low_priority_kinds: Sequence[str] = setting(
        (),
        "OTEL_SHED_LOW_PRIORITY_KINDS",
        "Kinds of spans that are LOW: internal, server, client, producer, consumer.",
        kind=Kind.NAMES,
        choices=SPAN_KINDS,
    )
    high_priority_kinds: Sequence[str] = setting(
        (), "OTEL_SHED_HIGH_PRIORITY_KINDS", "Kinds of spans that are HIGH.", kind=Kind.NAMES, choices=SPAN_KINDS
    )
    critical_priority_kinds: Sequence[str] = setting(
        (),
        "OTEL_SHED_CRITICAL_PRIORITY_KINDS",
        "Kinds of spans that are CRITICAL.",
        kind=Kind.NAMES,
        choices=SPAN_KINDS,
    )
    attribute_length: int | None = setting(
        None, "OTEL_SHED_ATTRIBUTE_LENGTH", "Characters that attribute values are cut to, always.", optional=True
    )
    degraded_attribute_length: int | None = setting(
        255,
        "OTEL_SHED_DEGRADED_ATTRIBUTE_LENGTH",
        "Characters that attribute values are cut to while spans are shed.",
        optional=True,
    )
    memory_limit_bytes: int | None = setting(
        None,
        "OTEL_SHED_MEMORY_LIMIT",
        "Bytes that the process may use; where unset, the cgroup's limit if there is one.",
        low=2**20,
        high=2**50,
        optional=True,
    )
    report: bool = setting(
        True,
        "OTEL_SHED_REPORT",
        "Whether a span `otel_shed.report` tells what was shed, at most once a minute, where anything was.",
        kind=Kind.BOOLEAN,
    )
    cpu_share: float | None = setting(
        None,
        "OTEL_SHED_CPU_SHARE",
        "Tracing's share of the process's CPU time above which spans are shed, such as 0.02.",
        kind=Kind.NUMBER,
        low=0.001,
        high=1,
        optional=True,
    )

    def __post_init__(self) -> None:
        for row in SETTINGS:
            value = getattr(self, row.name)
            checked = row.check(value)
            if row.at_most is not None:
                limit = SETTING[row.at_most].check(getattr(self, row.at_most))
                if limit is not None and not row.holds(checked, limit):
                    if not isinstance(value, Default):
                        must, is_ = ("less than", ">=") if row.strictly else ("less than or equal to", ">")
                        raise ValueError(f"{row.name} must be {must} {row.at_most}: {checked} {is_} {limit}")
                    checked = row.lowered(limit)
            object.__setattr__(self, row.name, checked)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> ShedConfig:
        """The settings as the environment has them, but for ``overrides``, which are code and count before it.

        What stands in a variable never raises: a value that cannot be used logs one warning and is as unset, and the
        smaller of a pair that cannot hold is lowered, with one warning if a variable is a party to it.
        Overrides raise as the constructor does: ValueError for a bad value or pair, TypeError for an unknown name.
        """
        environment = Environment(environ)
        values = dict(overrides)
        for row in SETTINGS:
            if row.name not in values:
                values[row.name] = row.read(environment)
        for row in SETTINGS:
            if row.at_most is not None:
                _lower(row, SETTING[row.at_most], values, overrides, environment)
        return cls(**values)

    @property
    def shutdown_grace(self) -> float:
        """shutdown_grace_millis in seconds."""
        return self.shutdown_grace_millis / 1000

    @property
    def schedule_delay(self) -> float:
        """schedule_delay_millis in seconds."""
        return self.schedule_delay_millis / 1000

    @property
    def calm(self) -> float:
        """calm_millis in seconds."""
        return self.calm_millis / 1000

    @property
    def export_timeout(self) -> float:
        """export_timeout_millis in seconds; infinity where that is 0, which OpenTelemetry has for no limit."""
        return self.export_timeout_millis / 1000 or math.inf


# In the order of the class: what the documents list and what the conformance cases run through.
SETTINGS: tuple[Setting, ...] = tuple(Setting(name=each.name, **each.metadata) for each in fields(ShedConfig))
SETTING: Mapping[str, Setting] = {row.name: row for row in SETTINGS}


def _lower(
    row: Setting, bound: Setting, values: dict[str, Any], overrides: Mapping[str, Any], environment: Environment
) -> None:
    """Make ``row`` hold its bound, unless no variable is a party to it: that is for the constructor to refuse."""
    asked, limit = row.check(values[row.name]), bound.check(values[bound.name])
    if limit is None or row.holds(asked, limit):
        return
    bound_is_set = bound.name not in overrides and limit != bound.default
    if row.name in overrides and not bound_is_set:
        return
    values[row.name] = row.lowered(limit)
    used, value, most = row.in_words(values[row.name]), row.in_words(asked), bound.in_words(limit)
    below, above = ("below", "above") if row.strictly else ("at most", "at least")
    if row.name not in overrides and asked != row.default:
        environment.warn(row.variable, value, f"{below} {bound.name} ({most})", used)
    elif bound_is_set:
        environment.warn(bound.variable, most, f"{above} {row.name} ({value})", f"{row.name}={used}")
