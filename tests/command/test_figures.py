"""What a storm came to, from made-up traces and arrivals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import pytest

from otel_shed.command.storm.figures import Figures, Window, make_figures, settling_seconds
from otel_shed.command.storm.table import HEADLINES, Verdict, cells, groups, table
from otel_shed.command.storm.testimony import Arrived, EndTimes, Started

# From 0 to 20 s; what starts from the fifth second on counts.
WINDOW = Window(began=100.0, ended=120.0, capacity=10.0)
HALF = 1 << 55


def trace(name: str, at: float = 10.0, *, spans: int = 2, failed: bool = False, is_sampled: bool = True) -> Started:
    return Started(name, WINDOW.began + at, spans, failed, is_sampled)


def arrival(name: str, span: int, at: float = 11.0, threshold: int | None = None, parent: int | None = None) -> Arrived:
    return Arrived(name, f"{name}{span}", "" if parent is None else f"{name}{parent}", False, threshold, 100.0 + at)


def whole(name: str, at: float = 11.0, threshold: int | None = None) -> list[Arrived]:
    return [arrival(name, 0, at, threshold), arrival(name, 1, at, threshold, parent=0)]


def figures(started: Sequence[Started], arrived: Iterable[Arrived] = ()) -> Figures:
    return make_figures(started, list(arrived), WINDOW, ends=EndTimes())


def test_whole_traces() -> None:
    """Of the traces of which something arrived, those of which all did; of the failed ones, of all."""
    started = [trace("a"), trace("b"), trace("c"), trace("d", failed=True), trace("e", failed=True)]
    found = figures(started, [*whole("a"), arrival("b", 0), *whole("d")])
    assert (found.traces, found.whole, found.whole_share) == (3, 2, 2 / 3)
    assert (found.failed, found.failed_whole, found.failed_whole_share) == (2, 1, 0.5)


def test_nothing() -> None:
    """Where there is nothing to have a share in there is no share, and nothing is divided by it."""
    found = figures([])
    assert (found.whole_share, found.failed_whole_share, found.estimate) == (None, None, None)
    assert (found.accepted, found.capacity_used, found.recovered_after) == (0, 0.0, None)
    assert figures([trace("a")]).whole_share is None


@pytest.mark.parametrize(("storm", "settling"), [(60.0, 5.0), (10.0, 5.0), (4.0, 2.0)])
def test_a_short_storm_counts_from_its_middle(storm: float, settling: float) -> None:
    """The first five seconds do not count, of a storm that is shorter than ten its first half."""
    assert settling_seconds(storm) == settling


def test_a_storm_that_ends_before_anything_counts() -> None:
    """There is no share, no rate and no use of the capacity, rather than one of no time."""
    found = make_figures([trace("a", 1.0)], whole("a", 2.0), replace(WINDOW, ended=103.0), ends=EndTimes())
    assert (found.whole_share, found.offered, found.capacity_used) == (None, None, None)
    assert cells(found)["Span.end(), p99"] == "-"


@pytest.mark.parametrize(("at", "counts"), [(4.9, False), (5.0, True), (19.9, True), (20.0, False)])
def test_what_counts(at: float, counts: bool) -> None:
    """A trace counts by its start: from five seconds after the storm's beginning on, to its end."""
    assert figures([trace("a", at)], whole("a", 25.0)).traces == int(counts)


def test_a_span_that_arrives_twice() -> None:
    """It counts once: a trace is not whole by repetition, and no more of the capacity is used."""
    found = figures([trace("a")], [arrival("a", 0), arrival("a", 0)])
    assert (found.whole, found.accepted, found.repeated) == (0, 1, 1)
    assert found.capacity_used == pytest.approx(1 / 150)


def test_the_estimate() -> None:
    """Each trace of which something arrived stands for one over its probability, 1 without a threshold."""
    started = [trace(name) for name in "abcdefgh"]
    halved = [span for name in "abc" for span in whole(name, threshold=HALF)]
    assert figures(started, [*halved, *whole("d"), *whole("e", threshold=0)]).estimate == pytest.approx(0.0)
    assert figures(started, halved[:2]).estimate == pytest.approx(2 / 8 - 1)
    assert figures(started, whole("a")).estimate == pytest.approx(1 / 8 - 1)


def test_two_thresholds() -> None:
    """Where two processes decided, a trace stands for what the one that keeps more says; that they differ is told."""
    started = [trace(name) for name in "abcd"]
    found = figures(started, [arrival("a", 0, threshold=HALF), arrival("a", 1, threshold=HALF + HALF // 2)])
    assert found.estimate == pytest.approx(2 / 4 - 1)
    assert found.mixed == 1


def test_a_parent_that_decided_not_to_sample() -> None:
    """Its trace counts nowhere; what arrives of it all the same is told."""
    found = figures([trace("a"), trace("b", is_sampled=False)], [*whole("a"), arrival("b", 0)])
    assert (found.traces, found.whole_share, found.estimate, found.unwanted) == (1, 1.0, 0.0, 1)


def test_the_capacity_used() -> None:
    """Spans that were accepted from the fifth second on to the storm's end, whatever trace they are of."""
    early, late = arrival("a", 0, at=4.9), arrival("a", 1, at=20.1)
    found = figures([trace("a", 1.0)], [early, late, *(arrival("b", span, at=5.0 + span / 10) for span in range(75))])
    assert found.capacity_used == pytest.approx(0.5)
    assert found.accepted == 77


def test_orphans() -> None:
    """Spans whose parent did not arrive."""
    started = [trace("a", spans=3), trace("b", 1.0)]
    assert (
        figures(started, [arrival("a", 1, parent=0), arrival("a", 2, parent=1), arrival("b", 1, parent=0)]).orphans == 1
    )


def recovered(*torn: float, until: float = 30.0) -> float | None:
    """With a trace each half second after the storm, all whole but those that start at ``torn``."""
    starts = [20.0 + number / 2 for number in range(int(2 * (until - 20.0)))]
    started = [trace(f"t{at}", at) for at in starts]
    return figures(started, [span for at in starts if at not in torn for span in whole(f"t{at}")]).recovered_after


def test_recovery() -> None:
    """From the first trace on after the last that is torn; None as long as that has not lasted for a second."""
    assert recovered() == 0.0
    assert recovered(21.0, 24.0) == pytest.approx(4.5)
    assert recovered(29.5) is None
    assert recovered(28.5) is None
    assert recovered(28.0) == pytest.approx(8.5)
    assert recovered(until=20.0) is None


def test_the_table() -> None:
    """Every figure has a line with both sides; what is not known is a dash, and p99 is also told as a ratio."""
    found = replace(figures([trace("a")], whole("a")), ends=EndTimes(1, 1e-5, 4e-5, 1e-4, 1.0), unaccounted=0)
    other = replace(found, ends=replace(found.ends, p99=3e-5), whole_share=None)
    lines = list(table(other, found))
    assert lines[0].split() == ["stock", "otel-shed"]
    assert "  delivered traces that are whole                          -     100.0 %" in lines
    assert "  p99 of Span.end(), stock = 1                             1        1.33" in lines
    assert len(lines) == len(cells(found)) + 4
    assert [label for rows in groups(None, found).values() for label, _, _ in rows] == list(cells(found))
    assert list(table(None, None)) == lines[:1]


def test_the_table_says_of_what_time_its_figures_are() -> None:
    """What is of the window stands under it, and what is of the whole run under that."""
    lines = list(table(None, figures([trace("a")], whole("a"))))
    counted, run = lines.index("From 5 s of the storm to its end:"), lines.index("The whole run:")
    [traces], [offered], [accepted] = (
        [number for number, line in enumerate(lines) if line.startswith(f"  {label}")]
        for label in ("traces delivered, and whole ones", "spans offered a second, really", "spans accepted, in all")
    )
    assert counted < traces < run
    assert counted < offered < run < accepted


@pytest.mark.parametrize(
    ("stock", "ours", "verdicts"),
    [
        (4e-5, 1e-5, ("worse", "better")),
        (1e-5, 4e-5, ("better", "worse")),
        (1e-5, 1.4e-5, ("even", "even")),
        (None, 1e-5, ("", "")),
    ],
)
def test_who_is_better(stock: float | None, ours: float | None, verdicts: tuple[Verdict, Verdict]) -> None:
    """Whichever side it is, unless they differ by no more than two runs do, or one is not known."""
    made = [
        None if p99 is None else replace(figures([trace("a")]), ends=EndTimes(1, 1e-6, p99)) for p99 in (stock, ours)
    ]
    assert next(each for each in HEADLINES if each.label == "Span.end(), p99").verdicts(*made) == verdicts


def test_who_is_better_at_shares() -> None:
    """More whole traces are better, and an estimate that is nearer to the truth, on either side of it."""
    found = figures([trace("a")], whole("a"))
    worse = replace(found, whole_share=0.5, failed_whole_share=0.0, span_estimate=0.3)
    better = replace(found, whole_share=0.99, failed_whole_share=0.5, span_estimate=-0.1)
    for each in HEADLINES[:3]:
        assert each.verdicts(worse, better) == ("worse", "better")
        assert each.verdicts(better, worse) == ("better", "worse")
        assert each.verdicts(worse, worse) == ("even", "even")


def test_the_table_says_what_is_wrong() -> None:
    """What must not be has a line only if it is."""
    found = figures([trace("a")], whole("a"))
    assert len(cells(replace(found, mixed=1, unwanted=1))) == len(cells(found)) + 2
    assert {field.name for field in fields(found)} >= {"mixed", "unwanted"}
