"""What a reader of the demo's page needs in words: what counts, why the offered rate falls, the phases, and chance.

Pure: text. The figures about chance are those by which the page tells a difference from none (table.py).
"""

from __future__ import annotations

from otel_shed.command.storm.run import Plan
from otel_shed.command.storm.table import ESTIMATE_DIFFERS, SHARE_DIFFERS, TIMES_DIFFERS
from otel_shed.control.phase import Phase

# What each phase does, as docs/overload.md has it.
PHASES = {
    Phase.NORMAL: "Nothing presses: every span goes out as it ends.",
    Phase.OBSERVE: "Pressure rises: the spans of a trace are held until the trace has ended; nothing is shed.",
    Phase.DEGRADE: (
        "The collector takes less than there is: whole traces are shed so that the others fit. Failed ones are kept "
        "first; of the others their randomness decides, and what is kept says what it stands for."
    ),
    Phase.SHED_OPTIONAL: "The worst pressure: only failed, slow and important traces are kept, as far as they fit.",
    Phase.RECOVERY: "Pressure is gone: as in degrade, for three seconds more, before everything goes out again.",
}


def what_counts(settling: float) -> str:
    """The window of time. settling: seconds of the storm that are left out."""
    return (
        "What counts, in the rows that were seen while it ran, above, in the pictures and in the table, are the traces "
        f"that start from {settling:g} s after the beginning of the storm until its end. The first {settling:g} s are "
        "left out on both sides: nobody knows yet what the collector takes, and what was queued until then overflows. "
        "The pictures show them too, pale, and the calm. What the table gives of the whole run stands there by itself. "
        "A trace is whole if each of its ten spans arrived."
    )


def offered_rate(plan: Plan, *, ended: float, lasts: float) -> str:
    """Why the line goes down where it does. ended: the storm; lasts: all of it; seconds since the storm began."""
    told = (
        f"All ten spans of a trace count where it starts. The fall from {plan.rate:,.0f} to {plan.calm_rate:,.0f} "
        f"spans a second at {ended:.0f} s is the end of the storm, the same on both sides, and no loss: the program "
        "has less to tell then. The traces that began in the storm's last two seconds still end in the calm, and what "
        "is held is sent first, so the calm's first traces may be shed too. "
    )
    if lasts > ended + plan.calm:
        told += f"At {ended + plan.calm:.0f} s the program starts no more, and only ends what it began. "
    return told + (
        "A small dip is the machine, which did not get to it in time; the program makes up for that where it was less "
        "than half a second."
    )


def differences() -> str:
    """What a difference between two runs of the same side is."""
    return (
        "Two runs of the same side differ: the machine does other things too, and a sample is a sample (some 200 "
        "traces arrive, and stand for 2,500). In six runs of ten seconds on two busy cores the shares of whole traces "
        f"differed by less than {100 * SHARE_DIFFERS:g} percentage points, the counts from what arrived by up to "
        f"{100 * ESTIMATE_DIFFERS:g}, the 99th percentile of Span.end() up to {TIMES_DIFFERS:g}-fold, its 99.9th "
        "tenfold and its longest call twentyfold. What is closer than that is no difference; what is not may still be "
        "one: run it again."
    )
