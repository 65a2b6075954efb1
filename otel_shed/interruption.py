"""Exceptions that are the application's, though they come up in the middle of our code: those of its signal handlers.

A time limit, for example, is a handler that raises: between any two steps of the main thread, ours too. Asked on error
paths, by whoever is about to pass over an exception. The rule: what a handler has raised goes on, as it does through
any other code; what a span, an exporter or a callable has raised does not.
"""

from __future__ import annotations

import inspect
import signal
from functools import partial
from types import CodeType, FrameType
from typing import Any, Final

# What is raised where there is no stack or no memory left; SystemError where there is none even to say so.
EXHAUSTED: Final = (RecursionError, MemoryError, SystemError)

_PACKAGE: Final = f"{__package__}."
_SIGNALS: Final = tuple(map(int, signal.valid_signals()))


def is_applications(error: BaseException) -> bool:
    """Whether a signal handler has raised it, or it is none that may be passed over, such as KeyboardInterrupt.

    A handler shows in the traceback: by its code, if it is still installed, or by having been called with the frame
    that it has interrupted.
    """
    if not isinstance(error, Exception):
        return True
    codes: set[CodeType] | None = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if _takes_two(frame.f_code) and not str(frame.f_globals.get("__name__")).startswith(_PACKAGE):
            if codes is None:
                codes = {code for handler in map(signal.getsignal, _SIGNALS) if (code := _code(handler)) is not None}
            if frame.f_code in codes or _was_given_what_it_interrupted(frame):
                return True
        trace = trace.tb_next
    return False


def _takes_two(code: CodeType) -> bool:
    """Whether it may be a handler's; most of what breaks when a span is read is not."""
    return code.co_argcount >= 2 or bool(code.co_flags & inspect.CO_VARARGS)


def _code(handler: Any) -> CodeType | None:
    """What runs where the handler is called; None for none, or one that is not of Python."""
    while isinstance(handler, partial):
        handler = handler.func
    if not callable(handler):  # such as SIG_DFL
        return None
    # Not by getattr(), which has the metaclass's for a class that has none.
    called = [vars(base)["__call__"] for base in type(handler).__mro__ if "__call__" in vars(base)]
    for candidate in (handler, *called[:1]):
        code = getattr(getattr(candidate, "__func__", candidate), "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


def _was_given_what_it_interrupted(frame: FrameType) -> bool:
    code, interrupted = frame.f_code, frame.f_back
    if interrupted is None:
        return False
    given = frame.f_locals
    return any(given.get(name) is interrupted for name in code.co_varnames[1 : code.co_argcount])
