"""How the doctor's report is printed: for people, as wide as the terminal and as soon as it is known, or as JSON.

Called by the doctor's main thread. The rule: what is said is the same in both; the libraries' own words for a failure
are in the JSON, and for people only where they ask for them.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any, Protocol, TextIO

from otel_shed.command.setup import Row
from otel_shed.command.survey import Finding, Mark

_MARK = 6
# A URL that is wider than the terminal is left to it, so that it can be copied.
_WHOLE: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
# Longer lines are hard to read; narrower than that nothing is.
_WIDEST, _NARROWEST = 110, 40


def terminal_width() -> int:
    """Columns to print in: the terminal's, within reason; the widest where there is none."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns))


class DoctorReport(Protocol):
    """Where the doctor puts what it finds."""

    def line(self, key: str, text: str) -> None:
        """A line of its own; ``key`` names it."""

    def section(self, title: str, findings: Iterable[Finding]) -> list[Finding]:
        """Findings under a title; the same, for who goes by them."""

    def table(self, title: str, rows: Iterable[Row]) -> None:
        """Settings under a title."""

    def end(self, arrived: bool, text: str) -> None:
        """What it all comes to."""


class TextReport:
    """For people."""

    def __init__(self, out: TextIO, *, width: int, verbose: bool) -> None:
        self._out = out
        self._width = width
        self._verbose = verbose
        self._hides = False

    def line(self, key: str, text: str) -> None:
        self._out.write(textwrap.fill(text, self._width, subsequent_indent="  ", **_WHOLE) + "\n")

    def section(self, title: str, findings: Iterable[Finding]) -> list[Finding]:
        """Each line as soon as it is known; no title where there is none."""
        seen: list[Finding] = []
        for finding in findings:
            if not seen:
                self._out.write(f"\n{title}\n")
            seen.append(finding)
            self._write(f"  {finding.mark.value:<{_MARK}}", finding.text)
            if finding.raw and self._verbose:
                self._write(" " * (_MARK + 2), f"in the library's words: {finding.raw}")
            self._hides = self._hides or bool(finding.raw and not self._verbose)
            self._out.flush()
        return seen

    def table(self, title: str, rows: Iterable[Row]) -> None:
        rows = list(rows)
        names, values = max(len(row.name) for row in rows), max(len(row.value) for row in rows)
        self._out.write(f"\n{title}\n")
        sources = [f"({row.source})" if row.source else "" for row in rows]
        lines = [
            f"  {row.name:<{names}}  {row.value:<{values}}  {source}".rstrip()
            for row, source in zip(rows, sources, strict=True)
        ]
        if max(map(len, lines)) <= self._width:
            self._out.writelines(f"{line}\n" for line in lines)
            return
        for row, source in zip(rows, sources, strict=True):
            self._write(f"  {row.name:<{names}}  ", f"{row.value} {source}".rstrip())

    def end(self, arrived: bool, text: str) -> None:
        self._out.write(f"\n{text}\n")
        if self._hides:
            self._out.write("--verbose adds the libraries' own words.\n")

    def _write(self, begin: str, text: str) -> None:
        margin = " " * len(begin)
        filled = textwrap.fill(text, self._width, initial_indent=margin, subsequent_indent=margin, **_WHOLE)
        self._out.write(f"{begin}{filled[len(margin) :]}\n")


class JSONReport:
    """For programs: one object, written at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._parts: dict[str, Any] = {}

    def line(self, key: str, text: str) -> None:
        self._parts[key] = text

    def section(self, title: str, findings: Iterable[Finding]) -> list[Finding]:
        seen = list(findings)
        self._parts[_key(title)] = [
            {"mark": finding.mark.value.lower(), "text": finding.text} | ({"raw": finding.raw} if finding.raw else {})
            for finding in seen
        ]
        return seen

    def table(self, title: str, rows: Iterable[Row]) -> None:
        self._parts[_key(title)] = [
            {"name": row.name, "value": row.value, "source": row.source} for row in rows if row.value
        ]

    def end(self, arrived: bool, text: str) -> None:
        self._parts |= {"arrived": arrived, "result": text}
        json.dump(self._parts, self._out, indent=2)
        self._out.write("\n")


def _key(title: str) -> str:
    return title.lower().replace(" ", "_").replace("-", "_")


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a failure."""
    return any(finding.mark is Mark.FAIL for finding in findings)
