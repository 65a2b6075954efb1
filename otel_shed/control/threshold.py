"""Consistent probability sampling: probabilities, 56-bit thresholds, and OpenTelemetry's entry in the tracestate.

Owns no state but bounded caches of values that never change; pure functions, for any thread. A trace is kept if and
only if its randomness is at least the threshold, so whoever has the higher threshold keeps a part of what the others
keep. The rules that must stay true: the threshold that decides is the one that is written, rounded; ``rv`` and all that
is not ours goes on as it came. "The specification" is
https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/ and OTEP 235.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from opentelemetry.trace import TraceState

# OpenTelemetry's entry among the tracestate's, and the most characters its value may have (the specification).
OT = "ot"
OT_MAX_LENGTH = 256
# W3C Trace Context 3.3.1.1: entries of a tracestate.
_MAX_ENTRIES = 32

# The specification: 7 bytes of randomness, thresholds from 0 (keep all); 2**56 would keep none and is never written.
RANDOMNESS_BITS = 56
NEVER = 1 << RANDOMNESS_BITS
_RANDOMNESS_MASK = NEVER - 1
_DIGITS = RANDOMNESS_BITS // 4
# The specification recommends 4 digits for SDKs, not counting the f's that they follow.
PRECISION = 4

_THRESHOLD = re.compile(r"[0-9a-f]{1,14}")
_RANDOMNESS = re.compile(r"[0-9a-f]{14}")


def threshold_of(probability: float) -> int:
    """The rejection threshold for a probability, with 4 hexadecimal digits after its leading f's.

    From 1 on it is 0; below 2**-56, where no threshold can say it (and for NaN), it is ``NEVER``.
    """
    if probability >= 1.0:
        return 0
    scaled = probability * NEVER
    if not scaled >= 1.0:
        return NEVER
    # frexp: 2**-n has the exponent 1-n, so this is how many f's the threshold begins with.
    leading = max(0, math.frexp(probability)[1] // -4)
    unit = 1 << max(0, RANDOMNESS_BITS - 4 * (PRECISION + leading))
    rounded = (NEVER - round(scaled) + unit // 2) // unit * unit
    return min(rounded, NEVER - unit)


def probability_of(threshold: int) -> float:
    """The probability, 0..1, with which a trace is kept."""
    return (NEVER - threshold) / NEVER


def adjusted_count(threshold: int) -> float:
    """How many traces one that was kept stands for, itself included; infinite for ``NEVER``."""
    return NEVER / (NEVER - threshold) if threshold < NEVER else math.inf


@lru_cache(maxsize=1024)
def format_threshold(threshold: int) -> str:
    """The ``th`` of a threshold, 0 to 2**56-1: its 14 digits without the zeros at the end."""
    return f"{threshold:014x}".rstrip("0") or "0"


@lru_cache(maxsize=1024)
def parse_threshold(text: str) -> int | None:
    """The threshold that a ``th`` says; None if it says none."""
    return int(text, 16) << 4 * (_DIGITS - len(text)) if _THRESHOLD.fullmatch(text) else None


def parse_randomness(text: str) -> int | None:
    """The randomness that an ``rv`` says; None if it says none, and the trace id has to do."""
    return int(text, 16) if _RANDOMNESS.fullmatch(text) else None


@dataclass(frozen=True, slots=True)
class OtEntry:
    """What OpenTelemetry's entry of a tracestate says.

    threshold: its ``th``; None without one that can be read. randomness: likewise its ``rv``. others: every sub-key but
    ``th``, as it stands, in order: ``rv`` too.
    """

    threshold: int | None = None
    randomness: int | None = None
    others: tuple[str, ...] = ()


_NOTHING = OtEntry()


@lru_cache(maxsize=1024)
def parse_ot(value: str) -> OtEntry:
    """What the value of an ``ot`` entry says; what cannot be read is kept among the others, a bad ``th`` is not."""
    threshold = randomness = None
    others = []
    for member in value.split(";"):
        key, _, text = member.partition(":")
        if key == "th":
            threshold = parse_threshold(text)
        elif member:
            others.append(member)
            if key == "rv":
                randomness = parse_randomness(text)
    return OtEntry(threshold, randomness, tuple(others))


def format_ot(threshold: int | None, others: tuple[str, ...] = ()) -> str:
    """The value of an ``ot`` entry, ``th`` first; "" if there is nothing to say.

    What is too much for 256 characters goes, the last first, but never ``rv``: others decide by it.
    """
    members = [] if threshold is None or threshold >= NEVER else [f"th:{format_threshold(threshold)}"]
    members += others
    while len(value := ";".join(members)) > OT_MAX_LENGTH:
        # Where all is th and rv, there is more than one rv: the last one counts.
        del members[max((place for place, member in enumerate(members) if not _is_ours(member)), default=1)]
    return value


def _is_ours(member: str) -> bool:
    return member.startswith("th:") or (member.startswith("rv:") and parse_randomness(member[3:]) is not None)


def read_ot(trace_state: Mapping[str, str] | None) -> OtEntry:
    """What a tracestate's ``ot`` entry says."""
    if not trace_state:
        return _NOTHING
    value = trace_state.get(OT)
    return parse_ot(value) if value else _NOTHING


def randomness_of(trace_id: int, entry: OtEntry = _NOTHING) -> int:
    """What is held against thresholds, 0 to 2**56-1: ``rv``, else the last 7 bytes of the trace id."""
    return trace_id & _RANDOMNESS_MASK if entry.randomness is None else entry.randomness


def with_threshold(trace_state: TraceState | None, entry: OtEntry, threshold: int | None) -> TraceState | None:
    """The tracestate with ``threshold`` as its ``th``, or without any; ``entry`` is what ``read_ot`` found in it.

    The ``ot`` entry comes first, as the last one changed (W3C Trace Context 3.5); of 32 others the last gives way.
    """
    value = format_ot(threshold, entry.others)
    foreign = [(key, text) for key, text in trace_state.items() if key != OT] if trace_state else []
    if not value:
        return TraceState(foreign) if foreign else None
    return TraceState([(OT, value), *foreign[: _MAX_ENTRIES - 1]])


@dataclass(frozen=True, slots=True)
class ThresholdInForce:
    """What new local roots are decided by, replaced as a whole; make one with ``in_force``.

    threshold: 0 to ``NEVER``. probability: 0..1, exactly what the threshold says. trace_state: that of a kept root
    without a parent.
    """

    threshold: int
    probability: float
    trace_state: TraceState | None = field(compare=False, repr=False)


@lru_cache(maxsize=1024)
def in_force(probability: float) -> ThresholdInForce:
    """``probability``, rounded to what a threshold can say."""
    threshold = threshold_of(probability)
    return ThresholdInForce(threshold, probability_of(threshold), with_threshold(None, _NOTHING, threshold))


# A probability of 1: th:0.
KEEP_ALL = in_force(1.0)


def strictest(*each: ThresholdInForce) -> ThresholdInForce:
    """The one that keeps the least; the others keep all that it keeps."""
    return max(each, key=lambda one: one.threshold, default=KEEP_ALL)
