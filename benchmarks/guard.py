"""What docs/benchmarks.md states is held to: a ratio half as good fails the tests.

The tests measure with the benchmarks' own code. The rule: only ratios to stock in the same rounds are judged, never the
clock, and a neighbour on the machine gets three chances to be quiet.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks import encode, on_end
from benchmarks.side_by_side import OURS, ROOT, STOCK

DOCUMENT = ROOT / "docs" / "benchmarks.md"
ATTEMPTS = 3
MARGIN = 0.5  # of what is stated

_ROW = re.compile(r"^\| (?P<what>[^|]+?) \| (?P<ratio>[0-9.]+) \|")


def stated(document: str) -> dict[str, float]:
    """The ratios that the document states between its two marks, by what they are of."""
    between = document.partition("<!-- guarded -->")[2].partition("<!-- /guarded -->")[0]
    rows = [found for line in between.splitlines() if (found := _ROW.match(line))]
    return {row["what"]: float(row["ratio"]) for row in rows}


def attempts(measure: Callable[[], Sequence[float]], ratio: float) -> list[float]:
    """The median of each attempt, up to the first that is at least half of ``ratio``; at most three."""
    medians: list[float] = []
    while len(medians) < ATTEMPTS and not is_kept(medians, ratio):
        medians.append(statistics.median(measure()))
    return medians


def is_kept(medians: Sequence[float], ratio: float) -> bool:
    """Whether one of the attempts was good enough."""
    return any(median >= ratio * MARGIN for median in medians)


def ratios(rounds: Mapping[str, Sequence[float]], who: str) -> list[float]:
    """How many times cheaper than stock, round by round."""
    return [stock / own for stock, own in zip(rounds[STOCK], rounds[who], strict=True)]


def encoding(who: str, rounds: int = 25) -> list[float]:
    """Of a span of five attributes."""
    spans = encode.corpus(encode.CORPORA["5 constant attributes"])
    return ratios(encode.measure(spans, rounds, only=(STOCK, who)), who)


def ending(threads: int, *, hung: bool, rounds: int = 7, who: str = OURS) -> list[float]:
    """Of on_end, as this process has it."""
    turns = on_end.in_situation(on_end.ended_spans(on_end.SPANS), 4_096, rounds, threads=threads, hung=hung)
    return ratios({each: [turn.cpu for turn in own] for each, own in turns.items()}, who)


def measures() -> dict[str, Callable[[], Sequence[float]]]:
    """What can be measured here, by its name in the document."""
    found: dict[str, Callable[[], Sequence[float]]] = {
        f"encode, {who}": lambda who=who: encoding(who) for who in encode.candidates() if who != STOCK
    }
    found[f"on_end, healthy, {OURS}"] = lambda: ending(1, hung=False)
    found[f"on_end, hung and full, {OURS}"] = lambda: ending(1, hung=True)
    found[f"on_end, hung and full, {on_end.OTHER}"] = lambda: ending(1, hung=True, who=on_end.OTHER)
    return found
