"""How many times better than stock, as an SVG that stands by itself: a line a quantity, a dot for each candidate.

Pure: figures in, text out. The axis is logarithmic, so that ten times better and ten times worse look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from otel_shed.command.comparison import Figure
from otel_shed.command.storm.svg import logarithmic

_WIDTH, _LEFT, _RIGHT = 900, 370, 60
_TOP, _ROW, _BOTTOM = 34, 21, 30
_CLASSES = {"otel-shed": "first", "plain Python": "second"}
_OTHERS = "third"
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1d2228 } .faint { fill: #69727d } .head { font-weight: 650 }
  .grid { stroke: #dcdad5 } .even { stroke: #69727d } .goal { stroke: #1d2228; stroke-width: 2 }
  .first { fill: #2563b8; stroke: #2563b8 } .second { fill: #d97f1e; stroke: #d97f1e }
  .third { fill: #69727d; stroke: #69727d }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e4df } .faint { fill: #98a1ac } .grid { stroke: #2e343b } .goal { stroke: #e6e4df }
  }"""


def ratios_plot(figures: Iterable[Figure]) -> str | None:
    """The quantities for which there is a goal, with every candidate that is compared with stock; None without any."""
    rows: dict[tuple[str, str], list[Figure]] = {}
    wanted = set()
    for figure in figures:
        if figure.ratio is not None:
            rows.setdefault((figure.benchmark, figure.what), []).append(figure)
            if figure.goal is not None:
                wanted.add((figure.benchmark, figure.what))
    rows = {key: row for key, row in rows.items() if key in wanted}
    if not rows:
        return None
    return _Drawing([figure for row in rows.values() for figure in row]).draw(rows)


class _Drawing:
    def __init__(self, figures: Sequence[Figure]) -> None:
        ratios = [figure.ratio for figure in figures if figure.ratio is not None]
        lowest = min(0.5, *(ratio.low for ratio in ratios))
        highest = max(20.0, *(ratio.high for ratio in ratios))
        # A cost that is lost in the noise is a thousand times cheaper in one round: not a reason to squeeze the rest.
        self._axis = logarithmic(max(lowest, 0.01), min(highest, 100.0), lambda value: f"{value:g}x")
        self._names = sorted({figure.who for figure in figures}, key=lambda who: (_CLASSES.get(who, _OTHERS), who))

    def _across(self, ratio: float) -> float:
        return round(_LEFT + self._axis.share(ratio) * (_WIDTH - _LEFT - _RIGHT), 1)

    def draw(self, rows: dict[tuple[str, str], list[Figure]]) -> str:
        height = _TOP + _ROW * len(rows) + _BOTTOM
        marks = [*self._legend(), *self._grid(height)]
        for number, ((benchmark, what), row) in enumerate(rows.items()):
            down = _TOP + _ROW * number + _ROW / 2
            marks.append(
                f'<text x="{_LEFT - 10}" y="{down + 4}" text-anchor="end">{escape(benchmark)}: {escape(what)}</text>'
            )
            for figure in row:
                marks += self._candidate(figure, down)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
            f' aria-label="How many times better than stock"><style>{_STYLE}\n</style>{"".join(marks)}</svg>\n'
        )

    def _candidate(self, figure: Figure, down: float) -> Iterable[str]:
        ratio, css = figure.ratio, _CLASSES.get(figure.who, _OTHERS)
        assert ratio is not None
        low, middle, high = (self._across(value) for value in (ratio.low, ratio.median, ratio.high))
        yield f'<line class="{css}" x1="{low}" x2="{high}" y1="{down}" y2="{down}"/>'
        yield (
            f'<circle class="{css}" cx="{middle}" cy="{down}" r="4"><title>{escape(figure.who)}:'
            f" {ratio.median:.2f}x ({ratio.low:.2f} .. {ratio.high:.2f})</title></circle>"
        )
        if figure.goal is not None and figure.goal.of_ratio:
            at = self._across(figure.goal.limit)
            yield f'<line class="goal" x1="{at}" x2="{at}" y1="{down - 7}" y2="{down + 7}"/>'

    def _legend(self) -> Iterable[str]:
        across = float(_LEFT)
        for who in self._names:
            yield f'<circle class="{_CLASSES.get(who, _OTHERS)}" cx="{across + 4}" cy="14" r="4"/>'
            yield f'<text x="{across + 13}" y="18">{escape(who)}</text>'
            across += 30 + 7 * len(who)
        yield f'<line class="goal" x1="{across}" x2="{across}" y1="7" y2="21"/>'
        yield f'<text x="{across + 8}" y="18">goal</text>'
        yield f'<text class="head" x="{_LEFT - 10}" y="18" text-anchor="end">times better than stock</text>'

    def _grid(self, height: int) -> Iterable[str]:
        for value, text in self._axis.ticks:
            at = self._across(value)
            css = "even" if value == 1 else "grid"
            yield f'<line class="{css}" x1="{at}" x2="{at}" y1="{_TOP - 4}" y2="{height - _BOTTOM + 4}"/>'
            yield f'<text class="faint" x="{at}" y="{height - 10}" text-anchor="middle">{escape(text)}</text>'
