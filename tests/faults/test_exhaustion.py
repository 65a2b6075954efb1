"""Spans that end where no stack, or no memory, is left: each is counted once, and nothing gets into the application."""

from __future__ import annotations

import pytest

from otel_shed.compiled import PURE_PYTHON, extension
from tests.faults.delivered import run, value_of
from tests.interpreter import IS_FREE_THREADED

IMPLEMENTATIONS = ["plain"] if extension is None else ["plain", "compiled"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("entry", ["on_end", "end"])
@pytest.mark.parametrize("kind", ["recursion", "memory"])
def test_nothing_escapes_and_nothing_is_uncounted(kind: str, entry: str, implementation: str) -> None:
    """RecursionError and MemoryError, wherever in on_end or Span.end(), are swallowed, and the span encode_failed.

    But for one: where not even the frame of a plain on_end can be entered, that raises, and there is no code of ours
    that could catch it. The span has not ended for us then.
    """
    if kind == "memory":
        if IS_FREE_THREADED:
            pytest.skip("failing allocations crash the interpreter (3.13.5), whatever it runs")
        testing = pytest.importorskip("_testcapi")
        if not hasattr(testing, "set_nomemory"):
            pytest.skip("no failing allocations here")
    code, output = run("exhausted.py", kind, entry, **{PURE_PYTHON: str(implementation == "plain").lower()})
    assert code == 0, output
    figures = {name: int(value_of(output, f"{name}:")) for name in ("uncounted", "twice", "ours", "entering")}
    print(f"\n{kind} {entry} {implementation}: {output.replace(chr(10), ', ')}")
    may_fail_to_enter = implementation == "plain" and entry == "on_end" and kind == "recursion"
    assert figures.pop("entering") <= (12 if may_fail_to_enter else 0), output
    assert figures == {"uncounted": 0, "twice": 0, "ours": 0}, output
    assert int(value_of(output, "encode_failed:")) > 200
