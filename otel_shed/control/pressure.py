"""Pressure: one number from 0 to 1, the worst of a few named signals, and the reason that goes with it.

Owns the list of signals and what each of them said last. Read by whichever thread evaluates the brownout, one at a
time. The rule: nothing that a signal does gets past ``Signals.read`` but a number from 0 to 1: one that raises, or says
what is no number, is reported, once a minute, and counts as what it said before.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit

_logger = logging.getLogger("otel_shed")


@dataclass(frozen=True, slots=True)
class PressureReading:
    """What a signal says now. pressure: 0 (none) to 1. reason: a short code of a closed set, such as ``memory``."""

    pressure: float
    reason: str


class PressureSignal(Protocol):
    """Something that knows how hard pressed the program or the collector is.

    ``read`` is called a few times a second, on any thread of the application, in the middle of Span.end(): it must not
    wait for anything. ``now`` is the shedder's clock, in seconds.
    """

    def read(self, now: float) -> PressureReading: ...


# Of the way from ``leave`` to 1, what stays free above ``enter`` for pressures that are worse.
_ROOM_ABOVE = 1e-6


@dataclass(frozen=True, slots=True)
class Levels:
    """The two thresholds at which shedding begins and ends, for signals that have a switch of their own.

    enter, leave: pressures, 0 < leave < enter <= 1; ValueError otherwise. An ``enter`` of 1 is stored as a hair less:
    with no room above it, a pressure that begins shedding would also be one that sheds everything optional.
    """

    enter: float = 0.75
    leave: float = 0.50

    def __post_init__(self) -> None:
        if not 0.0 < self.leave < self.enter <= 1.0:  # NaN is refused, and 0, which nothing is ever below
            raise ValueError(f"0 < leave < enter <= 1 must hold, not leave={self.leave!r}, enter={self.enter!r}")
        object.__setattr__(self, "enter", min(self.enter, 1.0 - _ROOM_ABOVE * (1.0 - self.leave)))

    def above(self, share: float) -> float:
        """The pressure that lies so far, 0..1, from ``enter`` to 1."""
        return min(1.0, self.enter + _unit(share) * (1.0 - self.enter))

    def between(self, share: float) -> float:
        """The pressure that lies so far, 0..1, from ``leave`` to ``enter``: it holds a phase and begins none."""
        return self.leave + 0.9 * _unit(share) * (self.enter - self.leave)

    def below(self, share: float) -> float:
        """The pressure that lies so far, 0..1, from 0 to ``leave``, which it never reaches: it holds nothing."""
        return 0.99 * _unit(share) * self.leave


def _unit(number: float) -> float:
    return min(1.0, max(0.0, number))


def queue_shape(fill: float) -> float:
    """Pressure of a queue that is so full, 0..1: the square root, since a queue that has begun to fill fills fast.

    0.56 full is 0.75, a quarter full is 0.50.
    """
    return math.sqrt(_unit(fill))


def memory_shape(use: float, *, start: float = 0.0) -> float:
    """Pressure of memory that is so used, 0..1: an S-curve, flat up to ``start`` and again when it is all over.

    3x^2 - 2x^3: half way from ``start`` to 1 is 0.50, two thirds is 0.74, 0.86 of the way is 0.95.
    """
    part = _unit((use - start) / (1.0 - start))
    return part * part * (3.0 - 2.0 * part)


class Patience:
    """Holds a pressure below where everything optional is shed until it has stayed up there for ``seconds``.

    A storm's first second fills any queue. What is done in DEGRADE usually ends that; only if it does not is it worse.
    """

    def __init__(self, levels: Levels, seconds: float) -> None:
        self._cap = levels.above(0.6)  # SHED_OPTIONAL is entered at 0.8 of the way, see brownout.phase_table
        self._seconds = seconds
        self._since: float | None = None

    def held(self, pressure: float, now: float) -> float:
        """The pressure to report."""
        if pressure <= self._cap:
            self._since = None
            return pressure
        if self._since is None or now < self._since:
            self._since = now
        return pressure if now - self._since >= self._seconds else self._cap


@dataclass(frozen=True, slots=True)
class Pressure:
    """The worst of all signals. reasons: the winner's first, then those of others that are at ``leave`` or above."""

    pressure: float
    reasons: tuple[str, ...]


class Signals:
    """The signals of one shedder; ``read`` is called by one thread at a time, ``add`` and ``remove`` by any."""

    def __init__(
        self,
        signals: Iterable[PressureSignal] = (),
        *,
        leave: float = 0.50,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leave = leave
        self._log = LogLimit(_logger, clock=clock)
        # Replaced as a whole, so that a reading goes through one list or the other.
        self._sources: tuple[_Source, ...] = ()
        for signal in signals:
            self.add(signal)

    def add(self, signal: PressureSignal) -> None:
        """Count ``signal`` from the next reading on; TypeError if it has no ``read``."""
        if not callable(getattr(signal, "read", None)):
            raise TypeError(f"a pressure signal has a method read(now), {type(signal).__name__} has none")
        self._sources = (*self._sources, _Source(signal))

    def remove(self, signal: PressureSignal) -> None:
        """Count it no longer; one that is not there is left alone."""
        self._sources = tuple(source for source in self._sources if source.signal is not signal)

    def last(self) -> dict[str, float]:
        """What each signal said last, 0..1, by its name; of several of one name the worst."""
        said: dict[str, float] = {}
        for source in self._sources:
            said[source.name] = max(source.last.pressure, said.get(source.name, 0.0))
        return said

    def read(self, now: float) -> Pressure:
        """Ask every signal once; never raises."""
        readings = [source.read(now, self._log) for source in self._sources]
        if not readings:
            return Pressure(0.0, ())
        worst = max(readings, key=lambda reading: reading.pressure)
        if worst.pressure <= 0.0:
            return Pressure(0.0, ())
        reasons = [worst.reason, *(each.reason for each in readings if each.pressure >= self._leave)]
        return Pressure(worst.pressure, tuple(dict.fromkeys(reasons)))


class _Source:
    """One signal and what it said last."""

    __slots__ = ("last", "name", "signal")

    def __init__(self, signal: PressureSignal) -> None:
        self.signal = signal
        self.name = str(getattr(signal, "name", "") or type(signal).__name__)
        self.last = PressureReading(0.0, self.name)

    def read(self, now: float, log: LogLimit) -> PressureReading:
        try:
            reading = self.signal.read(now)
            pressure, reason = float(reading.pressure), reading.reason
            if math.isnan(pressure):
                raise ValueError("a pressure that is not a number")
        except Exception as error:
            if is_applications(error):
                raise
            log.warning(
                id(self),
                "the pressure signal %s failed and counts as its last value, %.2f: %s: %s",
                self.name,
                self.last.pressure,
                type(error).__name__,
                error,
            )
            return self.last
        if not 0.0 <= pressure <= 1.0:
            log.warning(id(self), "the pressure signal %s said %r, which is not from 0 to 1", self.name, pressure)
            pressure = _unit(pressure)
        self.last = PressureReading(pressure, reason if isinstance(reason, str) and reason else self.name)
        return self.last
