"""Sample spans for the proof: between them they use every field that a span has, at its edges.

Owns nothing; proof.py calls it at import. The rule: what the encoder writes has a sample here, and no sample uses
what cannot be compared (NaN) or what makes the SDK log (values that it would have to clean).
"""

from __future__ import annotations

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import AnyValue

_START = 1_700_000_000_123_456_789
_TRACE = 0x0102030405060708090A0B0C0D0E0F10

_VALUES: dict[str, AnyValue] = {
    "sample.string": "value",
    "sample.string.empty": "",
    "sample.string.unicode": "żółw 🐢",
    "sample.string.long": "long " * 50,
    "sample.string.longer": "longer " * 3000,
    "sample.true": True,
    "sample.false": False,
    "sample.zero": 0,
    "sample.one": 1,
    "sample.int": 1_000,
    "sample.int.larger": 5_000,
    "sample.int.large": 10**15,
    "sample.int.negative": -1,
    "sample.int.lowest": -(1 << 63),
    "sample.int.highest": (1 << 63) - 1,
    "sample.float": 1.0,
    "sample.float.negative": -0.0,
    "sample.float.infinite": float("inf"),
    "sample.bytes": b"\x00\xff",
    "sample.bytes.empty": b"",
    "sample.none": None,
    "sample.strings": ["a", "", "ü", "long " * 300],
    "sample.ints": [0, 1, -1, 1 << 40],
    "sample.mixed": [True, 1, 1.5, "x", b"y", None, [], [["deep"]], {"key": "value"}],
    "sample.empty": [],
    "sample.map": {"a": 1, "b": {"c": [False, {}], "d": "é"}, "e": "long " * 300},
    "sample.map.empty": {},
    "ключ": "key beyond ASCII",
    "sample.key." + "long" * 300: "key beyond the tables",
}


def sample_spans() -> list[ReadableSpan]:
    """Spans as the SDK hands them to processors: one with everything, one with nothing, and one of each kind."""
    state = TraceState([("ot", "th:8;rv:0123456789abcd"), ("vendor", "value")])
    full = SpanContext(_TRACE, 0x1122334455667788, False, TraceFlags(TraceFlags.SAMPLED), state)
    local = SpanContext(_TRACE, 0x8877665544332211, False, TraceFlags(TraceFlags.SAMPLED))
    remote = SpanContext(_TRACE, 0xFFFFFFFFFFFFFFFF, True, TraceFlags(0xFF), state)
    resource = Resource({"service.name": "sample", "sample.list": ["a", "b"]}, "https://sample.example/resource")
    scope = InstrumentationScope("sample.scope", "1.0", "https://sample.example/scope", {"sample.flag": True})
    events = [
        Event("one that the limit drops", _attributes({}), _START),
        Event("exception", _attributes(_VALUES, 3), _START + 1),
        Event("", _attributes({}), _START + 2),
    ]
    links = [
        Link(local, _attributes({})),
        Link(remote, _attributes(_VALUES, 4)),
        Link(local, _attributes({"sample.int": 7})),
    ]
    failed = Status(StatusCode.ERROR, "it failed: ü")
    spans = [
        _span("every field", full, remote, SpanKind.SERVER, failed, resource, scope, _VALUES, events, links),
        _span("", local, None, SpanKind.INTERNAL, Status(), Resource({}), None, {}, [], []),
    ]
    raised = [Event("exception", _attributes({"exception.type": "OSError"}), _START)]
    spans.append(_span("an exception", local, full, SpanKind.CLIENT, Status(), resource, None, {}, raised, []))
    statuses = (Status(), Status(StatusCode.OK), Status(StatusCode.ERROR))
    for number, kind in enumerate(SpanKind):
        name = f"{kind} " + "long " * 300 * (number == 1)
        values: dict[str, AnyValue] = {"sample.string": "value", "sample.int": 1}
        spans.append(
            _span(name, local, full, kind, statuses[number % 3], resource, None, values, events[:1], links[:1])
        )
    return spans


def _span(
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    kind: SpanKind,
    status: Status,
    resource: Resource,
    scope: InstrumentationScope | None,
    values: dict[str, AnyValue],
    events: list[Event],
    links: list[Link],
) -> ReadableSpan:
    return ReadableSpan(
        name,
        context,
        parent,
        resource,
        _attributes(values, 2 if values is _VALUES else 0),
        BoundedList.from_seq(2, events),
        BoundedList.from_seq(2, links),
        kind,
        status=status,
        start_time=_START,
        end_time=_START + len(values) * 10**9,
        instrumentation_scope=scope,
    )


def _attributes(values: dict[str, AnyValue], dropped: int = 0) -> BoundedAttributes:
    attributes = BoundedAttributes(attributes=values, immutable=True)
    attributes.dropped = dropped
    return attributes
