"""The page of the demo, and the pictures on it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from otel_shed.command.storm.page import Show, page
from otel_shed.command.storm.pictures import pictures
from otel_shed.command.storm.run import Outcome
from otel_shed.command.storm.svg import RIGHT, WIDTH, Axis, Plot, linear, logarithmic, time_axis
from tests.command.made_outcomes import PHASES, PLAN, torn, whole


def made(stock: Outcome | None, ours: Outcome | None) -> str:
    return page(Show(plan=PLAN, stock=stock, ours=ours, counted_by="rotel <1>"))


class Elements(HTMLParser):
    """The elements of a page with their attributes; each that is opened is closed in its turn."""

    EMPTY = frozenset({"meta", "link", "img", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]


def test_the_page_needs_nothing_else() -> None:
    """Everything is in the one file: no script, nothing to load, no address."""
    text = made(torn(), whole())
    elements = Elements(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "use"} & set(elements.tags())
    assert not re.search(r"(?:https?:)?//\w|url\(|@import|\bon\w+=|\bsrc=|\bhref=", text)
    assert "prefers-color-scheme: dark" in text
    assert "rotel &lt;1&gt;" in text


def test_both_sides_of_each_picture() -> None:
    """Each has a plot of either side, named, and both are drawn on the same axes."""
    found = pictures(torn(), whole())
    assert len(found) == 6
    for picture in found:
        left, right = (ElementTree.fromstring(plot) for plot in picture.plots)
        assert left.get("aria-label", "").endswith(", stock")
        assert right.get("aria-label", "").endswith(", otel-shed")
        labels = [[(node.get("x"), node.get("y")) for node in plot.iterfind("text[@class]")] for plot in (left, right)]
        assert labels[0]
        if picture.title != "Failed traces":  # whose labels are the counts
            ticks = [[node.text for node in plot if "tick" in node.get("class", "")] for plot in (left, right)]
            assert ticks[0] == ticks[1]


def test_what_the_pictures_show() -> None:
    """Torn traces are drawn as torn, whole ones as whole, each failure once, and the phases in their order."""
    spent, failures = (picture.plots for picture in pictures(torn(), whole())[1:3])
    marks = [
        {name: plot.count(f'class="{name}"') for name in ("whole", "torn", "lost")} for plot in (*spent, *failures)
    ]
    assert marks[0] == {"whole": 5, "torn": 10, "lost": 0}
    assert marks[1] == {"whole": 15, "torn": 0, "lost": 0}
    assert marks[2] == {"whole": 1, "torn": 20, "lost": 0}
    assert re.findall(r'class="tick y"[^>]*>([^<]*)<', failures[0]) == ["0", "10", "0"]  # those that count
    assert marks[3] == {"whole": 21, "torn": 0, "lost": 0}
    bands = re.findall(r'class="phase (\w+)"', pictures(torn(), whole())[0].plots[1])
    assert bands == list(PHASES)


@pytest.mark.parametrize("colour", ["whole", "torn", "lost", "guess", "true", "offered", "accepted", "p99", "memory"])
def test_every_colour_has_a_light_and_a_dark_one(colour: str) -> None:
    """What a legend names is in the style sheet, for both."""
    text = made(torn(), whole())
    assert text.count(f"--{colour}: #") == 2
    assert f"i.{colour} {{ background: var(--{colour}); }}" in text


def test_the_window_is_the_same_in_every_picture() -> None:
    """What does not count is under a veil, but for the memory, which is of the whole run; what does is named."""
    for picture in pictures(torn(), whole()):
        for plot in picture.plots:
            marks = [node for node in ElementTree.fromstring(plot) if node.get("class") == "veil"]
            [counted] = [node for node in ElementTree.fromstring(plot) if node.get("class") == "storm"]
            assert "storm: counted" in plot
            if picture.title != "Memory of the process":
                before, after = ((float(m.get("x", 0)), float(m.get("width", 0))) for m in marks)
                assert before[0] + before[1] == pytest.approx(float(counted.get("x", 0)), abs=0.2)
                assert after[0] == pytest.approx(before[0] + 2 * before[1], abs=0.2)
                # To the end of the frame, where the other side may have more to show, and the lines on its edges too.
                assert sum(after) == pytest.approx(WIDTH - RIGHT, abs=0.2)
                tops = {float(m.get("y", 0)) for m in marks}
                bottoms = {float(m.get("y", 0)) + float(m.get("height", 0)) for m in marks}
                assert max(tops) < float(counted.get("y", 0))
                assert min(bottoms) > float(counted.get("y", 0)) + float(counted.get("height", 0))


def test_what_is_offered_is_seen_before_what_is_accepted() -> None:
    """Also where the collector takes more than there is, in the calm."""
    plot = pictures(torn(), whole())[0].plots[1]
    assert plot.index('class="accepted"') < plot.index('class="line offered"')


def test_a_card_has_the_colour_of_who_is_better() -> None:
    """Also where that is not ours; and where both are alike, neither has one."""
    [ended] = whole().closings
    slow = replace(whole(), closings=[replace(ended, ends=replace(ended.ends, p99=3e-4))])

    def classes(stock: Outcome, ours: Outcome, text: str) -> list[str]:
        return re.findall(r"<dd class='(\w*)'>", made(stock, ours).split(f"<dt>{text}</dt>")[1].split("</div>")[0])

    assert classes(torn(), whole(), "failed traces that arrive whole") == ["worse", "better"]
    assert classes(torn(), slow, r"99 of 100 calls of Span.end() take at most") == ["better", "worse"]
    assert classes(torn(), whole(), r"99 of 100 calls of Span.end() take at most") == ["even", "even"]
    assert classes(slow, torn(), r"99 of 100 calls of Span.end() take at most") == ["worse", "better"]


def test_what_is_explained() -> None:
    """Each phase that was seen, why the offered rate falls, what counts, and what a difference between runs is."""
    text = " ".join(Elements(made(torn(), whole())).text)
    for phase in PHASES:
        assert f"{phase.replace('_', ' ')}" in text
    for words in (
        "Nothing presses",
        "from 200 to 200 spans a second at 10 s is the end of the storm",
        "start from 5 s after the beginning of the storm until its end",
        "Two runs of the same side differ",
    ):
        assert words in text
    assert "Nothing presses" not in made(torn(), None)  # stock has no phases


def test_one_side_alone() -> None:
    """Interrupted before the second side began, the page has what there is."""
    elements = Elements(made(torn(), None))
    assert elements.tags().count("svg") == 6
    assert "otel-shed" in elements.text  # the table's heading


def test_nothing_to_show() -> None:
    """Nothing started, or nothing arrived: no picture without traces, and none that fails for want of spans."""
    nothing = replace(torn(), started=[], arrived=[], closings=[], readings=[])
    assert nothing.window is None
    assert pictures(nothing, None) == []
    Elements(made(nothing, None))
    for picture in pictures(replace(torn(), arrived=[]), replace(whole(), arrived=[], readings=whole().readings[:1])):
        for plot in picture.plots:
            ElementTree.fromstring(plot)


# -- plots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [(0, 1), (0.3, [0, 0.1, 0.2, 0.3]), (5_200, [0, 2000, 4000, 6000]), (100, [0, 50, 100]), (7, [0, 2, 4, 6, 8])],
)
def test_round_ticks(highest: float, ticks: object) -> None:
    """From 0 to a round number that is at least the highest."""
    axis = linear(highest, lambda value: f"{value:g}")
    assert axis.high >= highest
    assert axis.ticks[-1][0] == axis.high
    if isinstance(ticks, list):
        assert [value for value, _ in axis.ticks] == pytest.approx(ticks)


def test_powers_of_ten() -> None:
    """The axis begins and ends with one, whatever is between, and has two at least."""
    assert [text for _, text in logarithmic(3e-6, 0.02, lambda value: f"{value:g}").ticks] == [
        "1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"
    ]  # fmt: skip
    assert logarithmic(1.0, 1.0, str).high == 10.0
    assert logarithmic(0.001, 0.1, str).share(0.01) == pytest.approx(0.5)
    assert logarithmic(0.001, 0.1, str).share(0.0) == 0.0


def test_time_ends_where_it_ends() -> None:
    """The axis is as long as what is shown, with ticks within."""
    axis = time_axis(17.3)
    assert (axis.low, axis.high) == (0.0, 17.3)
    assert [text for _, text in axis.ticks] == ["0 s", "5 s", "10 s", "15 s"]


def test_marks_stay_in_the_frame() -> None:
    """What is beyond the axes is drawn at their ends; text is escaped."""
    plot = Plot(Axis(0, 10), Axis(0, 1), "a <b> & c", strip=20)
    plot.line([(-5, -5), (20, 20)], "line")
    plot.dot(100, 100, "dot")
    plot.band(0, 100, "band", "<i>")
    root = ElementTree.fromstring(plot.render())
    width, height = (float(each) for each in root.get("viewBox", "").split()[2:])
    for node in root:
        for name, limit in (("cx", width), ("cy", height), ("x", width), ("y", height)):
            assert 0 <= float(node.get(name, 0)) <= limit
    assert root.get("aria-label") == "a <b> & c"


def test_a_word_that_does_not_fit() -> None:
    """A short phase has no word in its band, only its colour and a title."""
    plot = Plot(Axis(0, 100), Axis(0, 1), "", strip=20)
    plot.band(0, 1, "phase observe", "observe")
    assert "<text" not in plot.render().replace("class='tick'", "")
    assert "<title>observe</title>" in plot.render()
