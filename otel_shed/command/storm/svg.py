"""Plots as SVG: axes with round ticks, and the few marks that the page needs.

Pure functions of numbers, and a Plot that gathers marks. Colours and fonts are the page's, by class. The rule: whatever
the numbers, what comes out is well-formed and within the frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 560
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 18, 22

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From ``low`` to ``high``, with the values that have a label."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]] = ()
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value stands, 0..1; what is beyond the ends is at them."""
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = (math.log10(max(each, 1e-12)) for each in (value, low, high))
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0


def linear(highest: float, label: Callable[[float], str], *, ticks: int = 4) -> Axis:
    """From 0 to a round number that is at least ``highest``."""
    highest = max(highest, 1e-9)
    rough = highest / ticks
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    count = math.ceil(highest / step - 1e-9)
    return Axis(0.0, count * step, [(number * step, label(number * step)) for number in range(count + 1)])


def logarithmic(lowest: float, highest: float, label: Callable[[float], str]) -> Axis:
    """Whole powers of ten around the two."""
    low = math.floor(math.log10(max(lowest, 1e-9)))
    high = max(low + 1, math.ceil(math.log10(max(highest, 1e-9))))
    return Axis(10.0**low, 10.0**high, [(10.0**power, label(10.0**power)) for power in range(low, high + 1)], True)


def time_axis(seconds: float) -> Axis:
    """Exactly so many seconds."""
    ticks = linear(max(seconds, 1.0), lambda value: f"{value:g} s", ticks=6).ticks
    return Axis(0.0, max(seconds, 1.0), [(value, text) for value, text in ticks if value <= seconds])


class Plot:
    """Marks in a frame. ``strip``: room below the time axis, in pixels, for a band of its own."""

    def __init__(self, x: Axis, y: Axis, label: str, *, height: int = 190, strip: int = 0) -> None:
        self._x, self._y, self._label = x, y, label
        self._inner = height - TOP - BOTTOM
        self._height = height + strip
        self._strip = strip
        self._marks: list[str] = []

    def at(self, x: float, y: float) -> Point:
        """Where a point is, in pixels."""
        across = LEFT + self._x.share(x) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(TOP + (1 - self._y.share(y)) * self._inner, 1)

    def region(self, begins: float, ends: float, css: str, text: str) -> None:
        """A time, from bottom to top."""
        (left, top), (right, bottom) = self.at(begins, self._y.high), self.at(ends, self._y.low)
        self._rectangle(left, top, right - left, bottom - top, css)
        self._marks.append(f'<text class="region-label" x="{left + 4}" y="{TOP - 5}">{escape(text)}</text>')

    def veil(self, begins: float, ends: float = math.inf) -> None:
        """Make what was drawn between two times pale, with the lines on the edge of the frame."""
        (left, top), (right, bottom) = self.at(begins, self._y.high), self.at(ends, self._y.low)
        if right > left:
            self._rectangle(left, top - 1, right - left, bottom - top + 2, "veil")

    def line(self, points: Sequence[Point], css: str) -> None:
        """From point to point."""
        if points:
            self._marks.append(f'<polyline class="line {css}" points="{self._path(points)}"/>')

    def area(self, points: Sequence[Point], css: str) -> None:
        """What is below a line."""
        if points:
            floor = self._y.low
            outline = [(points[0][0], floor), *points, (points[-1][0], floor)]
            self._marks.append(f'<polygon class="{css}" points="{self._path(outline)}"/>')

    def column(self, begins: float, ends: float, low: float, high: float, css: str, title: str) -> None:
        """A bar from ``low`` to ``high``."""
        if high > low:
            (left, top), (right, bottom) = self.at(begins, high), self.at(ends, low)
            self._rectangle(left + 0.5, top, right - left - 1, bottom - top, css, title)

    def dot(self, x: float, y: float, css: str) -> None:
        """A point by itself."""
        across, down = self.at(x, y)
        self._marks.append(f'<circle class="{css}" cx="{across}" cy="{down}" r="3"/>')

    def rule(self, value: float, text: str) -> None:
        """A value, all the way."""
        (left, down), (right, _) = self.at(self._x.low, value), self.at(self._x.high, value)
        self._marks.append(f'<line class="rule" x1="{left}" y1="{down}" x2="{right}" y2="{down}"/>')
        self._marks.append(f'<text class="rule-label" x="{right - 3}" y="{down - 4}">{escape(text)}</text>')

    def band(self, begins: float, ends: float, css: str, text: str) -> None:
        """A time in the strip below, with a word in it if it fits."""
        left, right = self.at(begins, 0)[0], self.at(ends, 0)[0]
        top, height = self._height - self._strip + 2, self._strip - 4
        self._rectangle(left, top, right - left, height, css, text)
        if right - left > 6.2 * len(text) + 6:
            down = top + height / 2 + 3.5
            self._marks.append(
                f'<text class="band-label" x="{round((left + right) / 2, 1)}" y="{down}">{escape(text)}</text>'
            )

    def render(self) -> str:
        """All of it."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {self._height}" role="img" aria-label="{escape(self._label)}">'
            f"{''.join(self._grid())}{''.join(self._marks)}</svg>"
        )

    def _grid(self) -> Iterable[str]:
        for value, text in self._y.ticks:
            left, down = self.at(self._x.low, value)
            yield f'<line class="grid" x1="{left}" y1="{down}" x2="{WIDTH - RIGHT}" y2="{down}"/>'
            yield f'<text class="tick y" x="{left - 6}" y="{down + 3.5}">{escape(text)}</text>'
        for value, text in self._x.ticks:
            across = self.at(value, self._y.low)[0]
            yield f'<text class="tick x" x="{across}" y="{TOP + self._inner + 15}">{escape(text)}</text>'

    def _rectangle(self, x: float, y: float, width: float, height: float, css: str, title: str = "") -> None:
        shape = (
            f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{max(height, 0):.1f}"'
        )
        self._marks.append(f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>")

    def _path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in points))
