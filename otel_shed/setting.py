"""One row of the table of settings: what a setting may hold, how it is checked in code and read from its variable.

Owns nothing that changes. The rule: ``check`` is for code and raises ValueError, ``read`` is for the environment and
never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from otel_shed.environment import Environment, range_text, shown

INT_MAX: Final = 2**31 - 1


class Kind(Enum):
    """What a setting holds, and with it how its text is read."""

    INTEGER = "integer"
    NUMBER = "number"
    MILLIS = "milliseconds"  # whole ones in the environment, as the specification has it; fractions too in code
    BOOLEAN = "boolean"
    CHOICE = "choice"  # one of ``choices``, in any case
    NAMES = "names"  # a list, comma-separated in the environment; of ``choices``, in any case, if there are such


_NUMBERS: Final = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.MILLIS})
# Stands for an empty default while a list is read, so that the warning has a word for it. Told by its identity.
_NONE: Final = ("none",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One row of the table of settings.

    ``at_most`` names the setting that this one must not exceed, or with ``strictly`` must stay below. A default that
    does not hold gives way without a word. ``optional``: None is a value too, in code.
    """

    name: str
    variable: str
    kind: Kind
    default: Any
    low: float
    high: float
    choices: tuple[str, ...]
    optional: bool
    at_most: str | None
    strictly: bool
    meaning: str

    @property
    def is_own(self) -> bool:
        """Whether the variable is this library's, not one that the OpenTelemetry specification defines."""
        return self.variable.startswith("OTEL_SHED_")

    @property
    def is_number(self) -> bool:
        """Whether it has a range."""
        return self.kind in _NUMBERS

    @property
    def allowed(self) -> str:
        """What code may give, in words: ``an integer from 1 to 2147483647``."""
        if self.kind is Kind.BOOLEAN:
            return "True or False"
        if self.kind is Kind.CHOICE:
            return f"one of {', '.join(self.choices)}"
        if self.kind is Kind.NAMES:
            return f"a sequence of {self._entries}"
        return range_text(self.low, self.high, integer=self.kind is Kind.INTEGER) + ", or None" * self.optional

    @property
    def _entries(self) -> str:
        return f"names out of {', '.join(self.choices)}" if self.choices else "names"

    def in_words(self, value: Any) -> str:
        """A value as documents and reports show it, nearly as its variable would have it; printable ASCII."""
        if value is None:
            return "unset"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return f"{value:.12g}"
        text = ",".join(value) or "none" if isinstance(value, tuple) else str(value)
        return text if text.isascii() and text.isprintable() else ascii(text)

    def check(self, value: object) -> Any:
        """Give the value back, as a plain bool, int, float, str or tuple; ValueError if it is not what is allowed."""
        if value is None and self.optional:
            return None
        checked = self._number(value) if self.is_number else self._checked(value)
        if checked is None:
            raise ValueError(f"{self.name} must be {self.allowed}, not {shown(value)}")
        return checked

    def _number(self, value: object) -> float | None:
        types = (int,) if self.kind is Kind.INTEGER else (int, float)
        if not isinstance(value, types) or isinstance(value, bool) or not self.low <= value <= self.high:
            return None  # NaN is in no range
        return int(value) if isinstance(value, int) and self.kind is not Kind.NUMBER else float(value)

    def _checked(self, value: object) -> bool | str | tuple[str, ...] | None:
        if self.kind is Kind.BOOLEAN:
            return value if isinstance(value, bool) else None
        if self.kind is Kind.CHOICE:
            return self._choice(value)
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
            return None
        names = tuple(self._choice(each) if self.choices else each for each in value)
        return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else None

    def _choice(self, value: object) -> str | None:
        text = value.strip().lower() if isinstance(value, str) else None
        return text if text in self.choices else None

    def read(self, environment: Environment) -> Any:
        """The variable's value, or the default; never raises."""
        if self.kind is Kind.BOOLEAN:
            return environment.boolean(self.variable, self.default)
        if self.kind is Kind.CHOICE:
            return environment.choice(self.variable, self.default, self.choices)
        if self.kind is Kind.NAMES:
            return self._read_names(environment)
        integer = self.kind is not Kind.NUMBER
        return environment.number(self.variable, self.default, low=self.low, high=self.high, integer=integer)

    def _read_names(self, environment: Environment) -> tuple[str, ...]:
        names = environment.names(self.variable, self.default or _NONE)
        if names is _NONE:
            return ()
        checked = self._checked(names)
        if isinstance(checked, tuple):
            return checked
        text = environment.text(self.variable) or ""
        environment.warn(self.variable, text, f"a comma-separated list of {self._entries}", self.in_words(self.default))
        return tuple(self.default)

    # -- the setting that it is bound to -------------------------------------------------------------------------

    def holds(self, value: float, limit: float) -> bool:
        """Whether ``value`` goes with ``limit``, the value of the setting that ``at_most`` names."""
        return value < limit if self.strictly else value <= limit

    def lowered(self, limit: float) -> float:
        """What a value that does not hold becomes: the limit, or two thirds of what it must stay below."""
        return limit * 2 / 3 if self.strictly else limit


class Default:
    """A default that can be told from the same number given in code, and reads like it in signatures."""


class _DefaultInt(Default, int):
    pass


class _DefaultFloat(Default, float):
    pass


def setting(
    default: Any,
    variable: str,
    meaning: str,
    *,
    kind: Kind = Kind.INTEGER,
    low: float = 0,
    high: float = INT_MAX,
    choices: tuple[str, ...] = (),
    optional: bool = False,
    at_most: str | None = None,
    strictly: bool = False,
) -> Any:
    """A field of a dataclass that carries its row; ``Setting(name=field.name, **field.metadata)`` is the row."""
    row = {
        "default": default,
        "variable": variable,
        "meaning": meaning,
        "kind": kind,
        "low": low,
        "high": high,
        "choices": choices,
        "optional": optional,
        "at_most": at_most,
        "strictly": strictly,
    }
    if at_most is not None:
        default = _DefaultFloat(default) if isinstance(default, float) else _DefaultInt(default)
    return field(default=default, metadata=row)
