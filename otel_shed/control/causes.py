"""Why telemetry is shed or lost, in words for a log line: which of the things that press, and what the numbers are.

Owns nothing: values in, text out. The rule: what an operator can do something about is named, the collector by its
endpoint, a setting by its variable.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_shed.control.brownout import BrownoutSnapshot
from otel_shed.control.flow import Flow

# A request that has been under way for less is no news; the second where nothing else is known of the collector.
_LONG_SECONDS = 5.0
_UNUSUAL_SECONDS = 2.0

_OF_THE_PROCESS: Mapping[str, str] = {
    "memory": "the process is short of memory",
    "cpu_share": "tracing takes more of the CPU than OTEL_SHED_CPU_SHARE allows",
    "held_bytes": "what is held comes near OTEL_SHED_MAX_HELD_BYTES",
}
_OF_THE_COLLECTOR = frozenset(
    {
        "intake_fill",
        "drop_rate",
        "throttled",
        "export_failures",
        "export_timeouts",
        "export_latency",
        "over_budget",
    }
)


def cause(flow: Flow, brownout: BrownoutSnapshot, now: float) -> str:
    """What is wrong, as the first words of a line; ``flow`` is the one that it is worst with."""
    exports = flow.exports
    if (seconds := exports.failing_for(now)) > 0:
        what = "cannot take requests" if exports.failure_is_answer else "does not answer"
        return f"{flow.where} {what} ({exports.failure}; for {duration(seconds)})"
    reason = brownout.reasons[0] if brownout.reasons else ""
    if brownout.forced:
        return f"the phase {brownout.phase.value} is forced ({', '.join(brownout.reasons)})"
    if reason in _OF_THE_PROCESS:
        return _OF_THE_PROCESS[reason]
    if reason and reason not in _OF_THE_COLLECTOR:
        return f"the pressure signal {reason} is high"
    waiting = exports.waiting(now)
    unanswered = f"{flow.where} has not answered a request for {duration(waiting)}"
    if waiting >= _LONG_SECONDS:
        return unanswered
    takes, offered = flow.state.spans_per_second, flow.state.offered
    if takes is not None and offered > takes:
        asks = " asks for less: it" if reason == "throttled" else ""
        return f"{flow.where}{asks} takes about {takes:,.0f} spans/s and the program makes {offered:,.0f}"
    if reason == "throttled":
        return f"{flow.where} asks for less"
    if waiting >= _UNUSUAL_SECONDS:
        return unanswered
    return f"{flow.where} takes spans more slowly than the program makes them"


def duration(seconds: float) -> str:
    """Seconds as people say them: ``7 s``, ``3 min``, ``2 h``."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 100 * 60 else f"{round(seconds / 3600)} h"
