"""The page that lays the two sides of a storm beside each other: one HTML file, with everything in it.

Pure functions: outcomes in, text out. The rule: it needs no other file, no network and no script, and can be read in
light and in dark, on paper and on a telephone.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.metadata import version

from otel_shed.command.storm.explained import differences, what_counts
from otel_shed.command.storm.figures import Figures, settling_seconds
from otel_shed.command.storm.pictures import Picture, pictures
from otel_shed.command.storm.run import Outcome, Plan
from otel_shed.command.storm.style import STYLE
from otel_shed.command.storm.table import HEADLINES, cells, counted_time, groups


@dataclass(frozen=True, kw_only=True)
class Show:
    """What there is to lay out. counted_by: who counted what was accepted, in words."""

    plan: Plan
    stock: Outcome | None
    ours: Outcome | None
    counted_by: str


def page(show: Show) -> str:
    """The file."""
    stock, ours = (outcome.figures() if outcome else None for outcome in (show.stock, show.ours))
    parts = [
        f"<h1>The same storm, twice</h1>\n<p class='lead'>{_lead(show.plan)}</p>",
        _headlines(show.plan, stock, ours),
        *(_figure(picture, _sides(show)) for picture in pictures(show.stock, show.ours)),
        _table(stock, ours),
        _notes(show),
    ]
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        "<meta name='color-scheme' content='light dark'>\n"
        f"<title>otel-shed: the same storm, twice</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _sides(show: Show) -> list[str]:
    return [name for name, outcome in (("stock", show.stock), ("otel-shed", show.ours)) if outcome and outcome.window]


def _lead(plan: Plan) -> str:
    how = "answers late" if plan.mode == "slow" else "refuses what is more, and says when to come again"
    return (
        f"A program has {plan.rate:,.0f} spans a second to tell, in ten-span traces of two seconds, "
        f"{100 * plan.failing:g} % of them failing; its collector takes {plan.capacity:,.0f}, and {how}. "
        "Once its spans go through the BatchSpanProcessor and the exporter of OpenTelemetry itself, "
        "and once through otel-shed."
    )


def _headlines(plan: Plan, stock: Figures | None, ours: Figures | None) -> str:
    left, right = (cells(each) if each else {} for each in (stock, ours))
    cards = ""
    for each in HEADLINES:
        sides = zip(("stock", "otel-shed"), (left, right), each.verdicts(stock, ours), strict=True)
        cards += f"<div><dt>{escape(each.text)}</dt>" + "".join(
            f"<dd class='{verdict}'><span>{name}</span> <b>{_nice(found.get(each.label, '-'))}</b></dd>"
            for name, found, verdict in sides
        )
        cards += "</div>"
    return (
        f"<dl class='cards'>{cards}</dl>\n<p class='key'>{counted_time(settling_seconds(plan.seconds))}, as is all "
        "that is counted on this page. <span class='better'>Blue, bold,</span> is the better side and "
        "<span class='worse'>orange</span> the worse one, whichever that is; where they differ by no more than two "
        "runs of the same side do, neither has a colour.</p>"
    )


def _figure(picture: Picture, sides: Sequence[str]) -> str:
    legend = "".join(f"<span><i class='{css}'></i>{escape(text)}</span>" for css, text in picture.legend)
    plots = "".join(
        f"<figure><figcaption>{side}</figcaption>{plot}</figure>"
        for side, plot in zip(sides, picture.plots, strict=True)
    )
    return (
        f"<section>\n<h2>{escape(picture.title)}</h2>\n<p>{escape(picture.text)}</p>\n"
        f"<p class='legend'>{legend}</p>\n<div class='pair'>{plots}</div>\n{_explained(picture)}</section>"
    )


def _explained(picture: Picture) -> str:
    if not picture.notes:
        return ""
    notes = "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>\n" for word, meaning in picture.notes)
    return f"<dl class='notes'>\n{notes}</dl>\n"


def _table(stock: Figures | None, ours: Figures | None) -> str:
    bodies = ""
    for time, rows in groups(stock, ours).items():
        lines = "".join(
            f"<tr><th scope='row'>{escape(label)}</th><td>{_nice(left)}</td><td>{_nice(right)}</td></tr>\n"
            for label, left, right in rows
        )
        bodies += f"<tbody>\n<tr><th scope='rowgroup' colspan='3'>{escape(time)}</th></tr>\n{lines}</tbody>\n"
    return (
        "<section>\n<h2>All figures</h2>\n<table>\n<thead><tr><td></td><th scope='col'>stock</th>"
        f"<th scope='col'>otel-shed</th></tr></thead>\n{bodies}</table>\n</section>"
    )


def _notes(show: Show) -> str:
    return (
        "<section>\n<h2>How it was measured</h2>\n<ul>\n"
        + "".join(f"<li>{note}</li>\n" for note in _said(show))
        + ("</ul>\n</section>")
    )


def _said(show: Show) -> Iterator[str]:
    plan = show.plan
    yield (
        "Each side has a process of its own for the program and one for its collector, which talk OTLP "
        f"({escape(plan.protocol)}) on loopback. The storm lasts {plan.seconds:g} s, the calm after it, at "
        f"{plan.calm_rate:,.0f} spans a second, {plan.calm:g} s."
    )
    yield what_counts(settling_seconds(plan.seconds))
    yield differences()
    yield f"What was accepted was counted by {escape(show.counted_by)}{_counts(show)}."
    yield (
        "A trace that arrives stands for one over its sampling probability, which its spans carry as a threshold "
        "(<code>ot=th</code>); one without a threshold stands for itself."
    )
    yield f"otel-shed {_version('otel-shed')}, OpenTelemetry SDK {_version('opentelemetry-sdk')}, {_python()}."


def _counts(show: Show) -> str:
    counts = [
        f"{outcome.counted:,} spans of {name}" for name, outcome in (("stock", show.stock), ("otel-shed", show.ours))
        if outcome is not None and outcome.counted is not None
    ]  # fmt: skip
    return f": {' and '.join(counts)}" if counts else ""


def _version(package: str) -> str:
    return escape(version(package))


def _python() -> str:
    return escape(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")


def _nice(text: str) -> str:
    """A cell of the table in the page's typography: a true minus, a true micro, spaces that do not break."""
    text = text.replace("-", "\N{MINUS SIGN}" if len(text) > 1 else "\N{EN DASH}").replace(" us", " \N{MICRO SIGN}s")
    return escape(text).replace(" ", "\u00a0")
