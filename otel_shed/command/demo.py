"""The demo: the same storm through the stock processor and through otel-shed, seen live, and side by side on a page.

Called by the command on its main thread, which starts the processes of both sides and watches them. The rules: whatever
happens, Ctrl-C included, no process is left when ``run_demo`` has returned; what was seen up to then is printed and
written. The page is known to be writable before anything begins.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from otel_shed.command.output import check_writable
from otel_shed.command.storm.figures import settling_seconds
from otel_shed.command.storm.live import HEADING, Tally, row
from otel_shed.command.storm.page import Show, page
from otel_shed.command.storm.run import OURS, STOCK, Outcome, Plan, Side, SideName
from otel_shed.command.storm.table import table
from otel_shed.command.surroundings import interrupted_by_sigterm
from otel_shed.command.view import LiveView

PAGE = Path("otel-shed-demo.html")
# Two programs and two collectors, none of which is to wait for another's processor.
_CORES_FOR_BOTH = 4


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """page: where to write it; None for none."""

    plan: Plan
    page: Path | None = PAGE


def run_demo(options: DemoOptions, out: TextIO) -> int:
    """Run it; the exit status.

    Raises StartError if one of the processes cannot be started; OutputError, before any is, if the page cannot be
    written.
    """
    if options.page is not None:
        check_writable([options.page])
    with interrupted_by_sigterm():
        return _Demo(options, out, at_the_same_time=_cores() >= _CORES_FOR_BOTH).run()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Demo:
    def __init__(self, options: DemoOptions, out: TextIO, *, at_the_same_time: bool) -> None:
        self._options = options
        self._out = out
        self._together = at_the_same_time
        self._view = LiveView(out, HEADING)
        self._tallies = {STOCK: Tally(), OURS: Tally()}
        self._outcomes: dict[SideName, Outcome] = {}
        self._counted_by = "nobody"
        self._began = time.monotonic()

    def run(self) -> int:
        """Show it; the exit status."""
        self._introduce()
        self._view.open()
        rounds: Sequence[tuple[SideName, ...]] = [(STOCK, OURS)] if self._together else [(STOCK,), (OURS,)]
        try:
            for names in rounds:
                self._play(names)
        except KeyboardInterrupt:
            pass  # said already; a second one only means not to wait
        self._view.close()
        return self._conclude()

    def _introduce(self) -> None:
        plan = self._options.plan
        how = "answers late" if plan.mode == "slow" else "refuses what is more"
        order = "Both sides at the same time" if self._together else "One side after the other"
        where = "in the rows below and in the table" + (", and on the page" if self._options.page else "")
        self._out.write(
            f"Workload:  {plan.rate:,.0f} spans a second for {plan.seconds:g} s, then {plan.calm_rate:,.0f} for "
            f"{plan.calm:g} s; ten-span traces of 2 s, {100 * plan.failing:g} % of them fail.\n"
            f"Collector: takes {plan.capacity:,.0f} spans a second, and {how}; {plan.protocol}, on loopback.\n"
            f"{order}: the stock BatchSpanProcessor, and otel-shed.\n"
            f"Counted:   traces that start from {settling_seconds(plan.seconds):g} s of the storm to its end, "
            f"{where}.\n\n"
        )

    def _play(self, names: Iterable[SideName]) -> None:
        """The sides, from beginning to end; early if interrupted, and then what there is of them is kept."""
        with ExitStack() as stack:
            sides: list[Side] = []
            try:
                for name in names:
                    sides.append(stack.enter_context(Side(name, self._options.plan)))
                    self._counted_by = sides[-1].collector_name
                    if why := sides[-1].why_no_rotel:
                        self._view.say(f"  ({why}; what the limited collector accepts is counted there alone)")
                self._watch(sides)
            except KeyboardInterrupt:
                self._view.say("  Interrupted: what has begun comes to its end.")
                raise
            finally:
                for side in sides:
                    side.hurry()
                    self._outcomes[side.name] = side.outcome
                for side in sides:
                    self._outcomes[side.name] = side.finish()
                    self._tallies[side.name].take(self._outcomes[side.name])
                self._show(force=True)

    def _watch(self, sides: Sequence[Side]) -> None:
        pause = threading.Event()  # waits as sleep() does, and lets Ctrl-C through on every platform
        while any(side.running for side in sides):
            for side in sides:
                self._tallies[side.name].take(side.outcome)
            self._show()
            pause.wait(self._view.refresh)

    def _show(self, *, force: bool = False) -> None:
        text = row(self._tallies[STOCK], self._tallies[OURS])
        self._view.row(time.monotonic() - self._began, text, force=force)

    def _conclude(self) -> int:
        stock, ours = self._outcomes.get(STOCK), self._outcomes.get(OURS)
        figures = [outcome.figures() if outcome else None for outcome in (stock, ours)]
        self._out.write("\n" + "\n".join(table(*figures)) + "\n\n")
        faults = list(_faults(ours))
        self._out.write(f"FAILED: {'; '.join(faults)}.\n" if faults else _GOOD if ours else "")
        where = self._options.page
        if where is not None and any(figures):
            show = Show(plan=self._options.plan, stock=stock, ours=ours, counted_by=self._counted_by)
            try:
                where.write_text(page(show), encoding="utf-8")
                self._out.write(f"The page, with pictures: {where.resolve()}\n")
            except OSError as error:
                self._out.write(f"The page could not be written: {error}\n")
                return 1
        return 1 if faults else 0


_GOOD = "OK: otel-shed accounts for every span, and the collector counted what the account has exported.\n"


def _faults(ours: Outcome | None) -> Iterable[str]:
    """What does not agree on our side."""
    if ours is None:
        return
    if not ours.closings:
        yield "the program with otel-shed did not come to its end"
        return
    if ours.unaccounted:
        yield f"{ours.unaccounted:,} spans are unaccounted for"
    counts = {"the limited collector": len(ours.arrived), "the collector behind it": ours.counted}
    for who, count in counts.items():
        if count is not None and count != ours.exported:
            yield f"{who} counted {count:,} spans, the account has {ours.exported or 0:,} exported"
