"""Changes to a span that is encoded already: another parent, another tracestate.

Pure functions, for any thread. They append: of a field that is there more than once a parser takes the last ("Last One
Wins", https://protobuf.dev/programming-guides/encoding/). The rule: nothing is encoded again, and all that is not
changed stays, byte by byte.
"""

from __future__ import annotations

from otel_shed.control.threshold import OT, format_ot, parse_ot
from otel_shed.otlp.wire import sized, utf8

# opentelemetry/proto/trace/v1/trace.proto: Span.trace_state = 3, Span.parent_span_id = 4.
_TRACE_STATE, _PARENT = b"\x1a", b"\x22"
_TRACE_STATE_FIELD = 3
# W3C Trace Context 3.3.1.1: entries of a tracestate.
_MAX_ENTRIES = 32


def amended(body: bytes, *, parent_span_id: int | None = None, trace_state: str | None = None) -> bytes:
    """The body of a Span message with another parent, 0 for none, and another tracestate; None leaves either."""
    parts = [body]
    if parent_span_id is not None:
        parts.append(sized(_PARENT, parent_span_id.to_bytes(8, "big") if parent_span_id else b""))
    if trace_state is not None:
        parts.append(sized(_TRACE_STATE, utf8(trace_state)))
    return b"".join(parts)


def trace_state_of(body: bytes) -> str:
    """The tracestate in the body of a Span message, as a parser would find it; "" without any."""
    found = b""
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        kind = key & 7
        if kind == 2:
            length, at = _varint(body, at)
            if key >> 3 == _TRACE_STATE_FIELD:
                found = body[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(body, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"there is no field of wire type {kind} in a span")
    return found.decode("utf-8", "replace")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def raised_trace_state(trace_state: str, threshold: int) -> str:
    """A tracestate whose ``ot=th`` says at least ``threshold``, 0 to 2**56-1; what others wrote stays as it is.

    Where ``ot`` is changed it comes first (W3C Trace Context 3.5), and of 32 others the last gives way. Without a
    ``th`` the threshold is written as if it had been 0: that is all there is to know.
    """
    others = []
    entry = parse_ot("")
    for member in trace_state.split(","):
        key, _, value = member.strip(" \t").partition("=")
        if key == OT:
            entry = parse_ot(value)
        elif key:
            others.append(f"{key}={value}")
    if threshold <= (entry.threshold or 0):
        return trace_state
    return ",".join([f"{OT}={format_ot(threshold, entry.others)}", *others[: _MAX_ENTRIES - 1]])
