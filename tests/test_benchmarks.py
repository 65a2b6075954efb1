"""The regression guard: what docs/benchmarks.md states is still at least half true, as a ratio to stock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest

from benchmarks import guard

STATED = guard.stated(guard.DOCUMENT.read_text())
MEASURES = guard.measures()


@pytest.mark.parametrize("what", MEASURES)
def test_what_is_stated_is_kept(what: str) -> None:
    """The median ratio of one of three attempts is at least half of what the document states."""
    medians = guard.attempts(MEASURES[what], STATED[what])
    assert guard.is_kept(medians, STATED[what]), f"{what}: {STATED[what]}x is stated, it was {medians}"


def test_nothing_is_stated_that_is_not_guarded() -> None:
    """Each row is measured with the compiled parts or without them."""
    ours = {guard.OURS, "otel-shed", "plain Python"}
    possible = {f"on_end, {how}, {who}" for how in ("healthy", "hung and full") for who in ours}
    possible |= {f"on_end, hung and full, {who}, another exporter" for who in ours}
    assert set(STATED) == possible | {"encode, otel-shed", "encode, plain Python", "encode, plain, public"}


def test_only_between_the_marks() -> None:
    """Other tables of the document state nothing."""
    document = "| a | 3 |\n<!-- guarded -->\n| what | ratio |\n|---|---|\n| b | 2.5 |\n<!-- /guarded -->\n| c | 4 |"
    assert guard.stated(document) == {"b": 2.5}


def made_up(*medians: float) -> Callable[[], Sequence[float]]:
    """Measurements of three rounds around each of these, one after the other."""
    left = iter(medians)
    return lambda: [(median := next(left)) * 0.1, median, median * 10]


def test_what_has_become_slow_fails() -> None:
    """Three times as slow as stated fails, and not before the third attempt."""
    medians = guard.attempts(made_up(10.0, 10.0, 10.0), 30.0)
    assert len(medians) == 3
    assert not guard.is_kept(medians, 30.0)


def test_a_noisy_neighbour_does_not_fail_it() -> None:
    """One quiet attempt of three is enough, and ends it."""
    medians = guard.attempts(made_up(4.0, 16.0, 4.0), 30.0)
    assert medians == [4.0, 16.0]
    assert guard.is_kept(medians, 30.0)


def test_a_quick_look_is_enough() -> None:
    """What is well kept is measured once."""
    assert guard.attempts(made_up(*itertools.repeat(29.0, 3)), 30.0) == [29.0]


def test_ratios_are_of_rounds() -> None:
    """Stock's cost over ours in the same round."""
    assert guard.ratios({"stock": [10.0, 30.0], "otel-shed": [2.0, 3.0]}, "otel-shed") == [5.0, 10.0]
