"""The encoders that are held to the same tests: over public properties, over private slots, and compiled."""

from __future__ import annotations

from typing import Final

import pytest

from otel_shed.otlp.encode import Encoder, encode_public
from otel_shed.otlp.encode_compiled import encode_compiled
from otel_shed.otlp.slots import encode_slots
from otel_shed.record import SpanRecord

ENCODERS: Final[dict[str, Encoder]] = {"public": encode_public, "slots": encode_slots}
if encode_compiled is not None:
    ENCODERS["compiled"] = encode_compiled

every_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
compiled_only = pytest.mark.skipif(encode_compiled is None, reason="the compiled parts are not built, or not wanted")

HEADER: Final = (
    "trace_id", "span_id", "parent_span_id", "flags", "name", "status", "duration_ns", "priority", "kind", "failed",
    "trace_state",
)  # fmt: skip


def header(record: SpanRecord) -> dict[str, object]:
    """What decisions read of a record, beside its bytes."""
    return {field: getattr(record, field) for field in HEADER}


def everything(record: SpanRecord) -> dict[str, object]:
    """All that two records of the same span must have in common, to the byte."""
    fields = (*HEADER, "length", "group", "body", "span", "order", "limit")
    return {field: getattr(record, field) for field in fields}
