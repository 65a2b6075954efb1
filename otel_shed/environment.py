"""Reads environment variables as OpenTelemetry's specification asks: empty is unset, bad is a warning and the default.

Owns the memory of what was already warned about, which all threads of the process share. Nothing here raises, whatever
the text: a variable may make tracing worse, never turn it off. Imports nothing of the SDK, because the distro reads
variables before the SDK may be imported.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, overload

logger = logging.getLogger("otel_shed")

T = TypeVar("T")

# ASCII digits, no underscores: narrower than int() and float(), as the specification's numbers are.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Longer than any number in range; converting longer texts costs quadratic time, or raises.
_LONGEST_NUMBER = 64
_LONGEST_SHOWN = 60
_WARNINGS_REMEMBERED = 256

_warned: OrderedDict[tuple[str, int], None] = OrderedDict()
_warned_lock = threading.RLock()


def forget_warnings() -> None:
    """Let every bad variable be warned about once more: for tests, which read the same bad value often."""
    with _warned_lock:
        _warned.clear()


def range_text(low: float, high: float, *, integer: bool) -> str:
    """The words for a range in warnings, errors and documents: ``an integer from 1 to 512``."""
    noun = "an integer" if integer else "a number"
    if math.isinf(high):
        return f"{noun} of at least {_plain(low)}"
    return f"{noun} from {_plain(low)} to {_plain(high)}"


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(number)


def shown(value: object) -> str:
    """A value as log lines and errors show it: ASCII, quoted where it is text, and never long."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


class Environment:
    """Typed reading of one mapping of variables.

    Every method gives ``default`` for a variable that is unset, empty or only white space, and for one that cannot be
    used; the latter logs one warning on the logger ``otel_shed``, once a process for each variable and value.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str) -> str | None:
        """The variable without the white space around it; None if nothing is left of it."""
        return (self._environ.get(name) or "").strip() or None

    @overload
    def number(self, name: str, default: T, *, low: float, high: float, integer: Literal[True]) -> int | T: ...

    @overload
    def number(self, name: str, default: T, *, low: float, high: float, integer: bool = False) -> float | T: ...

    def number(self, name: str, default: T, *, low: float, high: float, integer: bool = False) -> float | T:
        """A finite decimal number from ``low`` to ``high``, both allowed; with ``integer`` a whole one, as an int."""
        text = self.text(name)
        if text is None:
            return default
        value = _parse_number(text, integer)
        if value is not None and low <= value <= high:
            return value
        self.warn(name, text, range_text(math.ceil(low) if integer else low, high, integer=integer), default)
        return default

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of ``choices``, in whatever case it is written; given back as ``choices`` spells it."""
        text = self.text(name)
        if text is None:
            return default
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        self.warn(name, text, "one of " + ", ".join(choices), default)
        return default

    def boolean(self, name: str, default: bool) -> bool:
        """``true`` or ``false`` in any case; anything else (``yes``, ``1``) is not understood."""
        text = self.text(name) or str(default)
        if text.lower() in {"true", "false"}:
            return text.lower() == "true"
        self.warn(name, text, "true or false", str(default).lower())
        return default

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A comma-separated list; white space around a name and empty entries do not count."""
        text = self.text(name)
        if text is None:
            return default
        found = tuple(entry for entry in (part.strip() for part in text.split(",")) if entry)
        if found:
            return found
        self.warn(name, text, "a comma-separated list of names", ",".join(default))
        return default

    def warn(self, name: str, value: str, allowed: str, used: object, *, secret: bool = False) -> None:
        """Log, once a process for this name and value, that the variable is not ``allowed`` and what is used instead.

        ``secret`` keeps the value itself out of the log (headers carry credentials).
        """
        key = (name, hash(value))
        with _warned_lock:
            if key in _warned:
                return
            _warned[key] = None
            if len(_warned) > _WARNINGS_REMEMBERED:
                _warned.popitem(last=False)
        logger.warning(
            "%s=%s is not %s; using %s",
            name,
            "<hidden>" if secret else shown(value),
            allowed,
            "none" if used is None else used,
        )


def _parse_number(text: str, integer: bool) -> float | None:
    if len(text) > _LONGEST_NUMBER or not (_INTEGER if integer else _DECIMAL).fullmatch(text):
        return None
    # int() keeps what float() would round; a decimal may still overflow to infinity, which no range includes.
    value = int(text) if integer else float(text)
    return value if math.isfinite(value) else None
