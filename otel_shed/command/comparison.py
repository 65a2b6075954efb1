"""What a benchmark has measured, beside what it was to show: values, and how they read in a line and in a table.

Pure. The benchmarks make the figures, ``otel-shed bench`` reads them; between the two they are JSON. The rule: a figure
is a median of rounds and never comes without its spread.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

STOCK = "stock"
NONE = "no processor"
_FINEST = 1e-3
SHARE = "share"  # the unit of what is 0..1, and reads best in per cent
# Other programs that take more of the machine than this make a goal that was missed say nothing.
BUSY = 0.1

HEADING = f"{'':<48}{'':<32}{'median':>9} {'unit':<11}{'min .. max':>17}{'to stock':>10}{'min .. max':>17}   goal"


@dataclass(frozen=True)
class Spread:
    """A median of rounds, with the least and the most of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        return cls(statistics.median(rounds), min(rounds), max(rounds))


@dataclass(frozen=True)
class Goal:
    """At least or at most so much, of the ratio or of the value itself."""

    limit: float
    at_least: bool = True
    of_ratio: bool = True


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One quantity of one candidate.

    what: the quantity. who: the candidate. value: in ``unit``. ratio: how many times better than the stock part of the
    same round, so above 1 where ours is cheaper; None for stock itself, for the SDK
    without a processor, and where there is nothing to compare. others: how much of the machine other programs took
    meanwhile, 0..1; None where that is not known.
    """

    benchmark: str
    what: str
    who: str
    unit: str
    value: Spread
    ratio: Spread | None = None
    goal: Goal | None = None
    others: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median is as good as the goal; None where there is none."""
        if self.goal is None:
            return None
        spread = self.ratio if self.goal.of_ratio else self.value
        if spread is None:
            return None
        return spread.median >= self.goal.limit if self.goal.at_least else spread.median <= self.goal.limit

    @property
    def goal_text(self) -> str:
        """The goal in words; empty where there is none."""
        if self.goal is None:
            return ""
        limit = f"{self.goal.limit:g}x" if self.goal.of_ratio else amount(self.goal.limit, self.unit)
        unit = "" if self.goal.of_ratio or self.unit == SHARE else f" {self.unit}"
        return f"at {'least' if self.goal.at_least else 'most'} {limit}{unit}"

    @property
    def missed_when_busy(self) -> bool:
        """Whether the goal was missed on a machine that others kept busy: then it may be they."""
        return self.met is False and self.others is not None and self.others > BUSY

    @property
    def verdict(self) -> str:
        """How the goal stands, in words; empty where there is none."""
        if self.met is not False:
            return "met" if self.met else ""
        return f"MISSED, busy machine ({self.others:.0%} other programs)" if self.missed_when_busy else "MISSED"

    def line(self) -> str:
        """For a terminal, under ``HEADING``."""
        unit = "" if self.unit == SHARE else self.unit
        told = f"{self.what:<48}{self.who:<32}{amount(self.value.median, self.unit):>9} {unit:<11}"
        told += f"{_between(self.value, self.unit):>17}"
        if self.ratio is not None:
            told += f"{self.ratio.median:>9.2f}x{_between(self.ratio):>17}"
        if self.goal is not None:
            told = f"{told:<144}   {self.goal_text}: {self.verdict}"
        return told.rstrip()


def compared(
    benchmark: str,
    what: str,
    unit: str,
    rounds: Mapping[str, Sequence[float]],
    *,
    goals: Mapping[str, Goal] | None = None,
    more_is_better: bool = False,
    with_ratio: bool = True,
) -> Iterable[Figure]:
    """A figure for each candidate from its value in each round; ratios where stock is among them."""
    stock = rounds.get(STOCK) if with_ratio else None
    for who, values in rounds.items():
        ratio = None
        if stock is not None and who not in (STOCK, NONE):
            pairs = [
                (own, theirs) if more_is_better else (theirs, own) for own, theirs in zip(values, stock, strict=True)
            ]
            ratio = Spread.of([_times(above, below) for above, below in pairs])
        yield Figure(
            benchmark=benchmark,
            what=what,
            who=who,
            unit=unit,
            value=Spread.of(values),
            ratio=ratio,
            goal=(goals or {}).get(who),
        )


def _times(above: float, below: float) -> float:
    """How many times; a cost that is lost in the noise, or below it, is no more than a thousandth of the other."""
    return max(above, 0.0) / below if below > above * _FINEST else 1 / _FINEST if above > 0 else 1.0


def as_json(figure: Figure) -> dict[str, Any]:
    return asdict(figure)


def from_json(told: Mapping[str, Any]) -> Figure:
    """What ``as_json`` made a dictionary of."""
    goal, ratio = told["goal"], told["ratio"]
    return Figure(
        **{
            **told,
            "value": Spread(**told["value"]),
            "ratio": ratio and Spread(**ratio),
            "goal": goal and Goal(**goal),
        }
    )


def markdown(figures: Iterable[Figure]) -> str:
    """One table for each benchmark."""
    told: list[str] = []
    last = None
    for figure in figures:
        if figure.benchmark != last:
            told += [
                *([""] if told else []),
                f"## {figure.benchmark}",
                "",
                "| | | median | min .. max | times better than stock | min .. max | goal | |",
                "|---|---|---:|---:|---:|---:|---|---|",
            ]
            last = figure.benchmark
        unit = "" if figure.unit == SHARE else f" {figure.unit}"
        ratio, between = ("", "") if figure.ratio is None else (f"{figure.ratio.median:.2f}", _between(figure.ratio))
        met = figure.verdict.replace("MISSED", "**missed**")
        cells = (
            figure.what,
            figure.who,
            amount(figure.value.median, figure.unit) + unit,
            _between(figure.value, figure.unit),
            ratio,
            between,
            figure.goal_text,
            met,
        )
        told.append("| " + " | ".join(cells) + " |")
    return "\n".join(told) + "\n"


def amount(value: float, unit: str = "") -> str:
    """Three digits that count, or per cent of a share."""
    if unit == SHARE:
        return f"{value:.1%}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _between(spread: Spread, unit: str = "") -> str:
    return f"{amount(spread.low, unit)} .. {amount(spread.high, unit)}"
