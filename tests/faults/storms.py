"""Storms over real sockets: a collector with a limit and a program that has more to tell, two processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.delivered import start
from tests.faults.raw_server import OK, Connection
from tests.launched import Launched

SHEDDING = ("degrade", "shed_optional", "recovery")
# How long a trace of the program lasts: so long after the load became less the storm's last spans end.
TRACE_SECONDS = 1.0


@dataclass(frozen=True)
class Reading:
    """What the program's shedder said at one moment; spans, but for ``at``, seconds since the program began.

    rate: what the program was told to offer, a second. offered: what it did, so far.
    """

    at: float
    rate: float
    offered: int
    ended: int
    exported: int
    queued: int
    dropped: Mapping[str, int]
    summarized: int
    phase: str
    pressure: float
    reasons: Sequence[str]
    probability: float
    budget: float | None
    oldest: float
    unaccounted: int

    @property
    def overflowed(self) -> int:
        return self.dropped.get("queue_full", 0)

    @property
    def is_full(self) -> bool:
        """Whether everything that begins now would be sent."""
        return self.probability == 1.0 and self.phase not in SHEDDING


@dataclass(frozen=True)
class Taken:
    """What the collector has taken. whole: traces of which it has every span. adjusted: traces that these stand for."""

    spans: int = 0
    traces: int = 0
    whole: int = 0
    adjusted: float = 0.0


@dataclass(frozen=True)
class Ends:
    """Span.end() of recorded spans, in seconds."""

    spans: int
    p50: float
    p99: float
    max: float


class Storm:
    """The lines of a program that has ended, and of its collector."""

    def __init__(self, program: Sequence[str], collector: Sequence[str]) -> None:
        self.readings = [Reading(**json.loads(line)) for line in _after("stats", program)]
        self.ends = Ends(**json.loads(_after("end", program)[-1]))
        self.log = [(float(at), text) for at, _, text in (line.partition(" ") for line in _after("log", program))]
        self.taken = [Taken(**json.loads(line)) for line in _after("taken", collector)]
        self._most = max(reading.rate for reading in self.readings)

    @property
    def over_at(self) -> float:
        """When the load became less."""
        storm = max(reading.at for reading in self.readings if reading.rate == self._most)
        return min(reading.at for reading in self.readings if reading.at > storm)

    @property
    def calm(self) -> list[Reading]:
        """After the storm."""
        return [reading for reading in self.readings if reading.at >= self.over_at]

    def since(self, seconds: float) -> list[Reading]:
        """The storm without its first seconds."""
        return [reading for reading in self.readings if seconds <= reading.at < self.over_at]

    @property
    def changes(self) -> list[tuple[float, str, str]]:
        """When the log tells of a change of phase, the new phase, and all of the line."""
        told = [(at, text) for at, text in self.log if text.startswith("otel-shed: phase ")]
        return [(at, text.partition(" -> ")[2].split()[0], text) for at, text in told]

    @property
    def full_again_after(self) -> float | None:
        """Seconds from the end of the storm's last span to full fidelity that lasts; None if it did not come."""
        shedding = [reading.at for reading in self.calm if not reading.is_full]
        full = [reading.at for reading in self.calm if reading.at > max(shedding, default=0.0)]
        return min(full) - self.over_at - TRACE_SECONDS if full else None


def _after(word: str, lines: Sequence[str]) -> list[str]:
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


@contextmanager
def collector(protocol: str, how: str, capacity: float = 500, port: int = 0) -> Iterator[tuple[Launched, str]]:
    """A collector in a process of its own (see its program), and its endpoint."""
    with start("limited_collector.py", protocol, how, str(capacity), str(port)) as launched:
        heard = launched.wait_for_line("port ", timeout=60)
        yield launched, f"http://127.0.0.1:{heard.split()[1]}"


@contextmanager
def program(protocol: str, endpoint: str, *loads: tuple[float, float], **variables: str) -> Iterator[Launched]:
    """A program that offers so many spans a second for so many seconds, load after load."""
    with start("storm.py", protocol, endpoint, *(str(number) for load in loads for number in load), **variables) as run:
        yield run


def take_all(connection: Connection) -> None:
    """A collector that hardly costs anything: each request is taken unread (a script for a RawServer)."""
    while connection.request() is not None:
        connection.send(OK)


def ended(runs: Sequence[Launched], collectors: Sequence[Launched], timeout: float) -> list[Storm]:
    """Wait for the programs' end, and read what was said."""
    for run in runs:
        code = run.wait(timeout)
        assert code == 0, run.output
    time.sleep(1.1)  # collectors tell once a second
    return [Storm(list(run.lines), list(collecting.lines)) for run, collecting in zip(runs, collectors, strict=True)]
