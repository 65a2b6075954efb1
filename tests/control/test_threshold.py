"""Thresholds: the specification's strings, consistency, and a tracestate of which nothing else is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from otel_shed.control.threshold import (
    NEVER,
    OT_MAX_LENGTH,
    adjusted_count,
    format_ot,
    format_threshold,
    in_force,
    parse_ot,
    parse_threshold,
    probability_of,
    randomness_of,
    read_ot,
    strictest,
    threshold_of,
    with_threshold,
)


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (1.0, "0"),
        (2.0, "0"),
        (0.5, "8"),
        (0.25, "c"),
        (1 / 3, "aaab"),
        (0.1, "e666"),
        (0.01, "fd70a"),
        (0.001, "ffbe77"),
        (1e-6, "ffffef39"),
    ],
)
def test_a_threshold_has_four_digits_after_its_fs(probability: float, text: str) -> None:
    """The precision that the specification recommends, and no zeros at the end."""
    assert format_threshold(threshold_of(probability)) == text
    assert parse_threshold(text) == threshold_of(probability)


@pytest.mark.parametrize("probability", [0.0, -1.0, float("nan"), 2.0**-58])
def test_what_no_threshold_can_say_keeps_nothing(probability: float) -> None:
    """Zero is no probability sampling: nothing is kept, and no th written."""
    assert threshold_of(probability) == NEVER
    assert format_ot(threshold_of(probability)) == ""


@given(st.floats(2.0**-56, 1.0))
def test_a_rounded_threshold_says_nearly_the_probability(probability: float) -> None:
    """The rounded one decides, and is within a thousandth of what was asked for."""
    threshold = threshold_of(probability)
    assert 0 <= threshold < NEVER
    assert probability_of(threshold) == pytest.approx(probability, rel=1e-3)
    assert adjusted_count(threshold) * probability_of(threshold) == pytest.approx(1.0)
    assert parse_threshold(format_threshold(threshold)) == threshold


@given(st.floats(2.0**-40, 1.0), st.floats(2.0**-40, 1.0), st.integers(0, 2**128 - 1))
def test_thresholds_nest(one: float, other: float, trace_id: int) -> None:
    """Whatever the stricter one keeps, the other keeps too."""
    strict, loose = sorted((threshold_of(one), threshold_of(other)), reverse=True)
    if randomness_of(trace_id) >= strict:
        assert randomness_of(trace_id) >= loose


@pytest.mark.parametrize("text", ["", "g", "F", "0123456789abcde", "-1", "8 ", "٣"])
def test_a_th_that_says_none_is_none(text: str) -> None:
    """Only one to fourteen lower-case digits are a threshold."""
    assert parse_threshold(text) is None


def test_an_explicit_randomness_goes_before_the_trace_id() -> None:
    """rv decides if it has exactly fourteen digits; otherwise the last seven bytes of the trace id do."""
    assert randomness_of(0xFF_0123456789ABCD, parse_ot("rv:fedcba98765432")) == 0xFEDCBA98765432
    assert randomness_of(0xFF_0123456789ABCD, parse_ot("rv:fedcba9876543")) == 0x0123456789ABCD


def test_a_tracestate_keeps_foreign_entries() -> None:
    """Our entry comes first; vendors' entries stay, in order; dropping takes th away and leaves rv."""
    state = TraceState([("vendor", "v"), ("ot", "th:8;rv:0123456789abcd"), ("other", "o")])
    entry = read_ot(state)
    kept = with_threshold(state, entry, threshold_of(0.25))
    assert kept is not None
    assert list(kept.items()) == [("ot", "th:c;rv:0123456789abcd"), ("vendor", "v"), ("other", "o")]
    dropped = with_threshold(state, entry, None)
    assert dropped is not None
    assert dropped.get("ot") == "rv:0123456789abcd"
    assert with_threshold(None, read_ot(None), None) is None


def test_an_entry_is_never_too_long() -> None:
    """What is too much for 256 characters goes, the last first, but th and rv stay."""
    others = ("rv:0123456789abcd", *(f"key{number}:{'x' * 40}" for number in range(10)))
    value = format_ot(threshold_of(0.5), others)
    assert len(value) <= OT_MAX_LENGTH
    assert value.startswith("th:8;rv:0123456789abcd;key0:")


def test_the_strictest_of_several_holds() -> None:
    """Of a budget and a ceiling the one that keeps less decides; of none, everything is kept."""
    assert strictest(in_force(0.5), in_force(0.1), in_force(1.0)) == in_force(0.1)
    assert strictest().threshold == 0
