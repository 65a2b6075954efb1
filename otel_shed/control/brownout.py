"""The brownout: from pressure and time to a phase, and from a phase to what is done differently in it.

Owns the phase: nothing else sets it. There is no thread: whoever asks first once an interval is over evaluates, under a
lock that nobody waits for, so an exporter that hangs cannot delay it; all others read what was found before. Asked by
application threads and the worker. The rule: asking never blocks, never raises, and says the same to all who ask.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otel_shed.control.phase import Action, Phase
from otel_shed.control.phase_table import RANK, PhaseRow, PhaseTable, State, phase_table, step
from otel_shed.control.pressure import Pressure, PressureSignal, Signals
from otel_shed.interruption import is_applications
from otel_shed.native import allocate_lock

_logger = logging.getLogger("otel_shed")

# Ten readings a second: a tenth of the shortest time that a storm needs to be one, and some 20 us of work each.
INTERVAL_SECONDS = 0.1
# How long force_phase waits for a thread that is evaluating; it takes effect without it, at the next evaluation.
_FORCE_PATIENCE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class BrownoutSnapshot:
    """The brownout at one moment.

    phase, action: in force, or what would be in observe mode. pressure: 0..1. reasons: codes, the one that counts most
    first; while a phase only waits for calm, those that brought it about. since: when the phase began, in seconds of
    the shedder's clock. forced: whether ``force_phase`` set it.
    """

    phase: Phase = Phase.NORMAL
    action: Action = Action.EXPORT_ALL
    pressure: float = 0.0
    reasons: tuple[str, ...] = ()
    since: float = 0.0
    forced: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    """What readers see, replaced as a whole."""

    row: PhaseRow
    hot: float
    snapshot: BrownoutSnapshot


class Brownout:
    """The phase of one shedder; any thread may call anything here, nothing blocks, nothing raises."""

    def __init__(
        self,
        *,
        table: PhaseTable | None = None,
        signals: Iterable[PressureSignal] = (),
        enforcing: bool = True,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """``enforcing`` False: phases are found and reported, and nobody is to act on them. interval: seconds.

        ``changed`` is called after each change of the phase, by the thread that found it: it must not wait.
        """
        self.table = table or phase_table()
        self.enforcing = enforcing
        self._interval = interval
        self._clock = clock
        self._changed = changed
        self._signals = Signals(signals, leave=self.table[Phase.DEGRADE].leave, clock=clock)
        self._forced: tuple[Phase, tuple[str, ...]] | None = None
        now = clock()
        # Written by the thread that holds the lock.
        self._lock = allocate_lock()
        self._state = State(Phase.NORMAL, now, now)
        self._forced_in_view: tuple[Phase, tuple[str, ...]] | None = None
        self._view = _View(self.table[Phase.NORMAL], now, BrownoutSnapshot(since=now))
        self._evaluated = now
        self._due = now

    # -- read ----------------------------------------------------------------------------------------------------

    def row(self, now: float | None = None) -> PhaseRow:
        """The row of the phase that it is in, evaluated first if that is due; ``now`` spares reading the clock.

        Act on it only where ``enforcing``; otherwise count what would have been done.
        """
        if now is None:
            now = self._clock()
        if not self._evaluated <= now < self._due:
            self._evaluate(now)
        return self._view.row

    @property
    def last_row(self) -> PhaseRow:
        """The row of the phase as it was found last, for those who have seen to it that what was due has been done."""
        return self._view.row

    @property
    def row_in_force(self) -> PhaseRow:
        """The row to act on, as it stands: that of NORMAL where this does not enforce."""
        return self._view.row if self.enforcing else self.table[Phase.NORMAL]

    def snapshot(self, now: float | None = None) -> BrownoutSnapshot:
        """The phase and why, evaluated first if that is due."""
        self.row(now)
        return self._view.snapshot

    def pressures(self, now: float | None = None) -> dict[str, float]:
        """What each signal says, 0..1, by its name, evaluated first if that is due; the worst is the pressure."""
        self.row(now)
        return self._signals.last()

    def probability_floor(self, now: float | None = None) -> float:
        """The least share of unremarkable traces to keep, 0..1: the row's, or where it is on the ramp up to 1."""
        if now is None:
            now = self._clock()
        row = self.row(now)
        if not row.ramps:
            return row.probability_floor
        done = min(1.0, max(0.0, (now - self._view.hot) / row.hold)) if row.hold > 0 else 1.0
        return row.probability_floor + (1.0 - row.probability_floor) * done

    def next_look(self, now: float) -> float | None:
        """Seconds after which a look may end the phase; None where nothing is shed, and nobody needs to look.

        For a worker that would otherwise sleep until the next span: full fidelity must not wait for traffic.
        """
        view = self._view
        if RANK[view.row.phase] < RANK[Phase.RECOVERY] or view.snapshot.forced:
            return None
        # Overdue, where somebody who reads a signal does not come back: asking at once, again and again, is no help.
        later = self._interval if self._due <= now else self._due - now
        return max(later, view.hot + view.row.hold - now)

    # -- change --------------------------------------------------------------------------------------------------

    def force_phase(self, phase: Phase | None, *reasons: str) -> None:
        """Set the phase, whatever the pressure; None gives it back to the signals.

        It is given back through RECOVERY, unless what was forced shed nothing. ValueError if there is no such phase.
        """
        self._forced = None if phase is None else (Phase(phase), tuple(map(str, reasons)) or ("forced",))
        self._evaluate(self._clock(), patience=_FORCE_PATIENCE_SECONDS)

    def add_signal(self, signal: PressureSignal) -> None:
        """Have ``signal`` count too; TypeError if it is none."""
        self._signals.add(signal)

    def remove_signal(self, signal: PressureSignal) -> None:
        """Have it count no longer."""
        self._signals.remove(signal)

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread that is not there any more may have held it."""
        self._lock = allocate_lock()

    # -- evaluate ------------------------------------------------------------------------------------------------

    def _evaluate(self, now: float, patience: float = 0.0) -> None:
        lock = self._lock
        if not (lock.acquire(True, patience) if patience else lock.acquire(False)):
            # Somebody else is at it, or this is a signal's read() that asks for the phase.
            if patience:
                self._due = -math.inf
            return
        before = after = self._view.snapshot
        try:
            if patience or not self._evaluated <= now < self._due:
                after = self._look(now)
        except Exception as error:  # a logging handler of the application's; this may be the middle of its Span.end()
            self._evaluated, self._due = now, now + self._interval
            if is_applications(error):
                raise
        finally:
            lock.release()
        if before.phase is not after.phase or before.forced is not after.forced:
            self._tell(before, after)
            if self._changed is not None:
                self._changed()

    def _look(self, now: float) -> BrownoutSnapshot:
        pressure = self._signals.read(now)
        forced, released = self._forced, self._forced_in_view
        state = step(self.table, self._state, pressure.pressure, now)
        if released and not forced and RANK[released[0]] > RANK[Phase.RECOVERY] > RANK[state.phase]:
            state = State(Phase.RECOVERY, now, now)
        view = self._see(state, pressure, forced, now)
        self._state, self._forced_in_view, self._view = state, forced, view
        self._evaluated, self._due = now, now + self._interval
        return view.snapshot

    def _see(self, state: State, pressure: Pressure, forced: tuple[Phase, tuple[str, ...]] | None, now: float) -> _View:
        before = self._view.snapshot
        phase, reasons = (state.phase, self._reasons(state, pressure)) if forced is None else forced
        same = phase is before.phase and (forced is not None) is before.forced
        since = before.since if same else state.since if forced is None else now
        hot = state.hot if forced is None else min(since, now)
        row = self.table[phase]
        return _View(
            row, hot, BrownoutSnapshot(phase, row.action, pressure.pressure, reasons, since, forced is not None)
        )

    def _reasons(self, state: State, pressure: Pressure) -> tuple[str, ...]:
        if pressure.pressure >= self.table[Phase.DEGRADE].leave:
            return pressure.reasons
        if state.phase is Phase.NORMAL:
            return ()
        # Nothing presses any more; an operator still wants to know what it was.
        return self._view.snapshot.reasons or pressure.reasons

    def _tell(self, before: BrownoutSnapshot, after: BrownoutSnapshot) -> None:
        # For those who look for it; what it means for the telemetry is ShedLog's to say.
        try:
            _logger.debug(
                "phase %s -> %s%s (pressure %.2f%s)%s",
                before.phase,
                after.phase,
                ", forced" if after.forced else "",
                after.pressure,
                "".join(f", {reason}" for reason in after.reasons),
                "" if self.enforcing else "; observed only, nothing is shed",
            )
        except Exception as error:  # as above
            if is_applications(error):
                raise
