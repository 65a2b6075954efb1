"""Hostile spans: what cannot be encoded costs itself alone, is counted, and harms nobody else in its batch."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from otel_shed.otlp.encode import EncodeError, Encoder, wrap_span
from otel_shed.otlp.proof import encode_span
from tests.otlp.encoders import every_encoder
from tests.otlp.made_spans import CONTEXT, bounded, canonical, made_span, message, stock_message


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not the text"

    def __radd__(self, other: object) -> Any:
        raise AssertionError


class _Bytes(bytes):
    def __radd__(self, other: object) -> Any:
        raise AssertionError


class _Colour(enum.IntEnum):
    RED = 7


class _Float(float):
    pass


@every_encoder
@pytest.mark.parametrize(
    "value", [_Text("text"), _Bytes(b"bytes"), _Colour.RED, _Float(1.5), range(3), bytearray(b"ab")]
)
def test_subclasses_are_what_they_hold(encoder: Encoder, value: Any) -> None:
    """A value of a subclass, or of another kind of sequence, is encoded as stock does; its own code is not asked."""
    span = made_span(attributes={"key": value, _Text("key of a subclass"): [value]})
    assert message(encoder(span)) == stock_message(span)


class _NumberLike:
    def __index__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0


class _BrokenSequence(Sequence[int]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        raise ValueError("broken")


class _EndlessSequence(_BrokenSequence):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class _BrokenMapping(Mapping[str, int]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("dictionary changed size during iteration")

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)


class _Liar:
    @property
    def __class__(self) -> Any:
        raise OSError("not even this can be asked")


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append([cycle, cycle])
    return cycle


def _map_cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = [cycle, cycle]
    return cycle


def _shared(depth: int) -> list[Any]:
    value: list[Any] = [1, 2, 3]
    for _ in range(depth):
        value = [value, value]
    return value


UNENCODABLE = {
    "an object": object,
    "a number of another make": _NumberLike,
    "an int of more digits than anybody reads": lambda: 10**4300,
    "such an int inside": lambda: [1, [-(10**4300)]],
    "a set": lambda: {1, 2},
    "a cycle": _cycle,
    "a cycle of maps": _map_cycle,
    "lists that share their parts": lambda: _shared(40),
    "a sequence that raises": _BrokenSequence,
    "a sequence without end": _EndlessSequence,
    "a mapping that raises": _BrokenMapping,
    "an object that lies": _Liar,
    "an object inside": lambda: {"a": [object()]},
}


@every_encoder
@pytest.mark.parametrize("make", UNENCODABLE.values(), ids=UNENCODABLE)
def test_a_bad_attribute_costs_itself_and_is_counted(encoder: Encoder, make: Callable[[], Any]) -> None:
    """What cannot be encoded is dropped alone from span, event and link, and added to their dropped counts."""
    bad = {"before": 1, "bad": make(), "after": "x"}
    event, link = Event("event", bounded(bad), 7), Link(CONTEXT, bounded(bad))
    span = made_span(attributes=bad, events=[event], links=[link])
    span._attributes.dropped = 2
    found = message(encoder(span))
    for part, dropped in ((found, 3), (found.events[0], 1), (found.links[0], 1)):
        assert [attribute.key for attribute in part.attributes] == ["before", "after"]
        assert part.dropped_attributes_count == dropped


class _LargeNumber(int):
    """Says of itself what is not so."""

    def __repr__(self) -> str:
        return "no number"

    __str__ = __repr__


LARGE = [1 << 63, -(1 << 63) - 1, 1 << 64, 10**60, -(10**4299), _LargeNumber(1 << 70)]


@every_encoder
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("number", LARGE, ids=lambda number: f"{len(int.__repr__(number))} digits")
def test_an_int_over_64_bits_becomes_decimal_text(encoder: Encoder, number: int, limit: int | None) -> None:
    """In span, event and link, alone, in lists and in maps; nothing is dropped for it, and no digit is cut off."""
    values = {"alone": number, "list": [1, number, "x"], "map": {"in": (number, 2)}, "after": 7}
    digits = int.__repr__(number)
    span = made_span(
        attributes=values, events=[Event("event", bounded(values), 7)], links=[Link(CONTEXT, bounded(values))]
    )
    for _ in range(2):
        found = message(encoder(span, limit))
        for part in (found, found.events[0], found.links[0]):
            alone, array, mapping, after = (attribute.value for attribute in part.attributes)
            assert alone.string_value == digits
            assert [each.string_value for each in array.array_value.values] == ["", digits, "x"]
            assert array.array_value.values[0].int_value == 1
            inner = mapping.kvlist_value.values[0].value.array_value.values
            assert (inner[0].string_value, inner[1].int_value, after.int_value) == (digits, 2, 7)
            assert part.dropped_attributes_count == 0


@every_encoder
@pytest.mark.parametrize("number", [(1 << 63) - 1, -(1 << 63), 0, True])
def test_an_int_of_64_bits_stays_one(encoder: Encoder, number: int) -> None:
    """To the last."""
    assert message(encoder(made_span(attributes={"a": number}))) == stock_message(made_span(attributes={"a": number}))


def test_a_resource_with_an_int_over_64_bits() -> None:
    """It is encoded where the resource is, as are the scope's attributes."""
    resource = Resource({"service.name": "shop", "machine": 1 << 70})
    scope = InstrumentationScope("shop.web", "1.0", attributes={"number": [1 << 70]})
    record = encode_span(made_span(resource=resource, instrumentation_scope=scope))
    assert record.group is not None
    assert str(1 << 70).encode() in record.group.resource
    assert str(1 << 70).encode() in record.group.scope


class _Unmeasurable(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise OSError("not to be measured")


class _ForgetfulKey(str):
    """Can be hashed once, to get into the attributes."""

    __slots__ = ("hashed",)

    def __hash__(self) -> int:
        if hasattr(self, "hashed"):
            raise OSError("not again")
        self.hashed = True
        return 7


UNCUTTABLE = UNENCODABLE | {
    "a text that cannot be measured": lambda: _Unmeasurable("text"),
    "such a text inside": lambda: [1, {"in": (_Unmeasurable("text"),)}],
}


@every_encoder
@pytest.mark.parametrize("length", [4, 100])
@pytest.mark.parametrize("make", UNCUTTABLE.values(), ids=UNCUTTABLE)
def test_an_attribute_that_cannot_be_cut_costs_itself_and_is_counted(
    encoder: Encoder, make: Callable[[], Any], length: int
) -> None:
    """With a limit, what raises while it is cut, or never ends, is dropped alone; what is too long is cut."""
    bad = {"before": 1, "long": "x" * 50, "bad": make(), "after": "x"}
    event, link = Event("event", bounded(bad), 7), Link(CONTEXT, bounded(bad))
    span = made_span(attributes=bad, events=[event], links=[link])
    span._attributes.dropped = 2
    found = message(encoder(span, length))
    for part, dropped in ((found, 3), (found.events[0], 1), (found.links[0], 1)):
        assert [attribute.key for attribute in part.attributes] == ["before", "long", "after"]
        assert len(part.attributes[1].value.string_value) == min(length, 50)
        assert part.dropped_attributes_count == dropped


@every_encoder
def test_a_key_that_raises_while_its_value_is_cut_costs_itself(encoder: Encoder) -> None:
    """With a limit, an attribute whose key cannot be put into another dict is dropped alone and counted."""
    found = message(encoder(made_span(attributes={"long": "x" * 50, _ForgetfulKey("key"): 1, "after": 2}), 4))
    assert [attribute.key for attribute in found.attributes] == ["long", "after"]
    assert found.dropped_attributes_count == 1


@every_encoder
@pytest.mark.parametrize("key", [5, 1.5, (), frozenset()])
def test_a_key_that_is_no_text_costs_its_attribute(encoder: Encoder, key: Any) -> None:
    """Keys of other types are dropped and counted."""
    found = message(encoder(made_span(attributes={key: "x", "good": 1})))
    assert [attribute.key for attribute in found.attributes] == ["good"]
    assert found.dropped_attributes_count == 1


@every_encoder
def test_half_a_surrogate_pair_is_replaced(encoder: Encoder) -> None:
    """Text that UTF-8 cannot hold survives everywhere, with U+FFFD; two halves that meet are one character again."""
    bad, good = "a\udc80b", "a\ufffdb"
    span = made_span(
        bad,
        attributes={bad: bad, "list": [bad], "map": {bad: bad}, "pair": "\ud83d\udc22"},
        events=[Event(bad, bounded({}), 1)],
        status=Status(StatusCode.ERROR, bad),
    )
    record = encoder(span)
    found = message(record)
    assert (record.name, found.name, found.events[0].name, found.status.message) == (good, good, good, good)
    first, array, mapping, pair = found.attributes
    assert (first.key, first.value.string_value) == (good, good)
    assert array.value.array_value.values[0].string_value == good
    assert mapping.value.kvlist_value.values[0].key == good
    assert mapping.value.kvlist_value.values[0].value.string_value == good
    assert pair.value.string_value == "🐢"
    assert wrap_span(span).name == good


@every_encoder
def test_bad_spans_harm_nobody_else(encoder: Encoder) -> None:
    """In a batch of good and hostile spans each good one arrives as if it were alone."""
    good = [made_span(f"good {number}", attributes={"n": number}) for number in range(3)]
    hostile = [made_span(attributes={"bad": make()}) for make in UNENCODABLE.values()]
    hostile += [made_span(context=None), made_span(start_time=-1), made_span(parent=SpanContext(1, 1 << 64, False))]
    records, failed = [], 0
    for span in [good[0], *hostile, *good[1:]]:
        try:
            records.append(encoder(span))
        except EncodeError:
            failed += 1
    assert failed == 3
    arrived = [message(record) for record in records if record.name.startswith("good")]
    assert arrived == [stock_message(span) for span in good]
    assert canonical(records)


@every_encoder
@pytest.mark.parametrize(
    "fields",
    [
        {"context": None},
        {"context": SpanContext(1 << 128, 1, False)},
        {"context": SpanContext(-1, 1, False)},
        {"context": SpanContext(1, 1 << 64, False)},
        {"context": Mock()},
        {"parent": SpanContext(1, -1, False)},
        {"start_time": -1},
        {"end_time": 1 << 64},
        {"start_time": "now"},
        {"end_time": float("nan")},
        {"resource": Mock(attributes={}, schema_url=MagicMock(__str__=Mock(side_effect=OSError)))},
    ],
)
def test_a_span_that_cannot_be_encoded_says_so(encoder: Encoder, fields: dict[str, Any]) -> None:
    """No context, ids or times out of range, anything unexpected: EncodeError, and never another exception."""
    with pytest.raises(EncodeError):
        encoder(made_span(**fields))


@every_encoder
def test_what_is_no_span_is_an_encode_error(encoder: Encoder) -> None:
    """An object of any other kind raises EncodeError too."""
    for span in (None, object(), Mock(), MagicMock()):
        with pytest.raises(EncodeError):
            encoder(span)  # type: ignore[arg-type]


@every_encoder
def test_an_interrupt_is_not_swallowed(encoder: Encoder) -> None:
    """What is no Exception, such as Ctrl-C in the middle of an encoding, is the program's."""

    class Interrupting(_BrokenSequence):
        def __getitem__(self, index: Any) -> Any:
            raise KeyboardInterrupt

    for limit in (None, 4):
        with pytest.raises(KeyboardInterrupt):
            encoder(made_span(attributes={"long": "x" * 50, "a": Interrupting()}), limit)


@every_encoder
def test_a_bad_event_or_link_costs_itself_and_is_counted(encoder: Encoder) -> None:
    """An event without a possible time, or a link without a context, is dropped alone and counted."""
    events = [Event("good", bounded({}), 1), Event("bad", bounded({}), -1), Mock(timestamp="x"), Event("good", None, 2)]
    links = [Link(CONTEXT, bounded({})), Link(None, None), Link(SpanContext(1 << 128, 1, False), None)]  # type: ignore[arg-type]
    span = made_span(events=events, links=links)
    span._events.dropped, span._links.dropped = 5, 5
    found = message(encoder(span))
    assert [event.name for event in found.events] == ["good", "good"]
    assert (found.dropped_events_count, len(found.links), found.dropped_links_count) == (7, 1, 7)


@every_encoder
def test_times_of_another_make_are_read(encoder: Encoder) -> None:
    """A time as a float, a common mistake, costs no span; nor does a number of another make."""
    found = message(encoder(made_span(start_time=1_500.9, end_time=_NumberLike())))
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (1_500, 1)


@every_encoder
@pytest.mark.parametrize(("name", "sent"), [(None, ""), (5, "5"), (b"raw", "raw"), (_Text("text"), "text"), ("", "")])
def test_a_name_of_another_type_survives(encoder: Encoder, name: Any, sent: str) -> None:
    """A name is text on the wire and in the header, whatever it was."""
    record = encoder(made_span(name, events=[Event(name, bounded({}), 1)]))
    assert (record.name, message(record).name, message(record).events[0].name) == (sent, sent, sent)
    assert type(record.name) is str


class _Changing(Mapping[str, int]):
    """Changes under the first readings."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        yield "a"
        self.left -= 1
        if self.left >= 0:
            raise RuntimeError("dictionary changed size during iteration")
        yield "b"

    def __getitem__(self, key: str) -> int:
        return 1


@every_encoder
def test_attributes_that_change_are_read_again(encoder: Encoder) -> None:
    """A mapping that changes while it is read is read again; one that never holds still is dropped and counted."""
    found = message(encoder(made_span(like_sdk=False, attributes=_Changing(2), events=(Event("e", _Changing(2), 1),))))
    assert [attribute.key for attribute in found.attributes] == ["a", "b"]
    assert len(found.events[0].attributes) == 2
    found = message(
        encoder(made_span(like_sdk=False, attributes=_Changing(99), events=(Event("e", _Changing(99), 1),)))
    )
    assert (len(found.attributes), found.dropped_attributes_count) == (0, 2)
    assert found.events[0].dropped_attributes_count == 2


@every_encoder
def test_a_dict_that_grows_under_the_encoder_costs_nothing(encoder: Encoder) -> None:
    """An attribute whose own code adds to the span's attributes does not break the reading of them."""
    fields: dict[str, Any] = {}

    class Adding(_BrokenSequence):
        def __iter__(self) -> Iterator[int]:
            fields[f"added {len(fields)}"] = 1
            return iter((1, 2))

    fields.update(first=1, adding=Adding(), last=2)
    found = message(encoder(made_span(attributes=fields)))
    assert [attribute.key for attribute in found.attributes][:3] == ["first", "adding", "last"]
    assert found.dropped_attributes_count == 0


@every_encoder
def test_another_span_may_end_in_the_middle(encoder: Encoder) -> None:
    """A value whose own code encodes another span disturbs neither of the two."""
    inner = made_span("inner", attributes={"a": 1, "b": [1, 2]}, events=[Event("e", bounded({"c": "d"}), 1)])
    found = []

    class Ending(_BrokenSequence):
        def __iter__(self) -> Iterator[int]:
            found.append(message(encoder(inner)))
            return iter((1, 2))

    outer = made_span("outer", attributes={"a": 1, "ending": Ending(), "b": 2}, events=inner.events)
    record = encoder(outer)
    plain = made_span("outer", attributes={"a": 1, "ending": (1, 2), "b": 2}, events=inner.events)
    assert message(record) == stock_message(plain)
    assert found == [stock_message(inner)]
