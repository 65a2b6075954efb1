"""The demo without its processes: what is seen live, what is printed, and what it comes to."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from otel_shed.command import demo
from otel_shed.command.companion import StartError
from otel_shed.command.demo import DemoOptions, run_demo
from otel_shed.command.output import OutputError, check_writable
from otel_shed.command.storm.live import HEADING, Tally, row
from otel_shed.command.storm.run import OURS, STOCK, Outcome, Plan, SideName
from tests.command.made_outcomes import BEGAN, PLAN, SPANS, outcome, torn, whole


class MadeUp:
    """Sides that have told at once, and those that were made, in order."""

    def __init__(self, stock: Outcome, ours: Outcome, *, interrupt: SideName | None = None) -> None:
        self._outcomes = {STOCK: stock, OURS: ours}
        self._interrupt = interrupt
        self.events: list[str] = []

    def __call__(self, name: SideName, plan: Plan) -> MadeUpSide:
        self.events.append(f"{name} begins")
        return MadeUpSide(name, self._outcomes[name], self.events, interrupted=name == self._interrupt)


class MadeUpSide:
    collector_name = "nobody"
    why_no_rotel = ""

    def __init__(self, name: SideName, told: Outcome, events: list[str], *, interrupted: bool) -> None:
        self.name, self.outcome, self._events, self._interrupted = name, told, events, interrupted
        self._looks = iter([True, False])

    @property
    def running(self) -> bool:
        if self._interrupted:
            raise KeyboardInterrupt
        return next(self._looks, False)

    def hurry(self) -> None:
        pass

    def finish(self) -> Outcome:
        self._events.append(f"{self.name} ends")
        return self.outcome

    def __enter__(self) -> MadeUpSide:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.append(f"{self.name} is gone")


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def play(
    monkeypatch: pytest.MonkeyPatch, sides: MadeUp, out: io.StringIO, *, cores: int = 2, page: Path | None = None
) -> tuple[int, str]:
    monkeypatch.setattr(demo, "Side", sides)
    monkeypatch.setattr(demo, "_cores", lambda: cores)
    return run_demo(DemoOptions(plan=PLAN, page=page), out), out.getvalue()


def test_a_storm(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, tmp_path: Path) -> None:
    """Both sides are in the table, the page is written where it was asked for, and where that is is said."""
    file = tmp_path / "page.html"
    status, text = play(monkeypatch, MadeUp(torn(), whole()), out, page=file)
    assert status == 0
    assert "  delivered traces that are whole                      0.0 %     100.0 %\n" in text
    assert "\nOK: " in text
    assert str(file) in text
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other where there are few cores; else both at the same time."""
    few, many = MadeUp(torn(), whole()), MadeUp(torn(), whole())
    play(monkeypatch, few, io.StringIO(), cores=2)
    play(monkeypatch, many, io.StringIO(), cores=4)
    assert few.events == [f"{name} {what}" for name in (STOCK, OURS) for what in ("begins", "ends", "is gone")]
    assert many.events[:4] == ["stock begins", "otel-shed begins", "stock ends", "otel-shed ends"]


@pytest.mark.parametrize("cores", [2, 4])
@pytest.mark.parametrize("name", [STOCK, OURS])
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, name: SideName, cores: int) -> None:
    """Every side that has begun ends and is gone, none begins any more, and what there is is printed."""
    sides = MadeUp(torn(), whole(), interrupt=name)
    status, text = play(monkeypatch, sides, out, cores=cores)
    assert status == 0
    assert text.count("Interrupted") == 1
    assert "delivered traces that are whole" in text
    begun = [event.removesuffix(" begins") for event in sides.events if event.endswith("begins")]
    assert begun == ([STOCK] if name == STOCK and cores == 2 else [STOCK, OURS])
    for each in begun:
        assert sides.events.count(f"{each} is gone") == 1


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (replace(whole(), counted=7), "the collector behind it counted 7 spans, the account has 500 exported"),
        (replace(whole(), arrived=whole().arrived[1:]), "the limited collector counted 499 spans"),
        (replace(whole(), closings=[]), "the program with otel-shed did not come to its end"),
    ],
)
def test_what_does_not_agree(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, ours: Outcome, words: str) -> None:
    """The exit status is 1, and what it is is said."""
    status, text = play(monkeypatch, MadeUp(torn(), ours), out)
    assert status == 1
    assert words in text


def test_spans_that_are_unaccounted_for(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    """By the account itself, or because the program ended others than the account has."""
    made = whole()
    [closing] = made.closings
    ours = replace(made, closings=[replace(closing, ended=2103, last=replace(closing.last, unaccounted=2))])
    assert ours.unaccounted == 5
    status, text = play(monkeypatch, MadeUp(torn(), ours), out)
    assert status == 1
    assert "5 spans are unaccounted for" in text


def test_a_page_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, out: io.StringIO, tmp_path: Path) -> None:
    """It is said before any process is started."""
    sides = MadeUp(torn(), whole())
    for page in (tmp_path, tmp_path / "missing" / "page.html"):
        with pytest.raises(OutputError, match=str(page)):
            play(monkeypatch, sides, out, page=page)
    assert (sides.events, out.getvalue()) == ([], "")


def test_a_page_that_can_no_longer_be_written(
    monkeypatch: pytest.MonkeyPatch, out: io.StringIO, tmp_path: Path
) -> None:
    """It is said, and the status is 1; the figures are there all the same."""
    folder = tmp_path / "folder"
    folder.mkdir()

    class Removes(MadeUp):
        def __call__(self, name: SideName, plan: Plan) -> MadeUpSide:
            if name == OURS:
                folder.rmdir()
            return super().__call__(name, plan)

    status, text = play(monkeypatch, Removes(torn(), whole()), out, page=folder / "page.html")
    assert status == 1
    assert "The page could not be written" in text
    assert "OK: " in text


def test_a_page_that_is_there_is_kept_until_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That it can be written is found out without writing it, and leaves no file behind."""
    old, new = tmp_path / "old.html", tmp_path / "new.html"
    old.write_text("of yesterday")
    monkeypatch.setattr(demo, "Side", MadeUp(torn(), whole()))
    check_writable([old, new])
    assert old.read_text() == "of yesterday"
    assert not new.exists()


def test_no_page(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    """Where none is asked for there is no word of it."""
    assert "page" not in play(monkeypatch, MadeUp(torn(), whole()), out)[1]


def test_a_side_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, out: io.StringIO) -> None:
    """The command hears of it, and the other side is gone."""
    sides = MadeUp(torn(), whole())

    def start(name: SideName, plan: Plan) -> MadeUpSide:
        if name == OURS:
            raise StartError("no processes left")
        return sides(name, plan)

    monkeypatch.setattr(demo, "Side", start)
    monkeypatch.setattr(demo, "_cores", lambda: 4)
    with pytest.raises(StartError):
        run_demo(DemoOptions(plan=PLAN, page=None), out)
    assert sides.events[-1] == "stock is gone"


# -- the row -----------------------------------------------------------------------------------------------------


def test_the_tally() -> None:
    """It comes to the same whether all is taken at once or bit by bit, in any order of spans and traces.

    And it is what the table has: traces that start in the window, each span once.
    """
    made = outcome(lambda number: number % (SPANS + 1), phases=True)
    made = replace(made, arrived=[*made.arrived, *made.arrived[500:600]])
    at_once, bit_by_bit = Tally(), Tally()
    at_once.take(made)
    for share in range(11):
        spans, traces = len(made.arrived) * share // 10, len(made.started) * max(0, share - 2) // 8
        part = replace(made, arrived=made.arrived[:spans], started=made.started[:traces])
        if share < 10:  # not over yet
            part = replace(part, storm=(BEGAN, None if traces < 200 else BEGAN + 10), closings=[])
        bit_by_bit.take(part)
    figures = made.figures()
    assert figures is not None
    for tally in (at_once, bit_by_bit):
        assert tally.whole == figures.whole == sum(number % (SPANS + 1) == SPANS for number in range(100, 200))
        assert tally.in_part == figures.traces - figures.whole
        assert tally.in_part == sum(0 < number % (SPANS + 1) < SPANS for number in range(100, 200))
        assert tally.failed == figures.failed == 10
        assert tally.failed_whole == figures.failed_whole
        assert (tally.load, tally.phase) == ("calm", "recovery")


def test_the_row_stands_under_its_heading() -> None:
    """Columns end where their headings do; a side that has not begun is left blank."""
    stock, ours = Tally(), Tally()
    stock.take(torn())
    names = HEADING.splitlines()[1]
    before = row(stock, ours)
    assert before.split() == ["14.8", "calm", "0", "100", "0/10"]
    ours.take(replace(whole(), readings=[]))
    ours.take(whole())
    after = row(stock, ours)
    for count, heading in (("0", "whole"), ("100", "in part")):
        assert after.index(count) + len(count) == names.index(heading) + len(heading)
    assert after.endswith("recovery")
    assert len(f"{after.removesuffix('recovery')}shed optional") < 80
