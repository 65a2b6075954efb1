"""The figures of both sides beside each other, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from otel_shed.command.storm.figures import Figures

_LABEL = 46
_COLUMN = 12


def table(stock: Figures | None, ours: Figures | None) -> Iterator[str]:
    """A heading and a line for each figure; "-" for what is not known."""
    yield _line("", "stock", "otel-shed")
    for label, left, right in rows(stock, ours):
        yield _line(label, left, right)


def rows(stock: Figures | None, ours: Figures | None) -> Iterator[tuple[str, str, str]]:
    """Each figure's name, and what it is on either side."""
    left, right = (cells(each) if each else {} for each in (stock, ours))
    for label in left or right:
        yield label, left.get(label, "-"), right.get(label, "-")
    if stock and ours and stock.ends.p99:
        yield "p99 of Span.end(), stock = 1", "1", f"{ours.ends.p99 / stock.ends.p99:.2f}"


def cells(figures: Figures) -> dict[str, str]:
    """Each figure by its name, as text."""
    found = {
        "delivered traces that are whole": _percent(figures.whole_share),
        "failed traces that arrive whole": _percent(figures.failed_whole_share),
        "traces by adjusted counts, against the truth": _off(figures.estimate),
        "spans by adjusted counts, against the truth": _off(figures.span_estimate),
        "capacity used by accepted spans": _percent(figures.capacity_used),
        "spans unaccounted for": _number(figures.unaccounted),
        "every span delivered again after the storm": _recovery(figures),
        "Span.end(), median": _microseconds(figures.ends.p50),
        "Span.end(), p99": _microseconds(figures.ends.p99),
        "Span.end(), p99.9": _microseconds(figures.ends.p999),
        "Span.end(), worst": _microseconds(figures.ends.longest),
        "memory at most": f"{figures.memory / 2**20:,.0f} MiB",
        "CPU of the process in the storm": f"{figures.cpu:,.1f} s",
        "spans offered a second, really": _number(round(figures.offered)),
        "spans accepted, in all": _number(figures.accepted),
        "spans accepted a second time": _number(figures.repeated),
        "traces delivered, and whole ones": f"{figures.traces:,} / {figures.whole:,}",
        "failed traces, and whole ones delivered": f"{figures.failed:,} / {figures.failed_whole:,}",
        "spans delivered without their parent": _number(figures.orphans),
    }
    if figures.mixed:
        found["traces with more than one threshold"] = _number(figures.mixed)
    if figures.unwanted:
        found["spans sent though a parent had said no"] = _number(figures.unwanted)
    return found


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


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us"
