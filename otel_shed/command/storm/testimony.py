"""What the programs of a storm tell: values, and the lines of JSON in which they come through a pipe.

The program that makes the spans tells what it started, how it fares, and what it came to in the end; the collector
tells what arrived. Times are seconds of ``time.monotonic``, which all processes of a machine share.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, TextIO


@dataclass(frozen=True, slots=True)
class Started:
    """A trace that was started. at: when. spans: in all. is_sampled: False if its parent decided against that."""

    trace_id: str
    at: float
    spans: int
    failed: bool
    is_sampled: bool = True


@dataclass(frozen=True, slots=True)
class Arrived:
    """A span that the collector accepted. at: when. parent_id: "" for none. threshold: its ``ot=th``; None for none."""

    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    threshold: int | None
    at: float


@dataclass(frozen=True, slots=True)
class EndTimes:
    """What ``Span.end()`` took, in seconds: quantiles, and of how many spans."""

    spans: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> EndTimes:
        """The quantiles of these."""
        times = sorted(nanoseconds)
        if not times:
            return cls()
        p50, p99, p999, longest = (times[int(share * (len(times) - 1))] / 1e9 for share in (0.5, 0.99, 0.999, 1.0))
        return cls(len(times), p50, p99, p999, longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the program fares. started: spans so far. memory: bytes (RSS). cpu: seconds so far. ends: since the last.

    phase to unaccounted: of the shedder, spans but for ``probability`` (0..1), ``pressure`` (0..1) and ``budget``
    (spans a second); None and empty for who has none.
    """

    at: float
    is_storm: bool
    started: int
    memory: int
    cpu: float
    ends: EndTimes
    phase: str = ""
    reasons: Sequence[str] = ()
    pressure: float = 0.0
    probability: float | None = None
    budget: float | None = None
    ended: int | None = None
    exported: int | None = None
    held: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    unaccounted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What it came to. ends: in the part of the storm that counts.

    ended: spans that the program ended, by its own count. unsampled: of traces whose parent decided against them.
    lost_calls: requests to the second process that did not get through. seconds_to_shut_down: of the provider.
    """

    ended: int
    unsampled: int
    ends: EndTimes
    lost_calls: int
    seconds_to_shut_down: float
    last: Reading


class Teller:
    """Writes lines; for any thread. is_heard: False once nobody reads them any more."""

    def __init__(self, out: TextIO) -> None:
        self.is_heard = True
        self._out = out
        self._lock = threading.Lock()

    def ports(self, **ports: int | None) -> None:
        self._tell("ports", ports)

    def storm(self, began: float, ended: float | None = None) -> None:
        """When the storm began, and once that is known, when it ended: before any trace that starts later is told."""
        self._tell("storm", [began, ended])

    def started(self, traces: Iterable[Started]) -> None:
        self._tell("started", [astuple(trace) for trace in traces])

    def arrived(self, spans: Iterable[Arrived]) -> None:
        self._tell("arrived", [astuple(span) for span in spans])

    def refused(self, at: float, spans: int) -> None:
        self._tell("refused", [at, spans])

    def reading(self, reading: Reading) -> None:
        self._tell("reading", asdict(reading))

    def closing(self, closing: Closing) -> None:
        self._tell("closing", asdict(closing))

    def log(self, text: str) -> None:
        self._tell("log", text)

    def _tell(self, word: str, value: object) -> None:
        line = json.dumps({word: value}) + "\n"
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except (OSError, ValueError):  # whoever started this is gone
            self.is_heard = False


class Told:
    """What was told so far; ``take`` is called by one thread, all the rest may be read by any."""

    def __init__(self) -> None:
        self.ports: Mapping[str, int] = {}
        self.storm: tuple[float, float | None] | None = None
        self.started: list[Started] = []
        self.arrived: list[Arrived] = []
        self.refused: list[tuple[float, int]] = []
        self.readings: list[Reading] = []
        self.closing: Closing | None = None
        self.log: list[str] = []

    def take(self, line: str) -> bool:
        """Whether the line was one of a Teller's."""
        if not line.startswith("{"):
            return False
        try:
            [(word, value)] = json.loads(line).items()
        except ValueError:  # torn in two, by something that a library of C wrote in between
            return False
        match word:
            case "ports":
                self.ports = value
            case "storm":
                self.storm = (value[0], value[1])
            case "started":
                self.started += [Started(*each) for each in value]
            case "arrived":
                self.arrived += [Arrived(*each) for each in value]
            case "refused":
                self.refused.append((value[0], value[1]))
            case "reading":
                self.readings.append(_reading(value))
            case "closing":
                value |= {"ends": EndTimes(**value["ends"]), "last": _reading(value["last"])}
                self.closing = Closing(**value)
            case "log":
                self.log.append(value)
            case _:
                return False
        return True


def _reading(value: dict[str, Any]) -> Reading:
    return Reading(**value | {"ends": EndTimes(**value["ends"]), "reasons": tuple(value["reasons"])})
