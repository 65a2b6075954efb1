"""Every setting: its name, variable, default, range and meaning, each written once, and the two ways to give one.

Owns nothing that changes. Code that gives a bad value hears of it at once (ValueError); an environment that does is
warned about and the program keeps its traces: from_env() never raises for what stands in a variable.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from otel_shed.environment import Environment, range_text, shown

INT_MAX = 2**31 - 1
BYTES_MAX = 2**40


class Kind(Enum):
    """What a setting holds, and with it how its text is read."""

    INTEGER = "integer"
    MILLIS = "milliseconds"  # whole ones in the environment, as the specification has it; fractions too in code
    BOOLEAN = "boolean"


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One row of the table of settings.

    ``at_most`` names the setting that this one must not exceed. A default that does gives way without a word.
    """

    name: str
    variable: str
    kind: Kind
    default: Any
    low: float
    high: float
    at_most: str | None
    meaning: str

    @property
    def is_own(self) -> bool:
        """Whether the variable is this library's, not one that the OpenTelemetry specification defines."""
        return self.variable.startswith("OTEL_SHED_")

    @property
    def allowed(self) -> str:
        """The range in words: ``an integer from 1 to 2147483647``."""
        if self.kind is Kind.BOOLEAN:
            return "True or False"
        return range_text(self.low, self.high, integer=self.kind is Kind.INTEGER)

    def check(self, value: object) -> Any:
        """Give the value back, as a plain bool, int or float; ValueError if it is of another type or out of range."""
        if self.kind is Kind.BOOLEAN:
            if isinstance(value, bool):
                return value
        elif (
            isinstance(value, int if self.kind is Kind.INTEGER else (int, float))
            and not isinstance(value, bool)
            and self.low <= value <= self.high  # NaN is in no range
        ):
            return int(value) if isinstance(value, int) else float(value)
        raise ValueError(f"{self.name} must be {self.allowed}, not {shown(value)}")

    def read(self, environment: Environment) -> Any:
        """The variable's value, or the default; never raises."""
        if self.kind is Kind.BOOLEAN:
            return environment.boolean(self.variable, self.default)
        return environment.number(self.variable, self.default, low=self.low, high=self.high, integer=True)


class _Default(int):
    """A default that can be told from the same number given in code, and reads like it in signatures."""


def _setting(
    default: Any,
    variable: str,
    meaning: str,
    *,
    kind: Kind = Kind.INTEGER,
    low: float = 0,
    high: float = INT_MAX,
    at_most: str | None = None,
) -> Any:
    row = {"default": default, "variable": variable, "meaning": meaning, "kind": kind, "low": low, "high": high}
    return field(default=_Default(default) if at_most else default, metadata=row | {"at_most": at_most})


@dataclass(frozen=True, kw_only=True)
class ShedConfig:
    """The settings of one LoadShedder. Times are milliseconds, sizes are bytes; each has its range in ``SETTINGS``.

    Raises ValueError, naming the setting, the value and the range, for a value of another type or out of range, and for
    a batch larger than the queue or a request larger than what may be held. Where only the larger of such a pair is
    given (``ShedConfig(max_queue_size=100)``), the other's default gives way: batches of 100.
    """

    enabled: bool = _setting(
        True,
        "OTEL_SHED_ENABLED",
        "Whether the library acts at all; false is exactly the stock SDK.",
        kind=Kind.BOOLEAN,
    )
    shutdown_grace_millis: float = _setting(
        3000,
        "OTEL_SHED_SHUTDOWN_GRACE",
        "Shutdown gives up after this long without progress.",
        kind=Kind.MILLIS,
    )
    max_queue_size: int = _setting(
        2048,
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "Spans that the intake holds; when it is full, the oldest is dropped.",
        low=1,
    )
    max_export_batch_size: int = _setting(
        512,
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "Spans in one export call at most; so many waiting start one.",
        low=1,
        at_most="max_queue_size",
    )
    schedule_delay_millis: float = _setting(
        5000,
        "OTEL_BSP_SCHEDULE_DELAY",
        "How long a span waits for a batch to fill.",
        kind=Kind.MILLIS,
        low=0.001,
    )
    export_timeout_millis: float = _setting(
        30000,
        "OTEL_BSP_EXPORT_TIMEOUT",
        "How long one export call may take, its retries included; 0 is no limit.",
        kind=Kind.MILLIS,
    )
    max_held_bytes: int = _setting(
        33554432,
        "OTEL_SHED_MAX_HELD_BYTES",
        "Bytes of encoded spans held in all: queued, waiting and in flight.",
        low=1024,
        high=BYTES_MAX,
    )
    max_request_bytes: int = _setting(
        4000000,
        "OTEL_SHED_MAX_REQUEST_BYTES",
        "Bytes of one request before compression; a batch is split before it is sent (gRPC servers often take 4 MiB).",
        low=1024,
        high=BYTES_MAX,
        at_most="max_held_bytes",
    )
    flush_on_sigterm: bool = _setting(
        False,
        "OTEL_SHED_FLUSH_ON_SIGTERM",
        "Whether SIGTERM flushes before the process ends; the distro turns it on.",
        kind=Kind.BOOLEAN,
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            checked = setting.check(value)
            if setting.at_most is not None:
                limit = getattr(self, setting.at_most)
                if checked > SETTING[setting.at_most].check(limit):
                    if not isinstance(value, _Default):
                        raise ValueError(
                            f"{setting.name} must be less than or equal to {setting.at_most}: {checked} > {limit}"
                        )
                    checked = limit
            object.__setattr__(self, setting.name, checked)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> ShedConfig:
        """The settings as the environment has them, but for ``overrides``, which are code and count before it.

        What stands in a variable never raises: a value that cannot be used logs one warning and is as unset, and a
        batch or request larger than its bound is lowered to it, with one warning if a variable is a party to it.
        Overrides raise as the constructor does: ValueError for a bad value or pair, TypeError for an unknown name.
        """
        environment = Environment(environ)
        values = dict(overrides)
        for setting in SETTINGS:
            if setting.name not in values:
                values[setting.name] = setting.read(environment)
        for setting in SETTINGS:
            if setting.at_most is not None:
                _lower(setting, SETTING[setting.at_most], values, overrides, environment)
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
    def export_timeout(self) -> float:
        """export_timeout_millis in seconds; infinity where that is 0, which OpenTelemetry has for no limit."""
        return self.export_timeout_millis / 1000 or math.inf


# In the order of the class: what the documents list and what the conformance cases run through.
SETTINGS: tuple[Setting, ...] = tuple(Setting(name=each.name, **each.metadata) for each in fields(ShedConfig))
SETTING: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


def _lower(
    setting: Setting, bound: Setting, values: dict[str, Any], overrides: Mapping[str, Any], environment: Environment
) -> None:
    """Make ``setting`` hold its bound, unless no variable is a party to it: that is for the constructor to refuse."""
    asked, limit = setting.check(values[setting.name]), bound.check(values[bound.name])
    if asked <= limit:
        return
    bound_is_set = bound.name not in overrides and limit != bound.default
    if setting.name in overrides and not bound_is_set:
        return
    values[setting.name] = limit
    if setting.name not in overrides and asked != setting.default:
        environment.warn(setting.variable, str(asked), f"at most {bound.name} ({limit})", limit)
    elif bound_is_set:
        environment.warn(bound.variable, str(limit), f"at least {setting.name} ({asked})", f"{setting.name}={limit}")
