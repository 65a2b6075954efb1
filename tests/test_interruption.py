"""Which exceptions are the application's: those that its signal handlers have raised, wherever that was."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any
from unittest import mock

import pytest

from otel_shed.interruption import is_applications


class TimeIsUpError(Exception):
    """What a program's time limit raises."""


def handle(signum: int, frame: FrameType | None) -> None:
    raise TimeIsUpError


def handle_any(*_: object) -> None:
    raise TimeIsUpError


def handle_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)
    raise TimeIsUpError


def handle_with_a_word(word: str, signum: int, frame: FrameType | None) -> None:
    raise TimeIsUpError(word)


class Limit:
    """Handlers that are objects."""

    def method(self, signum: int, frame: FrameType | None) -> None:
        raise TimeIsUpError

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        raise TimeIsUpError


def deeper(signum: int, frame: FrameType | None) -> None:
    handle_any()


HANDLERS: dict[str, Callable[[int, FrameType | None], Any]] = {
    "a function": handle,
    "of any arguments": handle_any,
    "that is no longer installed": handle_once,
    "a partial": functools.partial(handle_with_a_word, "time"),
    "a method": Limit().method,
    "an object": Limit(),
    "that calls": deeper,
    "a mock": mock.Mock(side_effect=TimeIsUpError),
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_knows_what_a_handler_has_raised(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Whatever the handler is, by the traceback."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeIsUpError) as raised:
            signal.raise_signal(signal.SIGUSR1)
        assert is_applications(raised.value)
    finally:
        signal.signal(signal.SIGUSR1, before)


def breaks(self: object, *arguments: object) -> None:
    raise TimeIsUpError


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2)])
def test_knows_what_other_code_has_raised(arguments: tuple[int, ...]) -> None:
    """What a span or a callable raises is not the application's to see, whatever it takes."""
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(TimeIsUpError) as raised:
            breaks(None, *arguments)
        assert not is_applications(raised.value)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_default_action_is_no_handler() -> None:
    """What an enum raises is not taken for it, though signals' default actions are members of one."""
    with pytest.raises(ValueError) as raised:
        signal.Handlers("x")
    assert not is_applications(raised.value)


def test_knows_what_was_not_raised_at_all() -> None:
    """An exception without a traceback comes of no handler."""
    assert not is_applications(TimeIsUpError())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_nobody_passes_over_is_the_applications(error: type[BaseException]) -> None:
    """Ctrl-C, exit() and the like, with or without a handler."""
    assert is_applications(error())
