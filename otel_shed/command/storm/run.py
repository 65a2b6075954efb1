"""One side of a storm: its collector, the program that makes the traces, and what both have told.

Called by the command's main thread; each process's reader thread takes down what it tells. The rule: when a Side is
closed none of its processes is left, and what was told up to then can still be read.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from otel_shed.command.collector import Kind, Rotel, start_rotel
from otel_shed.command.companion import Companion
from otel_shed.command.storm.figures import Figures, Window, make_figures, settling_seconds
from otel_shed.command.storm.testimony import Arrived, Closing, EndTimes, Reading, Started, Told
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF

SideName = Literal["stock", "otel-shed"]
STOCK: SideName = "stock"
OURS: SideName = "otel-shed"

_PACKAGE = "otel_shed.command.storm"
# How long the program may take, after its last span, to deliver what it holds: its own limit, and some.
_PATIENCE_SECONDS = 45.0
# How long it may take when it is to come to its end early.
_HURRY_SECONDS = 10.0
_ENDING_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The same for both sides. rate, calm_rate: spans a second that are started; capacity: that the collector takes.

    seconds, calm: how long the storm lasts, and what follows it. mode: whether the collector is slow or rejects what is
    more. failing: the share of traces that fail. unsampled: of those whose parent decided not to sample. processes: how
    many a trace goes through, 1 or 2. head_sampler: whether our side uses its sampler too.
    """

    rate: float = 5000.0
    seconds: float = 60.0
    calm_rate: float = 200.0
    calm: float = 15.0
    capacity: float = 500.0
    mode: Literal["slow", "reject"] = "slow"
    protocol: str = GRPC
    failing: float = 0.01
    unsampled: float = 0.0
    processes: int = 1
    head_sampler: bool = False
    collector: Kind = "auto"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a side has told, until now or in all.

    storm: when it began, and when it ended if it has; None before. counted: spans that the collector behind the limit
    says it received; None if there is none. closings: of each process that made spans, as far as they came to their
    end. exported: by the library's account; None without one.
    """

    plan: Plan
    started: list[Started]
    arrived: list[Arrived]
    refused: list[tuple[float, int]]
    readings: list[Reading]
    closings: list[Closing]
    storm: tuple[float, float | None] | None = None
    log: list[str] = field(default_factory=list)
    counted: int | None = None

    @property
    def window(self) -> Window | None:
        """The storm, as far as it went; None if nothing was started."""
        last = next((reading.at for reading in reversed(self.readings) if reading.is_storm), None)
        if not self.started or self.storm is None or last is None:
            return None
        began, ended = self.storm
        return Window(
            began=began,
            ended=last if ended is None else ended,
            capacity=self.plan.capacity,
            settling=settling_seconds(self.plan.seconds),
        )

    @property
    def exported(self) -> int | None:
        counts = [closing.last.exported for closing in self.closings]
        return None if not counts or None in counts else sum(count or 0 for count in counts)

    @property
    def unaccounted(self) -> int | None:
        """What its account does not know of, or has otherwise than the program that ended the spans."""
        faults = [
            abs(each.last.unaccounted) + abs(each.last.ended - each.ended)
            for each in self.closings
            if each.last.unaccounted is not None and each.last.ended is not None
        ]
        return sum(faults) if faults else None

    def figures(self) -> Figures | None:
        """What it came to; None if nothing was started."""
        window = self.window
        if window is None:
            return None
        counted = [reading for reading in self.readings if reading.is_storm and reading.at >= window.settled]
        told = self.closings or counted[-1:]  # where the program did not come to its end, of the last reading
        return make_figures(
            self.started,
            self.arrived,
            window,
            ends=told[0].ends if told else EndTimes(),
            unaccounted=self.unaccounted,
            memory=max(reading.memory for reading in self.readings),
            cpu=counted[-1].cpu - counted[0].cpu if counted else 0.0,
        )


class Limited(Companion):
    """The collector held to a rate. ``behind``: the one that gets what it accepts."""

    def __init__(self, plan: Plan, behind: Rotel | None) -> None:
        self.testimony = Told()
        forward = ["--forward", behind.endpoints[HTTP_PROTOBUF]] if behind else []
        super().__init__(
            [
                *(sys.executable, "-m", f"{_PACKAGE}.limited"),
                *("--spans-per-second", str(plan.capacity), "--mode", plan.mode, *forward),
            ],
            _environment(),
            ends_with_pipe=True,
        )
        self._wait_until(lambda: bool(self.testimony.ports))
        port = self.testimony.ports["grpc" if plan.protocol == GRPC else "http"]
        self.endpoint = f"http://127.0.0.1:{port}"

    def _take(self, line: str) -> None:
        self.testimony.take(line)


class Program(Companion):
    """The program that makes the traces, or with ``listens`` the one that goes on with them."""

    def __init__(self, side: SideName, plan: Plan, endpoint: str, *arguments: str, listens: bool = False) -> None:
        self.testimony = Told()
        super().__init__(
            [
                *(sys.executable, "-m", f"{_PACKAGE}.program"),
                *("--side", side, "--protocol", plan.protocol, "--endpoint", endpoint),
                *("--storm", f"{plan.rate}:{plan.seconds}", "--calm", f"{plan.calm_rate}:{plan.calm}"),
                *("--failing", str(plan.failing), "--unsampled", str(plan.unsampled)),
                *(["--head-sampler"] if plan.head_sampler else []),
                *(["--listen"] if listens else []),
                *arguments,
            ],
            _environment(),
            ends_with_pipe=True,
        )
        self._wait_until(lambda: bool(self.testimony.ports if listens else self.testimony.readings))

    def _take(self, line: str) -> None:
        self.testimony.take(line)


class Side:
    """Runs from the moment that it is made; a context manager that closes it. Raises StartError."""

    def __init__(self, name: SideName, plan: Plan) -> None:
        self.name = name
        self._plan = plan
        self._counted: int | None = None
        self._back: Program | None = None
        with ExitStack() as stack:
            self._rotel, self.why_no_rotel = start_rotel(plan.collector)
            if self._rotel is not None:
                stack.enter_context(self._rotel)
            self._limited = stack.enter_context(Limited(plan, self._rotel))
            endpoint, onward = self._limited.endpoint, []
            if plan.processes == 2:
                self._back = stack.enter_context(Program(name, plan, endpoint, listens=True))
                onward = ["--back", str(self._back.testimony.ports["http"])]
            self._front = stack.enter_context(Program(name, plan, endpoint, *onward))
            self._stack = stack.pop_all()
        self._deadline = time.monotonic() + plan.seconds + plan.calm + _PATIENCE_SECONDS

    @property
    def collector_name(self) -> str:
        """Who counts what was accepted."""
        return self._rotel.name if self._rotel else "the limited collector itself"

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._front.running and time.monotonic() < self._deadline

    @property
    def outcome(self) -> Outcome:
        """What it has told so far."""
        programs = [self._front.testimony] + ([self._back.testimony] if self._back else [])
        collector = self._limited.testimony
        return Outcome(
            plan=self._plan,
            # First the traces: what is read after them knows of their storm.
            started=list(programs[0].started),
            storm=programs[0].storm,
            arrived=list(collector.arrived),
            refused=list(collector.refused),
            readings=list(programs[0].readings),
            closings=[each.closing for each in programs if each.closing is not None],
            log=[line for each in (*programs, collector) for line in each.log],
            counted=self._counted,
        )

    def hurry(self) -> None:
        """Have its program come to its end now, if it is not there yet."""
        self._front.let_go()

    def finish(self) -> Outcome:
        """Have it come to its end, early if it is not there yet; what it has told."""
        came_to_its_end = not self._front.running
        self.hurry()
        self._front.wait(_HURRY_SECONDS)
        if self._back is not None:
            self._back.let_go()
            left = self._deadline - time.monotonic() if came_to_its_end else 0.0
            self._back.wait(max(_HURRY_SECONDS, left))
        self._limited.let_go()
        self._limited.wait(_ENDING_SECONDS)
        if self._rotel is not None:
            self._counted = self._rotel.finish()
        self.close()
        return self.outcome

    def close(self) -> None:
        """End every process, whatever state it is in."""
        self._stack.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    """Ours, but for what is meant for another exporter or sampler: OTEL_BSP_* and OTEL_SHED_* stay, for a try."""
    return {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("OTEL_") or name.startswith(("OTEL_BSP_", "OTEL_SHED_")))
        and not name.lower().endswith("_proxy")
    }
