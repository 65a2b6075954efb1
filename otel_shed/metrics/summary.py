"""The summary as metrics: by name and kind, how many spans were shed, how many of them failed, how long they took.

Read by the meter provider's collection thread. The rule: what is emitted is bounded as the summary is, whatever the
names are: 1,001 rows of 22 points, 22,022 points at the worst; a View that drops ``otel_shed.summary.*``, or keeps only
the attributes that are wanted, makes it less.

OpenTelemetry has no observable histogram, and a synchronous one would have to be given each span by itself: on the
threads that are to be spared, while they end spans that are being shed to spare them, or all at once at collection,
which then takes as long as the storm was large. So the histogram is a counter with the upper bound in the attribute
``le``, cumulative, as Prometheus has its classic histograms: ``histogram_quantile`` works on it as it is, and it adds
up over names and processes because every row has the same bounds. They are every second power of the summary's own
buckets, from 1 ms to 69 s: exact counts, not estimates. Counters and sums are monotonic, so any back end makes rates of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from otel_shed.instruments import Instrument, Instruments, Kind, Points
from otel_shed.pipeline.summary import SCALE, Summary, SummaryRow, upper_bound

SCOPE = "otel_shed"
# What the Collector's spanmetrics connector calls them, and the values that it gives them: what was shed and what was
# exported can be added up.
NAME = "span.name"
KIND = "span.kind"
BOUND = "le"

# 2^20 ns is 1.05 ms, 2^36 ns is 68.7 s; what is shorter or longer is in the first, or only in +Inf.
_DOUBLINGS = range(20, 37)
# The last of the summary's buckets below each bound, and the bound in seconds.
_BOUNDS = tuple((last, repr(upper_bound(last))) for last in [(doubling << SCALE) - 1 for doubling in _DOUBLINGS])


def _of_rows(points: Callable[[SummaryRow], Points]) -> Callable[[Summary], Points]:
    def read(summary: Summary) -> Iterator[tuple[float, dict[str, str | int]]]:
        for row in summary.snapshot():
            of = {NAME: row.name, KIND: f"SPAN_KIND_{row.kind.upper()}"} if row.kind else {NAME: row.name}
            for value, attributes in points(row):
                yield value, {**of, **attributes}

    return read


def _buckets(row: SummaryRow) -> Points:
    count, filled = 0, sorted(row.buckets.items(), reverse=True)
    for last, bound in _BOUNDS:
        while filled and filled[-1][0] <= last:
            count += filled.pop()[1]
        yield count, {BOUND: bound}
    yield row.count, {BOUND: "+Inf"}


SUMMARY: Instruments[Summary] = Instruments(
    SCOPE,
    Instrument(
        name="otel_shed.summary.spans",
        kind=Kind.COUNTER,
        unit="{span}",
        description="Spans that were shed.",
        attributes=(NAME, KIND),
        read=_of_rows(lambda row: [(row.count, {})]),
    ),
    Instrument(
        name="otel_shed.summary.errors",
        kind=Kind.COUNTER,
        unit="{span}",
        description="Spans that were shed and had the status ERROR.",
        attributes=(NAME, KIND),
        read=_of_rows(lambda row: [(row.errors, {})]),
    ),
    Instrument(
        name="otel_shed.summary.duration",
        kind=Kind.COUNTER,
        unit="s",
        description="How long the spans that were shed took in all.",
        attributes=(NAME, KIND),
        read=_of_rows(lambda row: [(row.total, {})]),
    ),
    Instrument(
        name="otel_shed.summary.duration.max",
        kind=Kind.GAUGE,
        unit="s",
        description="How long the longest of the spans that were shed took.",
        attributes=(NAME, KIND),
        read=_of_rows(lambda row: [(row.max, {})]),
    ),
    Instrument(
        name="otel_shed.summary.duration.bucket",
        kind=Kind.COUNTER,
        unit="{span}",
        description="Spans that were shed and took at most `le` seconds.",
        attributes=(NAME, KIND, BOUND),
        read=_of_rows(_buckets),
    ),
)
