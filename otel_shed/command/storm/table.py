"""The figures of both sides beside each other, as lines of text, and which side is better where the page begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from otel_shed.command.storm.figures import Figures

_LABEL = 46
_COLUMN = 12

Row = tuple[str, str, str]
"""A figure's name, and what it is on either side."""

Verdict = Literal["better", "worse", "even", ""]


def table(stock: Figures | None, ours: Figures | None) -> Iterator[str]:
    """A heading, and under the time that they are of a line for each figure; "-" for what is not known."""
    yield _line("", "stock", "otel-shed")
    for time, rows in groups(stock, ours).items():
        yield f"{time}:"
        for row in rows:
            yield _line(*row)


def groups(stock: Figures | None, ours: Figures | None) -> Mapping[str, list[Row]]:
    """The rows, by the time that they are of; none where there are no figures."""
    known = stock or ours
    if known is None:
        return {}
    counted = list(_rows(stock, ours, _of_the_window))
    if stock and ours and stock.ends.p99 and ours.ends.p99:
        counted.append(("p99 of Span.end(), stock = 1", "1", f"{ours.ends.p99 / stock.ends.p99:.2f}"))
    return {counted_time(known.settling): counted, "The whole run": list(_rows(stock, ours, _of_the_run))}


def counted_time(settling: float) -> str:
    """The window of time, in words."""
    return f"From {settling:g} s of the storm to its end"


def cells(figures: Figures) -> dict[str, str]:
    """Each figure by its name, as text."""
    return _of_the_window(figures) | _of_the_run(figures)


def _rows(stock: Figures | None, ours: Figures | None, names: Callable[[Figures], dict[str, str]]) -> Iterator[Row]:
    left, right = (names(each) if each else {} for each in (stock, ours))
    for label in left | right:
        yield label, left.get(label, "-"), right.get(label, "-")


def _of_the_window(figures: Figures) -> dict[str, str]:
    ends = figures.ends
    found = {
        "delivered traces that are whole": _percent(figures.whole_share),
        "failed traces that arrive whole": _percent(figures.failed_whole_share),
        "traces by adjusted counts, against the truth": _off(figures.estimate),
        "spans by adjusted counts, against the truth": _off(figures.span_estimate),
        "capacity used by accepted spans": _percent(figures.capacity_used),
        "traces delivered, and whole ones": f"{figures.traces:,} / {figures.whole:,}",
        "failed traces, and whole ones delivered": f"{figures.failed:,} / {figures.failed_whole:,}",
        "spans delivered without their parent": _number(figures.orphans),
        "spans offered a second, really": _number(None if figures.offered is None else round(figures.offered)),
        "Span.end(), median": _microseconds(ends.p50 if ends.spans else None),
        "Span.end(), p99": _microseconds(ends.p99 if ends.spans else None),
        "Span.end(), p99.9": _microseconds(ends.p999 if ends.spans else None),
        "Span.end(), worst": _microseconds(ends.longest if ends.spans else None),
        "CPU of the process": f"{figures.cpu:,.1f} s",
    }
    if figures.mixed:
        found["traces with more than one threshold"] = _number(figures.mixed)
    return found


def _of_the_run(figures: Figures) -> dict[str, str]:
    found = {
        "every span delivered again after the storm": _recovery(figures),
        "spans accepted, in all": _number(figures.accepted),
        "spans accepted a second time": _number(figures.repeated),
        "spans unaccounted for": _number(figures.unaccounted),
        "memory at most": f"{figures.memory / 2**20:,.0f} MiB",
    }
    if figures.unwanted:
        found["spans sent though a parent had said no"] = _number(figures.unwanted)
    return found


# -- which side is better ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What the page begins with. label: of the table. text: on the page. cost: less is better; None if not known.

    Two runs of one side differ by up to ``differs``, or, where it is given, by up to ``times`` times.
    """

    label: str
    text: str
    cost: Callable[[Figures], float | None]
    differs: float = 0.0
    times: float = 1.0

    def verdicts(self, stock: Figures | None, ours: Figures | None) -> tuple[Verdict, Verdict]:
        """Who is better, if the difference is more than that between two runs; empty where there is no other side."""
        left, right = (self.cost(each) if each else None for each in (stock, ours))
        if left is None or right is None:
            return "", ""
        if abs(left - right) <= self.differs or max(left, right) <= self.times * min(left, right):
            return "even", "even"
        return ("better", "worse") if left < right else ("worse", "better")


def _missing(share: float | None) -> float | None:
    return None if share is None else 1 - share


# What two runs of one side differ by: see the page's notes (page.py).
SHARE_DIFFERS, ESTIMATE_DIFFERS, TIMES_DIFFERS = 0.02, 0.15, 1.5

HEADLINES = (
    Headline(
        label="delivered traces that are whole",
        text="delivered traces that are whole",
        cost=lambda figures: _missing(figures.whole_share),
        differs=SHARE_DIFFERS,
    ),
    Headline(
        label="failed traces that arrive whole",
        text="failed traces that arrive whole",
        cost=lambda figures: _missing(figures.failed_whole_share),
        differs=SHARE_DIFFERS,
    ),
    Headline(
        label="spans by adjusted counts, against the truth",
        text="spans as counted from what arrived, off by",
        cost=lambda figures: None if figures.span_estimate is None else abs(figures.span_estimate),
        differs=ESTIMATE_DIFFERS,
    ),
    Headline(
        label="Span.end(), p99",
        text="99 of 100 calls of Span.end() take at most",
        cost=lambda figures: figures.ends.p99 if figures.ends.spans else None,
        times=TIMES_DIFFERS,
    ),
)


def _line(label: str, left: str, right: str) -> str:
    return f"  {label:<{_LABEL}}{left:>{_COLUMN}}{right:>{_COLUMN}}".rstrip()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _off(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} %"


def _recovery(figures: Figures) -> str:
    if figures.recovered_after is not None:
        return f"{figures.recovered_after:.1f} s"
    return f"> {figures.watched:.0f} s" if figures.watched else "-"


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.0f} us"
