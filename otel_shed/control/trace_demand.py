"""What local traces ask for: how many spans a second, and the probability with which so many of them are kept.

Owned by a policy and changed in the ledger; whoever holds it says how much time has passed. Rates are averages over
seconds, the older the less. The rule: a trace that came with a threshold counts for those that it stands for, so what
is found is a probability on the scale on which it is written.
"""

from __future__ import annotations

import math

from otel_shed.control.threshold import NEVER, adjusted_count

# Chance must not move the rates, so they are those of some seconds; unless within a fraction of one they have changed
# by half, in enough traces to believe it: then the averages begin anew.
SLOW_SECONDS = 2.0
FAST_SECONDS = 0.25
CHANGED = 1.5
ENOUGH_TRACES = 16.0

_NOTHING = 1e-9


class _Average:
    """Events a second over the last seconds; of a younger one, since it began."""

    __slots__ = ("_age", "_memory", "_sum")

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._sum = self._age = 0.0

    @property
    def value(self) -> float:
        return self._sum / -math.expm1(-self._age / self._memory) if self._age else 0.0

    def add(self, count: float, seconds: float) -> None:
        self._sum += -math.expm1(-seconds / self._memory) * (count / seconds - self._sum)
        self._age += seconds

    def begin_anew(self, value: float, age: float) -> None:
        self._age = age
        self._sum = value * -math.expm1(-age / self._memory)


class _Rate:
    """Events a second: over a long and over a short time."""

    __slots__ = ("count", "fast", "slow")

    def __init__(self) -> None:
        self.count = 0.0
        self.slow, self.fast = _Average(SLOW_SECONDS), _Average(FAST_SECONDS)

    def look(self, seconds: float) -> None:
        self.slow.add(self.count, seconds)
        self.fast.add(self.count, seconds)
        self.count = 0.0


class _Octave:
    """Traces that came with about the same probability: within a factor of two."""

    __slots__ = ("adjusted", "spans")

    def __init__(self) -> None:
        self.spans, self.adjusted = _Rate(), _Rate()


class TraceDemand:
    """Of one kind of traces."""

    def __init__(self) -> None:
        self._traces = _Rate()
        # By the octave of the probability with which they came.
        self._octaves: dict[int, _Octave] = {}
        # Spans a second, and how many these stand for; the lowest probability first. As of the last look.
        self._rates: list[tuple[float, float]] = []
        self.spans_per_second = 0.0

    def add(self, spans: int, threshold: int | None) -> None:
        """A trace of so many spans that came with ``threshold``; None is 0, as nothing is known of others."""
        threshold = min(threshold, NEVER - 1) if threshold else 0
        key = (NEVER - threshold).bit_length()
        octave = self._octaves.get(key)
        if octave is None:
            octave = self._octaves[key] = _Octave()
        octave.spans.count += spans
        octave.adjusted.count += spans * adjusted_count(threshold) if threshold else spans
        self._traces.count += 1

    def look(self, seconds: float) -> None:
        """So much time, more than none, has passed since the last look."""
        octaves = self._octaves
        rates = [self._traces, *(rate for octave in octaves.values() for rate in (octave.spans, octave.adjusted))]
        for rate in rates:
            rate.look(seconds)
        slow = sum([octave.spans.slow.value for octave in octaves.values()])
        fast = sum([octave.spans.fast.value for octave in octaves.values()])
        traces = FAST_SECONDS * max(self._traces.slow.value, self._traces.fast.value)
        if traces >= ENOUGH_TRACES and not slow / CHANGED <= fast <= slow * CHANGED:
            for rate in rates:
                rate.slow.begin_anew(rate.fast.value, FAST_SECONDS)
        self._rates = [(octaves[key].spans.slow.value, octaves[key].adjusted.slow.value) for key in sorted(octaves)]
        self.spans_per_second = sum([spans for spans, _ in self._rates])

    @property
    def spans_per_trace(self) -> float:
        """How large they are; 0 without any."""
        traces = self._traces.slow.value
        return self.spans_per_second / traces if traces > _NOTHING else 0.0

    def probability(self, spans_per_second: float) -> float:
        """0..1: what is kept with it are so many spans a second."""
        left = max(0.0, spans_per_second)
        if left >= self.spans_per_second:
            return 1.0
        stand_for = sum([adjusted for _, adjusted in self._rates])
        for spans, adjusted in self._rates:
            if left * adjusted <= spans * stand_for:
                break
            # These came with less: all of them are kept.
            left -= spans
            stand_for -= adjusted
        return min(1.0, left / stand_for) if stand_for > _NOTHING else 1.0
