"""What the log says while telemetry is lost: a line when it begins, one a minute while it lasts, one when it is over.

Owns what was told last, for one shedder. Called by whoever refreshes the control, one thread at a time, and by a
worker. The rules: each line says what happens to the program, to the telemetry, and why; a time in which nothing was
lost, and the collector was not away for long, is not told at all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from otel_shed.control.brownout import BrownoutSnapshot
from otel_shed.control.causes import cause, duration
from otel_shed.control.flow import Flow, HeadCounts
from otel_shed.control.phase import Action
from otel_shed.interruption import is_applications
from otel_shed.log_limit import counted

_logger = logging.getLogger("otel_shed")

EVERY_SECONDS = 60.0
# After the first loss, so that there are numbers to tell.
FIRST_SECONDS = 1.0
# A collector that is restarted is often away for less.
AWAY_SECONDS = 5.0
# What the age of a span is told at (parity L13).
OLD_SECONDS = 30.0
# So that a worker that waits for a line does not come a moment too early, again and again.
_LEAST_WAIT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class _Counts:
    """Spans, since the shedder began; ``unrecorded`` are traces, ``held`` are the spans that wait now."""

    shed: int = 0
    overflowed: int = 0
    undelivered: int = 0
    unrecorded: int = 0
    would_have_shed: int = 0
    exported: int = 0
    held: int = 0

    @property
    def gone(self) -> int:
        """What only rises while something is lost."""
        return self.shed + self.overflowed + self.undelivered + self.unrecorded + self.would_have_shed

    def since(self, before: _Counts, during: str) -> str:
        """What has become of spans since then, which was ``during`` this time, and how many wait now."""
        parts = [
            (self.shed - before.shed, "shed"),
            (self.would_have_shed - before.would_have_shed, "that enforce mode would have shed"),
            (self.overflowed - before.overflowed, "dropped from the full queue"),
            (self.undelivered - before.undelivered, "lost undelivered"),
            (self.exported - before.exported, "delivered"),
        ]
        words = [f"{counted(count, 'span')} {what}" for count, what in parts if count]
        words[1:] = [f"{count:,} {what}" for count, what in parts if count][1:]
        if unrecorded := self.unrecorded - before.unrecorded:
            words.append(f"{counted(unrecorded, 'trace')} not recorded")
        is_or_are = "is" if self.held == 1 else "are"
        if not words:
            return "No span is lost" + (f"; {self.held:,} {is_or_are} waiting" if self.held else "")
        if self.gone == before.gone:
            words.append("none lost")
        waiting = f"; {counted(self.held, 'span')} {is_or_are} waiting" if self.held else ""
        return f"In {during}: {', '.join(words)}{waiting}"


@dataclass(slots=True)
class _Time:
    """A time of losses. before, told: counts when it began, and at its last line.

    changed, last: when more was lost for the last time, and the counts then.
    """

    since: float
    changed: float
    before: _Counts
    last: _Counts
    told: _Counts | None = None
    was_away: bool = False


class ShedLog:
    """The lines of one shedder."""

    def __init__(self, *, calm: float, enforcing: bool) -> None:
        """``calm``: seconds without a loss after which it is over. ``enforcing``: whether what is shed is."""
        self._calm = calm
        self._enforcing = enforcing
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child, what was lost before is the parent's to tell."""
        self._seen = _Counts()
        self._refused, self._unrecorded = 0, 0
        self._time: _Time | None = None
        self._lasts = False
        # When the last line was written, but for those that say that it is over.
        self._line_at: float | None = None

    def look(
        self, now: float, flows: Sequence[Flow], brownout: BrownoutSnapshot, head: HeadCounts, probability: float
    ) -> None:
        """Write what there is to say. ``head``: what the samplers have decided; ``probability``: in force for them."""
        if not flows:
            self._seen, self._time = _Counts(), None
            return
        counts = self._counts(flows, head, probability)
        worst = max(flows, key=lambda flow: (flow.exports.failing_for(now), flow.state.offered))
        is_away = worst.exports.failing_for(now) >= AWAY_SECONDS
        oldest = max(flow.oldest_seconds for flow in flows)
        is_urgent = is_away or oldest > OLD_SECONDS
        if counts.gone < self._seen.gone:  # one of several pipelines is gone, and its counts with it
            self._time = None
        elif counts.gone > self._seen.gone or is_urgent:
            if self._time is None:
                self._time = _Time(since=now, changed=now, before=self._seen, last=counts)
            self._time.changed, self._time.last = now, counts
            self._time.was_away = self._time.was_away or is_away
        self._seen = counts
        self._lasts = is_urgent or brownout.action is not Action.EXPORT_ALL
        if (time := self._time) is None:
            return
        if not self._lasts and now - time.changed >= self._calm:
            if time.told is not None or now >= self._due(time):
                self._say_over(now, time, worst, counts)
        elif now >= self._due(time, is_urgent) and (time.told is None or is_urgent or counts.gone > time.told.gone):
            self._say(now, time, counts, self._why(now, worst, brownout, oldest), worst)

    def wait(self, now: float) -> float | None:
        """Seconds after which there may be a line to write though no span ends; None if others see to it."""
        if (time := self._time) is None:
            return None
        if time.told is None:
            return max(self._due(time) - now, _LEAST_WAIT_SECONDS)
        left = time.changed + self._calm - now
        # While the phase lasts, it says itself when to look again.
        return None if self._lasts and left <= 0 else max(left, _LEAST_WAIT_SECONDS)

    def _due(self, time: _Time, is_urgent: bool = False) -> float:
        first = time.since if is_urgent else time.since + FIRST_SECONDS
        return first if self._line_at is None else max(first, self._line_at + EVERY_SECONDS)

    def _counts(self, flows: Sequence[Flow], head: HeadCounts, probability: float) -> _Counts:
        refused = head.roots - head.kept
        if probability < head.ceiling:  # else it is the user's ceiling that they are refused for
            self._unrecorded += max(0, refused - self._refused)
        self._refused = refused
        readings = [flow.read() for flow in flows]
        return _Counts(
            shed=sum([reading.shed for reading in readings]),
            overflowed=sum([reading.overflowed for reading in readings]),
            undelivered=sum([reading.undelivered for reading in readings]),
            unrecorded=self._unrecorded,
            would_have_shed=sum([reading.would_have_shed for reading in readings]),
            exported=sum([reading.exported for reading in readings]),
            held=sum([reading.held for reading in readings]),
        )

    def _why(self, now: float, flow: Flow, brownout: BrownoutSnapshot, oldest: float) -> str:
        why = cause(flow, brownout, now)
        if oldest <= OLD_SECONDS:
            return why
        is_all = not brownout.reasons and not flow.exports.failing_for(now)
        return ("" if is_all else f"{why}; ") + f"the oldest span held is {oldest:.0f} s old"

    def _say(self, now: float, time: _Time, counts: _Counts, why: str, flow: Flow) -> None:
        before = time.before if time.told is None else time.told
        if counts.shed > before.shed:
            why += ": whole traces are shed, failed ones last" if flow.policy is not None else ": spans are shed"
        if time.told is None:
            begins, during = why, duration(now - time.since)
        else:
            begins = f"still, after {duration(now - time.since)}: {why}"
            during = f"the last {duration(now - (self._line_at or time.since))}"
        time.was_away = time.was_away or flow.exports.failing_for(now) > 0
        read_on = "to see why, run: otel-shed doctor" if time.was_away else "docs/overload.md"
        self._write(
            f"{begins}. {counts.since(before, during)}. The program goes on and is not affected ({read_on})",
            matters=self._enforcing or time.was_away or counts.undelivered > before.undelivered,
        )
        time.told, self._line_at = counts, now

    def _say_over(self, now: float, time: _Time, flow: Flow, counts: _Counts) -> None:
        became = replace(time.last, held=counts.held).since(time.before, duration(time.changed - time.since))
        begins = f"{flow.where} answers again" if time.was_away else "nothing is shed or lost any more"
        self._write(
            f"{begins}. {became}. The program was not affected (docs/overload.md)",
            matters=self._enforcing or time.was_away or counts.undelivered > time.before.undelivered,
        )
        if time.told is None:
            self._line_at = now
        self._time = None

    def _write(self, text: str, *, matters: bool) -> None:
        try:
            _logger.log(logging.WARNING if matters else logging.INFO, "%s", text)
        except Exception as error:  # a logging handler of the application's; this may be the middle of its Span.end()
            if is_applications(error):
                raise
