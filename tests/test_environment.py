"""Environment: what each kind of variable takes, and the one line that a bad one logs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_shed import environment
from otel_shed.environment import Environment, forget_warnings
from otel_shed.log_limit import PREFIX

Read = Callable[[Environment], Any]

READERS: dict[str, Read] = {
    "text": lambda env: env.text("X"),
    "integer": lambda env: env.number("X", 7, low=1, high=100, integer=True),
    "number": lambda env: env.number("X", 0.5, low=0, high=1),
    "choice": lambda env: env.choice("X", "grpc", ("grpc", "http/protobuf")),
    "boolean": lambda env: env.boolean("X", True),
    "names": lambda env: env.names("X", ("a", "b")),
}
DEFAULTS = {"text": None, "integer": 7, "number": 0.5, "choice": "grpc", "boolean": True, "names": ("a", "b")}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget_warnings()
    yield
    forget_warnings()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removeprefix(PREFIX) for record in caplog.records if record.name == "otel_shed"]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("environ", [{}, {"X": ""}, {"X": " \t\n"}], ids=["unset", "empty", "white"])
def test_nothing_is_unset(kind: str, environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """A variable that is unset, empty or white space gives the default, without a word."""
    assert READERS[kind](Environment(environ)) == DEFAULTS[kind]
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "  as it is ", "as it is"),
        ("integer", "1", 1),
        ("integer", " 100 ", 100),
        ("integer", "+007", 7),
        ("number", ".25", 0.25),
        ("number", "1.", 1.0),
        ("number", "5e-1", 0.5),
        ("number", "-0", 0.0),
        ("choice", "HTTP/Protobuf", "http/protobuf"),
        ("boolean", "FALSE", False),
        ("boolean", " True ", True),
        ("names", "x, y ,,z", ("x", "y", "z")),
    ],
)
def test_good_values(kind: str, text: str, value: object, caplog: pytest.LogCaptureFixture) -> None:
    """What can be understood is used, in any case and with white space around it."""
    found = READERS[kind](Environment({"X": text}))
    assert found == value
    assert type(found) is type(value)
    assert lines(caplog) == []


BAD_NUMBERS = [
    "abc",
    "-1",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1_0",
    "0x10",
    "٣",
    "²",
    "1" * 5000,
    "1e999",
    "1 2",
    "--1",
]


@pytest.mark.parametrize(
    ("kind", "text", "allowed"),
    [("integer", text, "an integer from 1 to 100") for text in [*BAD_NUMBERS, "0", "101", "1.0", "1e1"]]
    + [("number", text, "a number from 0 to 1") for text in [*BAD_NUMBERS, "1.0001", ".", "e5"]]
    + [("choice", "thrift", "one of grpc, http/protobuf")]
    + [("boolean", text, "true or false") for text in ("1", "yes", "on", "truetrue")]
    + [("names", " , ,", "a comma-separated list of names")],
)
def test_bad_values(kind: str, text: str, allowed: str, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be understood, or is out of range, gives the default and one warning with everything in it."""
    assert READERS[kind](Environment({"X": text})) == DEFAULTS[kind]
    (line,) = lines(caplog)
    default = {"boolean": "true", "names": "a,b"}.get(kind, str(DEFAULTS[kind]))
    assert line.startswith("X='")
    assert line.endswith(f" is not {allowed}; using {default}")
    assert len(line) < 200
    assert line.isascii()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_one_line_a_process(caplog: pytest.LogCaptureFixture) -> None:
    """The same bad value read again, by whomever, says nothing more; another value does."""
    for _ in range(3):
        READERS["integer"](Environment({"X": "abc"}))
    assert len(lines(caplog)) == 1
    READERS["integer"](Environment({"X": "abcd"}))
    assert len(lines(caplog)) == 2


def test_one_line_for_many_threads(caplog: pytest.LogCaptureFixture) -> None:
    """Threads that read the same bad value at the same time log one line among them."""
    start = threading.Barrier(8)

    def read() -> None:
        start.wait()
        READERS["integer"](Environment({"X": "abc"}))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(caplog)) == 1


def test_the_memory_is_bounded() -> None:
    """What was warned about is remembered for so many values, not for all that a long life brings."""
    for number in range(1000):
        Environment({}).warn("X", str(number), "anything", "nothing")
    assert len(environment._warned) == environment._WARNINGS_REMEMBERED


def test_secrets_are_hidden(caplog: pytest.LogCaptureFixture) -> None:
    """A value that may carry credentials does not get into the log."""
    Environment({}).warn("X", "authorization=hunter2", "a list of headers", None, secret=True)
    assert lines(caplog) == ["X=<hidden> is not a list of headers; using none"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(), kind=st.sampled_from(sorted(READERS)))
def test_no_text_raises(text: str, kind: str) -> None:
    """Whatever stands in a variable, reading it gives a value of the right type."""
    value = READERS[kind](Environment({"X": text}))
    assert isinstance(value, (str, type(None)) if kind == "text" else type(DEFAULTS[kind]))
