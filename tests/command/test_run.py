"""One side of a storm without its processes: what it comes to, finished or not, and what its processes inherit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_shed.command.storm import run
from otel_shed.command.storm.figures import Window
from tests.command.made_outcomes import BEGAN, PLAN, closing, torn, whole


def test_a_side_that_came_to_its_end() -> None:
    """The program says when the storm was, and what it took."""
    made = whole()
    assert made.window == Window(began=BEGAN, ended=BEGAN + 10, capacity=PLAN.capacity)
    assert (made.exported, made.unaccounted) == (500, 0)
    figures = made.figures()
    assert figures is not None
    assert (figures.whole_share, figures.failed_whole_share) == (1.0, 1.0)
    assert figures.offered == pytest.approx(200.0)
    assert (figures.ends.p99, figures.memory) == (1e-4, 60 << 20)
    assert figures.cpu == pytest.approx(4.75 / 2)  # from the fifth second on


def test_a_side_that_did_not() -> None:
    """The storm goes to the last reading in it; of an account nothing is known."""
    made = replace(whole(), closings=[], readings=whole().readings[:21], storm=(BEGAN, None))
    assert made.window == Window(began=BEGAN, ended=BEGAN + 5, capacity=PLAN.capacity)
    assert (made.exported, made.unaccounted) == (None, None)
    figures = made.figures()
    assert figures is not None
    assert figures.unaccounted is None


def test_a_side_that_hardly_began() -> None:
    """Without a trace or a reading there are no figures."""
    assert replace(whole(), closings=[], started=[]).figures() is None
    assert replace(whole(), closings=[], readings=[]).figures() is None
    assert replace(whole(), closings=[], storm=None).figures() is None


def test_a_side_that_was_ended_before_anything_counts() -> None:
    """What counts is a window of no time: nothing of it is known, and of ``Span.end()`` least of all."""
    made = replace(whole(), closings=[], readings=whole().readings[:9], storm=(BEGAN, None))
    figures = made.figures()
    assert figures is not None
    assert (figures.traces, figures.whole_share, figures.offered, figures.ends.spans) == (0, None, None, 0)


def test_two_processes() -> None:
    """What both exported counts together, and so does what either does not know of."""
    first, second = closing(whole().readings[-1], 300), closing(whole().readings[-1], 200, ended=1000)
    second = replace(second, last=replace(second.last, unaccounted=-3))
    made = replace(whole(), closings=[first, second])
    assert (made.exported, made.unaccounted) == (500, 3)


def test_the_stock_side_has_no_account() -> None:
    """That is not the same as one with nothing unaccounted for."""
    assert (torn().exported, torn().unaccounted) == (None, None)


def test_what_the_processes_inherit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the processors for a try, but nothing that is meant for another exporter, sampler or proxy."""
    for name in (
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_SHED_KEEP_SHARE",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "https_proxy",
        "KEPT",
    ):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    environment = run._environment()
    assert {"OTEL_BSP_SCHEDULE_DELAY", "OTEL_SHED_KEEP_SHARE", "KEPT"} <= set(environment)
    assert not {"OTEL_EXPORTER_OTLP_HEADERS", "https_proxy", "OTEL_SDK_DISABLED"} & set(environment)
