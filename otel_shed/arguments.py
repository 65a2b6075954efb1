"""Parts that code gives to a constructor: what each must be able to do, and an error that names the argument.

Called by constructors, on the thread that sets tracing up. The rules: a part of the wrong kind is refused where it is
given, not found out about when the first span ends; what has the methods is taken, of whatever type it is; an error
shows the type of what was given and not the value, which may hold a secret.
"""

from __future__ import annotations

from typing import Any

from otel_shed.environment import range_text, shown


def check_part(name: str, value: Any, what: str, *methods: str) -> None:
    """``value`` is ``what``, which has these methods; TypeError, with the argument's name, if it has not."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{name} must be {what}, an object with {' and '.join(methods)}, not {_given(value)}")


def check_exporter(name: str, value: Any) -> None:
    """``value`` is a SpanExporter; TypeError if it is not, None included."""
    check_part(name, value, "a SpanExporter", "export", "shutdown")


def check_meter_provider(value: Any) -> None:
    """``value`` is a MeterProvider or None; TypeError otherwise."""
    if value is not None:
        check_part("meter_provider", value, "None or a MeterProvider", "get_meter")


def check_callable(name: str, value: Any, what: str, *, optional: bool = False) -> None:
    """``value`` can be called, or is None where that may be; TypeError otherwise, and for a class, which makes one."""
    if (isinstance(value, type) or not callable(value)) and not (optional and value is None):
        raise TypeError(f"{name} must be {'None or ' * optional}{what}, not {_given(value)}")


def check_clock(value: Any) -> None:
    """``value`` gives seconds when it is called; TypeError otherwise."""
    what = "a function that returns seconds"
    check_callable("clock", value, what)
    try:
        seconds = value()
    except TypeError as error:
        raise TypeError(f"clock must be {what} and takes no argument: {error}") from None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"clock must be {what}, not {_given(seconds)}")


def check_instance(name: str, value: Any, kind: type | tuple[type, ...], what: str, *, optional: bool = False) -> None:
    """``value`` is of this type, or None where that may be; TypeError otherwise."""
    if not isinstance(value, kind) and not (optional and value is None):
        raise TypeError(f"{name} must be {'None or ' * optional}{what}, not {_given(value)}")


def check_integer(name: str, value: Any, low: int, high: int) -> None:
    """``value`` is an integer in this range; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} must be {range_text(low, high, integer=True)}, not {shown(value)}")


def _given(value: Any) -> str:
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"of the type {type(value).__name__}"
