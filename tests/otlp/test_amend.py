"""Changes to an encoded span: what a parser reads of it afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import TraceState

from otel_shed.control.threshold import NEVER, parse_ot, read_ot
from otel_shed.otlp.amend import amended, raised_trace_state, trace_state_of
from tests.otlp.made_spans import spans, stock_message

states = st.lists(
    st.sampled_from(
        ["vendor=a", "ot=th:8;rv:0123456789abcd", "ot=rv:0123456789abcd;x:1", "ot=th:fd70a", "b@c=x y/z", "ot="]
    ),
    unique_by=lambda member: member.partition("=")[0],
).map(",".join)
thresholds = st.integers(0, NEVER - 1) | st.sampled_from([0, 1, NEVER // 2, NEVER - 1])


@given(spans(), st.none() | st.integers(0, (1 << 64) - 1), st.none() | st.text(max_size=300))
def test_a_parser_reads_what_was_amended_and_all_the_rest(
    span: ReadableSpan, parent: int | None, trace_state: str | None
) -> None:
    """The last one of a field wins: the stock message class reads the span with other values, and nothing else."""
    message = stock_message(span)
    body = message.SerializeToString()
    changed = amended(body, parent_span_id=parent, trace_state=trace_state)
    assert changed.startswith(body)
    if parent is not None:
        message.parent_span_id = parent.to_bytes(8, "big") if parent else b""
    if trace_state is not None:
        message.trace_state = trace_state
    assert trace_pb2.Span.FromString(changed).SerializeToString() == message.SerializeToString()


@given(spans(), st.text(max_size=20), st.text(max_size=20))
def test_the_last_of_several_changes_counts(span: ReadableSpan, first: str, second: str) -> None:
    """Amending what was amended is the same as amending once."""
    body = amended(stock_message(span).SerializeToString(), parent_span_id=1, trace_state=first)
    message = trace_pb2.Span.FromString(amended(body, parent_span_id=2, trace_state=second))
    assert message.parent_span_id == (2).to_bytes(8, "big")
    assert message.trace_state == second


def test_nothing_to_change_is_the_same() -> None:
    """Byte by byte."""
    assert amended(b"\x0a\x00") == b"\x0a\x00"


def test_what_utf8_cannot_hold_does_no_harm() -> None:
    """A tracestate with half a surrogate pair, of a program that made it by hand."""
    body = amended(b"", trace_state="a=\ud800")
    assert trace_pb2.Span.FromString(body).trace_state == "a=�"


@given(spans(), st.none() | st.text(max_size=20))
def test_the_tracestate_is_found_in_the_body(span: ReadableSpan, changed: str | None) -> None:
    """As a parser finds it, whatever else is in there, and also when it was amended."""
    body = amended(stock_message(span).SerializeToString(), trace_state=changed)
    assert trace_state_of(body) == trace_pb2.Span.FromString(body).trace_state


def test_the_tracestate_is_found_among_fields_of_all_kinds() -> None:
    """Those of later versions of the protocol too."""
    unknown = b"\xf8\x3f\x96\x01" + b"\xfd\x3f\x01\x02\x03\x04" + b"\xfa\x3f\x02\x1a\x01" + b"\xf9\x3f" + bytes(8)
    assert trace_state_of(unknown + b"\x1a\x03a=b" + unknown) == "a=b"
    with pytest.raises(ValueError, match="wire type 3"):
        trace_state_of(b"\x1b")


@given(states, thresholds)
def test_a_threshold_is_raised_and_never_lowered(trace_state: str, threshold: int) -> None:
    """Whatever stands in the tracestate, and all that is not the threshold stays."""
    raised = raised_trace_state(trace_state, threshold)
    members = dict(member.split("=", 1) for member in trace_state.split(",") if member)
    after = dict(member.split("=", 1) for member in raised.split(",") if member)
    before = parse_ot(members.pop("ot", ""))
    entry = parse_ot(after.pop("ot", ""))
    assert (entry.threshold or 0) == max(before.threshold or 0, threshold)
    assert entry.others == before.others
    assert list(after.items()) == list(members.items())
    if threshold > (before.threshold or 0):
        assert raised.startswith("ot=th:")
    else:
        assert raised == trace_state


def test_what_comes_out_is_a_tracestate() -> None:
    """Of at most 32 entries, as the SDK reads it."""
    full = ",".join(f"k{number}=v" for number in range(32))
    state = TraceState.from_header([raised_trace_state(full, NEVER // 2)])
    assert len(state) == 32
    assert read_ot(state).threshold == NEVER // 2
    assert "k30" in state
    assert "k31" not in state


def test_spaces_between_entries_are_no_part_of_them() -> None:
    """W3C Trace Context 3.3.1.3 allows them."""
    assert raised_trace_state("a=1 ,\tot=rv:0123456789abcd , b=2", NEVER // 2) == "ot=th:8;rv:0123456789abcd,a=1,b=2"
