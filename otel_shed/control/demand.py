"""The demand: how many roots start, how many spans come of each that is kept, how many would come if all were.

Owned by the budget, which calls it with counts that only rise; a count that has become less has begun anew (a fork),
and so does this. The rule: what is shed is part of the demand, because it would be back as soon as shedding ends.
"""

from __future__ import annotations

from collections import deque

from otel_shed.control.rates import Ratio

# A storm's end has to be seen within 10 s less the two times 3 s of calm; an average that fades would still see a
# hundredth of a storm after 4.6 of its time constants. In two seconds most programs start enough roots to tell.
WINDOW_SECONDS = 2.0
# Less than this is no rate yet.
_LEAST_SECONDS = 1.0
# A trace's spans end after it began, so this has to be much longer than most traces.
SIZE_SECONDS = 10.0
# Of a root of 46 s ago so much is remembered; what has come since then did not come of it.
_LEAST_ROOTS = 0.01


class Demand:
    """Rates a second.

    roots: local roots that may be thinned out. arrivals: spans that ended, but for those shed for low priority.
    spans_per_root: so many arrive for each root that is kept. wanted: spans that would arrive if all roots were kept;
    offered: those that would if low priority were no reason either.
    """

    def __init__(self) -> None:
        # Counts within the window, and the last ones before it: when, roots, spans, low.
        self._seen: deque[tuple[float, int, int, int]] = deque()
        self._kept = 0
        self._size, self._share = Ratio(SIZE_SECONDS), Ratio(WINDOW_SECONDS)
        self.roots = self.arrivals = self.offered = 0.0
        self.spans_per_root = 1.0

    @property
    def wanted(self) -> float:
        return self.roots * self.spans_per_root

    def note(self, now: float, *, roots: int, kept: int, spans: int, low: int, ceiling: float) -> None:
        """The counts as they are ``now``, later than the last time; see ``Counts`` for what they are."""
        seen = self._seen
        if seen and (roots < seen[-1][1] or spans + low < seen[-1][2] + seen[-1][3]):
            seen.clear()
        if seen:
            before, _, spans_before, low_before = seen[-1]
            # A count may be read in the middle of a change of two: then it is one too high for once.
            ended, shed = max(0, spans - spans_before), max(0, low - low_before)
            self._size.add(ended + shed, max(0, kept - self._kept), now - before)
            # What low priority is shed for changes with the phase, at once: so it must not wait for the size.
            self._share.add(ended, ended + shed, now - before)
        seen.append((now, roots, spans, low))
        self._kept = kept
        while len(seen) > 2 and seen[1][0] <= now - WINDOW_SECONDS:
            seen.popleft()
        began, roots_then, spans_then, low_then = seen[0]
        seconds = max(_LEAST_SECONDS, now - began)
        self.roots = max(0, roots - roots_then) / seconds
        self.arrivals = max(0, spans - spans_then) / seconds
        size = max(1.0, self._size.value(otherwise=1.0, least=_LEAST_ROOTS))
        self.spans_per_root = size * self._share.value(otherwise=1.0)
        self.offered = max(self.roots * size * ceiling, self.arrivals + max(0, low - low_then) / seconds)
