"""The pictures of a storm, both sides on the same axes.

Pure functions: what the sides have told in, SVG out. Times are seconds from the storm's beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from otel_shed.command.storm.explained import PHASES, offered_rate
from otel_shed.command.storm.figures import Trace, traces_of
from otel_shed.command.storm.run import Outcome, Plan
from otel_shed.command.storm.svg import Axis, Plot, Point, linear, logarithmic, time_axis
from otel_shed.command.storm.testimony import Reading
from otel_shed.control.phase import Phase


@dataclass(frozen=True)
class Picture:
    """A title, what is to be seen, what the colours mean (CSS class and words), and a plot for each side.

    notes: words, and what they mean.
    """

    title: str
    text: str
    legend: Sequence[tuple[str, str]]
    plots: Sequence[str]
    notes: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class View:
    """One side, made ready. counts, ends: from when on traces count, and the storm's end; lasts: all of it."""

    name: str
    plan: Plan
    capacity: float
    counts: float
    ends: float
    lasts: float
    traces: Sequence[Trace]
    readings: Sequence[Reading]
    began: float
    accepted: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, name: str, outcome: Outcome) -> View | None:
        """None if nothing was started."""
        window = outcome.window
        if window is None:
            return None
        arrived = [span.at - window.began for span in outcome.arrived]
        lasts = max([outcome.readings[-1].at - window.began, *arrived])
        return cls(
            name=name,
            plan=outcome.plan,
            capacity=window.capacity,
            counts=min(window.settled, window.ended) - window.began,
            ends=window.ended - window.began,
            lasts=lasts,
            traces=list(traces_of(outcome.started, outcome.arrived).values()),
            readings=outcome.readings,
            began=window.began,
            accepted=Counter(int(at) for at in arrived),
        )

    def start_of(self, trace: Trace) -> float:
        return trace.started.at - self.began

    def by_second(self, value: Callable[[Trace], float]) -> dict[int, float]:
        """The sum of a value over the traces that start in a second."""
        sums: dict[int, float] = {}
        for trace in self.traces:
            if trace.started.is_sampled:
                second = int(self.start_of(trace))
                sums[second] = sums.get(second, 0.0) + value(trace)
        return sums

    @property
    def failed(self) -> list[Trace]:
        return [trace for trace in self.traces if trace.started.failed and trace.started.is_sampled]

    def series(self, value: Callable[[Reading], float]) -> list[Point]:
        """A value of the readings over time."""
        return [(reading.at - self.began, value(reading)) for reading in self.readings if reading.at >= self.began]

    def phases(self) -> Iterator[tuple[float, float, str]]:
        """From when to when it was in which phase."""
        begun, phase = 0.0, ""
        for at, reading in ((reading.at - self.began, reading) for reading in self.readings):
            if reading.phase != phase:
                if phase:
                    yield begun, at, phase
                begun, phase = max(0.0, at), reading.phase
        if phase:
            yield begun, self.lasts, phase


def pictures(stock: Outcome | None, ours: Outcome | None) -> list[Picture]:
    """All of them, for the sides that there are."""
    given = (("stock", stock), ("otel-shed", ours))
    views = [view for name, outcome in given if outcome is not None and (view := View.of(name, outcome)) is not None]
    if not views:
        return []
    time = time_axis(max(view.lasts for view in views))
    return [draw(views, time) for draw in (_spans, _capacity, _failures, _estimates, _latency, _memory)]


def _highest(series: Iterable[Iterable[float]]) -> float:
    return max((value for each in series for value in each), default=1.0)


def _plot(view: View, x: Axis, y: Axis, what: str, *, height: int = 190, strip: int = 0) -> Plot:
    plot = Plot(x, y, f"{what}, {view.name}", height=height, strip=strip)
    plot.region(0.0, view.counts, "uncounted", "storm begins")
    plot.region(view.counts, view.ends, "storm", "storm: counted")
    if view.lasts > view.ends:
        plot.region(view.ends, view.lasts, "calm", "calm")
    return plot


def _pale(plot: Plot, view: View) -> str:
    """The plot, with what does not count under a veil."""
    plot.veil(0.0, view.counts)
    plot.veil(view.ends)
    return plot.render()


def _count(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:,.0f}"


def _spans(views: Sequence[View], time: Axis) -> Picture:
    offered = {view.name: _rate(view) for view in views}
    y = linear(_highest((value for _, value in points) for points in offered.values()), _count)
    plots = []
    for view in views:
        plot = _plot(view, time, y, "spans a second", strip=22)
        steps = [
            point
            for second in range(int(view.lasts))
            for point in ((second, view.accepted[second]), (second + 1, view.accepted[second]))
        ]
        plot.area(steps, "accepted")
        plot.line(offered[view.name], "offered")
        plot.rule(view.capacity, f"what the collector takes: {view.capacity:,.0f}")
        for begins, ends, phase in view.phases():
            plot.band(begins, ends, f"phase {phase}", _words(phase))
        plots.append(_pale(plot, view))
    return Picture(
        "Spans a second",
        "What the program started, and what the collector accepted. The strip below is otel-shed's phase.",
        [("offered", "offered"), ("accepted", "accepted"), *((f"phase {name}", text) for name, text in _named(views))],
        plots,
        [
            ("offered", offered_rate(views[0].plan, ended=views[0].ends, lasts=views[0].lasts)),
            *((text, PHASES[Phase(name)]) for name, text in _named(views)),
        ],
    )


def _named(views: Sequence[View]) -> list[tuple[str, str]]:
    """The phases that there were, in order, by name and in words."""
    seen = {phase for view in views for _, _, phase in view.phases()}
    return [(phase.value, _words(phase.value)) for phase in Phase if phase.value in seen]


def _words(phase: str) -> str:
    return phase.replace("_", " ")


def _rate(view: View) -> list[Point]:
    """Spans started a second, from reading to reading; no interval is half storm and half calm."""
    points: list[Point] = []
    for is_storm in (True, False):
        readings = [reading for reading in view.readings if reading.at >= view.began and reading.is_storm is is_storm]
        rates = [
            (later.at - view.began, (later.started - earlier.started) / (later.at - earlier.at))
            for earlier, later in zip(readings, readings[2:], strict=False)
            if later.at > earlier.at
        ]
        if rates:
            # From the beginning of its part to the end of it.
            first = 0.0 if is_storm else view.ends
            last = [(view.ends, rates[-1][1])] if is_storm else []
            points += [(first, rates[0][1]), *rates, *last]
    return points


def _capacity(views: Sequence[View], time: Axis) -> Picture:
    sums = {
        view.name: (
            view.by_second(lambda trace: trace.arrived if trace.is_whole else 0),
            view.by_second(lambda trace: 0 if trace.is_whole else trace.arrived),
        )
        for view in views
    }
    y = linear(_highest([whole[at] + torn[at] for at in whole] for whole, torn in sums.values()), _count)
    plots = []
    for view in views:
        plot = _plot(view, time, y, "spans delivered of whole and of torn traces")
        whole, torn = sums[view.name]
        for at, value in whole.items():
            plot.column(at, at + 1, 0, value, "whole", f"{value:,.0f} spans of whole traces")
            plot.column(at, at + 1, value, value + torn[at], "torn", f"{torn[at]:,.0f} spans of torn traces")
        plots.append(_pale(plot, view))
    return Picture(
        "What the collector's capacity was spent on",
        "Spans delivered, by the second in which their trace started: of traces that arrived whole, and of torn ones.",
        [("whole", "of whole traces"), ("torn", "of torn traces")],
        plots,
    )


# From the top down.
_FATES = (("whole", "whole"), ("in part", "torn"), ("not at all", "lost"))


def _fate(trace: Trace) -> int:
    return 0 if trace.is_whole else 1 if trace.arrived else 2


def _failures(views: Sequence[View], time: Axis) -> Picture:
    plots = []
    for view in views:
        fates = Counter(_fate(trace) for trace in view.failed if view.counts <= view.start_of(trace) < view.ends)
        y = Axis(0.0, 3.0, [(2.5 - lane, f"{fates[lane]}") for lane in range(3)])
        plot = _plot(view, time, y, "failed traces", height=130)
        for trace in view.failed:
            lane = _fate(trace)
            # Neighbours in time stand at different heights of their lane.
            spread = (int(trace.started.trace_id[-2:], 16) / 255 - 0.5) * 0.6
            plot.dot(view.start_of(trace), 2.5 - lane + spread, _FATES[lane][1])
        plots.append(_pale(plot, view))
    return Picture(
        "Failed traces",
        "Each dot is a trace with an error, where it started; at the left stands how many of each kind count.",
        [(css, f"arrived {text}") for text, css in _FATES],
        plots,
    )


def _estimates(views: Sequence[View], time: Axis) -> Picture:
    sums = {
        view.name: (view.by_second(lambda _: 1.0), view.by_second(lambda trace: trace.adjusted_count)) for view in views
    }
    y = linear(_highest([*true.values(), *guess.values()] for true, guess in sums.values()), _count)
    plots = []
    for view in views:
        plot = _plot(view, time, y, "traces started and estimated")
        true, guess = sums[view.name]
        for at, value in guess.items():
            plot.column(at, at + 1, 0, value, "guess", f"estimated {value:,.0f}, true {true[at]:,.0f}")
        plot.line([point for at in sorted(true) for point in ((at, true[at]), (at + 1, true[at]))], "true")
        plots.append(_pale(plot, view))
    return Picture(
        "Traces a second, estimated",
        "What a back end would count from what arrived, each trace by its sampling threshold (ot=th), and the truth.",
        [("guess", "estimated"), ("true", "started")],
        plots,
    )


def _duration(seconds: float) -> str:
    unit, name = next((each for each in ((1e-6, "µs"), (1e-3, "ms")) if seconds < 999 * each[0]), (1.0, "s"))
    return f"{seconds / unit:g} {name}"


def _latency(views: Sequence[View], time: Axis) -> Picture:
    ends = {view.name: [each for each in view.readings if each.ends.spans] for view in views}
    shortest = min((each.ends.p50 for found in ends.values() for each in found), default=1e-6)
    y = logarithmic(
        max(shortest, 1e-7), _highest([each.ends.longest for each in found] for found in ends.values()), _duration
    )
    plots = []
    for view in views:
        plot = _plot(view, time, y, "Span.end()")
        for css, value in (("longest", "longest"), ("p99", "p99"), ("median", "p50")):
            plot.line([(each.at - view.began, getattr(each.ends, value)) for each in ends[view.name]], css)
        plots.append(_pale(plot, view))
    return Picture(
        "What Span.end() took",
        "The application waits for so long; every quarter of a second, on a scale of powers of ten.",
        [("longest", "longest"), ("p99", "99th percentile"), ("median", "median")],
        plots,
    )


def _memory(views: Sequence[View], time: Axis) -> Picture:
    series = {view.name: view.series(lambda reading: reading.memory / 2**20) for view in views}
    y = linear(_highest((value for _, value in points) for points in series.values()), lambda value: f"{value:g} MiB")
    plots = []
    for view in views:
        plot = _plot(view, time, y, "memory of the process", height=150)
        plot.area(series[view.name], "memory")
        plots.append(plot.render())
    return Picture("Memory of the process", "Resident, all of it: Python and the SDK too.", [("memory", "RSS")], plots)
