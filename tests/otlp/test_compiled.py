"""The compiled encoder: whatever it is handed, it says what the plain one says, and leaves nothing behind."""

from __future__ import annotations

import enum
import gc
import subprocess
import sys
import threading
from collections import OrderedDict, UserDict
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otel_shed.otlp import encode_compiled as module
from otel_shed.otlp.encode import EncodeError, Encoder, encode_public, wrap_span
from otel_shed.otlp.encode_compiled import attributes_compiled, compiled_encoder, encode_compiled
from otel_shed.otlp.proof import attributes_in_public
from otel_shed.record import PlainSpanRecord, Priority
from tests.interpreter import IS_FREE_THREADED
from tests.otlp.encoders import compiled_only, every_encoder, everything
from tests.otlp.made_spans import CONTEXT, RESOURCE, SCOPE, bounded, made_span, message, spans

pytestmark = compiled_only


class _Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise OSError("not even this")

    def __len__(self) -> int:
        raise OSError("nor its length")


class _Word(str, enum.Enum):
    ONE = "one"


class _Number(int):
    def __index__(self) -> int:
        raise OSError("no number after all")


class _List(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise OSError("not to be read")


class _Map(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise OSError("not to be read")


class _Encoding(list):  # type: ignore[type-arg]
    """Encodes another span while it is read."""

    def __iter__(self) -> Iterator[Any]:
        encode_compiled(made_span("inner", attributes={"a": ["b"], "long": "x" * 3000}))
        return iter([1, 2])


class Kept:
    """An instance of any type that keeps its attributes in a usual way."""


class _Fixed:
    __slots__ = ()


def _nested(depth: int) -> Any:
    value: Any = "deep"
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


def _cycle() -> list[Any]:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    return cycle


# Made anew for each encoder: some of them change.
HOSTILE: dict[str, Callable[[], Any]] = {
    "an object": object,
    "a text that raises": lambda: _Text("text"),
    "a word": lambda: _Word.ONE,
    "a number that raises": lambda: _Number(7),
    "a large number": lambda: 1 << 63,
    "a very large number": lambda: -(1 << 200),
    "a list that raises": lambda: _List([1, "x" * 20]),
    "a map that raises": lambda: _Map(a=1),
    "an ordered map": lambda: OrderedDict(b="x" * 20, a=1),
    "a view": lambda: MappingProxyType({"a": ["x" * 20]}),
    "a map of another make": lambda: UserDict({"a": 1}),
    "a map with other keys": lambda: {1: "a", None: "b", _Word.ONE: "c"},
    "a value that encodes": _Encoding,
    "a deep one": lambda: _nested(40),
    "a shallow one": lambda: _nested(5),
    "a cycle": _cycle,
    "long bytes": lambda: b"b" * 5000,
    "a long text": lambda: "é" * 5000,
    "half a pair": lambda: "a\ud83d",
    "a set": lambda: {1},
    "bytes to write": lambda: bytearray(b"abc"),
    "a complex number": lambda: 1j,
    "a long list": lambda: ["x" * 300] * 50,
    "lists in lists": lambda: [[], [[], {}], (1, (2.0, None, True, b""))],
    "a list with an object": lambda: [1, [object()]],
    "nothing": lambda: None,
}
KEYS: dict[str, Callable[[], Any]] = {
    "a key": lambda: "key",
    "an empty one": str,
    "beyond ASCII": lambda: "ключ",
    "long": lambda: "k" * 200,
    "half a pair": lambda: "\udc80",
    "bytes": lambda: b"\xffkey",
    "none": lambda: None,
    "a number": lambda: 5,
    "a tuple": tuple,
    "a word": lambda: _Word.ONE,
    "a text that raises": lambda: _Text("text"),
}
hostile_attributes = st.lists(
    st.tuples(st.sampled_from(sorted(KEYS)), st.sampled_from(sorted(HOSTILE))),
    max_size=6,
    unique_by=lambda pair: pair[0],
)


def made_of(parts: list[tuple[str, str]]) -> dict[Any, Any]:
    return {KEYS[key](): HOSTILE[value]() for key, value in parts}


def outcome(encoder: Encoder, span: Any, limit: int | None = None) -> Any:
    """The whole record, or that there is none."""
    try:
        return everything(encoder(span, limit))
    except EncodeError:
        return EncodeError


@settings(max_examples=400, deadline=None)
@given(first=hostile_attributes, second=hostile_attributes, limit=st.none() | st.integers(0, 12))
def test_hostile_attributes_are_encoded_alike(
    first: list[tuple[str, str]], second: list[tuple[str, str]], limit: int | None
) -> None:
    """Whatever keys and values there are, on span, event and link, both encoders say the same, to the byte."""

    def make() -> ReadableSpan:
        event, link = Event("event", bounded(made_of(second)), 7), Link(CONTEXT, bounded(made_of(second)))
        return made_span(attributes=made_of(first), events=[event, event], links=[link])

    assert outcome(encode_compiled, make(), limit) == outcome(encode_public, make(), limit)


ODD_FIELDS: dict[str, list[Any]] = {
    "name": ["", "x" * 500, "漢", _Word.ONE, None, 5, [], b"raw", "\ud83d\udc22"],
    "context": [
        None, CONTEXT, SpanContext((1 << 128) - 1, (1 << 64) - 1, True), SpanContext(1 << 128, 1, False),
        SpanContext(True, True, False), SpanContext(0, 0, False), (1, 2, False), object(),
        SpanContext(5, 6, False, trace_state=TraceState([("a", "1"), ("b", "2")])),
        SpanContext(5, 6, False, trace_state={"a": "b"}),  # type: ignore[arg-type]
        SpanContext(5, 6, False, trace_flags=0x1FF),  # type: ignore[arg-type]
    ],
    "parent": [None, CONTEXT, SpanContext(1, 1 << 63, True), SpanContext(1, -1, False), SpanContext(1, 2, 1), "x"],  # type: ignore[arg-type]
    "kind": [*SpanKind, None, 7],
    "status": [None, Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "ü" * 200), object()],
    "start_time": [None, 0, 1, 1.5, -1, 1 << 63, (1 << 64) - 1, 1 << 64, True, "now"],
    "end_time": [None, 0, 2, 2.5, (1 << 64) - 1, _Number(9)],
    "resource": [None, RESOURCE, object()],
    "instrumentation_scope": [None, SCOPE, object()],
    "events": [(), [Event("e", None, 1)], [object()], [Event("e", bounded({}), -1), Event("f", bounded({"a": 1}), 2)]],
    "links": [(), [Link(CONTEXT, {"a": 1})], [Link(SpanContext(1, 2, 1), bounded({}))], [None]],  # type: ignore[arg-type]
}  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(data=st.data(), like_sdk=st.booleans())
def test_odd_spans_are_encoded_alike(data: st.DataObject, like_sdk: bool) -> None:
    """Whatever its fields are, a span is the same record from both encoders, or none from both."""
    fields = {name: data.draw(st.sampled_from(found)) for name, found in ODD_FIELDS.items()}
    span = made_span(fields.pop("name"), like_sdk=like_sdk, **fields)
    assert outcome(encode_compiled, span) == outcome(encode_public, span)


@settings(max_examples=100, deadline=None)
@given(span=spans(), part=st.sampled_from(["_attributes", "_events", "_links", "_status", "_context"]))
def test_a_span_without_a_slot_is_encoded_alike(span: ReadableSpan, part: str) -> None:
    """A span that lacks what is read, or has something else there, is the same to both encoders."""
    span.__dict__[part] = MappingProxyType({})
    assert outcome(encode_compiled, span) == outcome(encode_public, span)
    del span.__dict__[part]
    assert outcome(encode_compiled, span) == outcome(encode_public, span)


@pytest.mark.parametrize("count", [-(1 << 70), -1, 0, 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 70, True, None, "x"])
def test_any_count_of_what_was_dropped(count: Any) -> None:
    """Counts beyond the field's 32 bits are its highest, those below 0 are 0; others are read as the plain one does."""

    def make() -> ReadableSpan:
        bad = bounded({"bad": object()})
        bad.dropped = count
        span = made_span(events=[Event("e", bad, 1)], links=[Link(CONTEXT, bad)])
        span._attributes = bad
        span._events.dropped = span._links.dropped = count
        return span

    assert outcome(encode_compiled, make()) == outcome(encode_public, make())


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 129, 16_382, 16_383, 16_384, 16_385, 2_097_151, 2_097_152])
@pytest.mark.parametrize("letter", ["a", "é", "漢", "🐢"])
def test_every_length_of_a_length(letter: str, length: int) -> None:
    """Where a length needs one more byte, of keys, values, lists, maps and events, the bytes are still the same."""
    text = letter * (length // len(letter.encode()))
    values: dict[str, Any] = {text: text, "list": [text], "map": {text: [text]}, "bytes": text.encode()}
    span = made_span(
        text, attributes=values, events=[Event(text, bounded(values), 1)], links=[Link(CONTEXT, bounded(values))]
    )
    for limit in (None, 1, 100, 5_000):
        assert outcome(encode_compiled, span, limit) == outcome(encode_public, span, limit)


def test_the_encoder_takes_a_span_and_a_limit() -> None:
    """As many arguments as the plain one, by position; a limit that is no number costs nothing but the span."""
    span = made_span(attributes={"a": "long enough"})
    for arguments in ((), (span, None, None)):
        with pytest.raises(TypeError):
            encode_compiled(*arguments)
    for limit in ("x", 1.5, object()):
        with pytest.raises(EncodeError):
            encode_compiled(span, limit)
    for limit in (True, 1 << 80):
        assert outcome(encode_compiled, span, limit) == outcome(encode_public, span, limit)


def test_an_encoder_is_made_of_types_and_members() -> None:
    """Where the SDK's types are others than known, no encoder can be made of them."""
    make = type(encode_compiled.__self__)
    types = ("readable_span", "bounded_attributes", "bounded_list", "status", "event", "link")
    parts = dict.fromkeys((*types, "trace_state"), Kept) | dict.fromkeys(
        ("careful", "wrap", "group", "name", "key", "any_value", "shortened", "attributes"), repr
    )
    good = parts | {
        "span_context": SpanContext,
        "trace_flags": TraceFlags,
        "kinds": (1,) * 5,
        "status_codes": (1,) * 3,
        "priority": Priority.LOW,
        "samples": tuple(Kept() for _ in range(5)),
    }
    assert make(**good) is not None
    wrongs: dict[str, list[Any]] = {
        "kinds": [(1,)],
        "status_codes": [[1, 2, 3]],
        "span_context": [dict],
        "trace_flags": [dict],
        "event": [5],
        "samples": [None, (Kept(),) * 4, (Kept(),) * 4 + (_Fixed(),)],
    }
    for name, values in wrongs.items():
        for wrong in values:
            with pytest.raises(TypeError):
                make(**good | {name: wrong})
    with pytest.raises(TypeError):
        make(**parts)
    with pytest.raises(AttributeError):  # a sample that cannot be given attributes
        make(**good | {"trace_state": _Fixed, "samples": (Kept(),) * 4 + (_Fixed(),)})


@pytest.mark.parametrize("part", ["span", "_attributes", "_events", "_links", "_status"])
@pytest.mark.parametrize(
    "change",
    ["dict", "dict seen", "dict seen and changed", "one more", "twelve more", "first for another", "last for another"],
)
def test_where_attributes_are_is_not_guessed(part: str, change: str) -> None:
    """An instance that keeps its attributes otherwise, or has more or fewer of them, is read as the plain one does."""
    wrap = compiled_encoder().wrap

    def make() -> ReadableSpan:
        bad = made_span("name", attributes={"a": 1}, events=[Event("e", bounded({}), 1)], links=[Link(CONTEXT)])
        bad._status = Status(StatusCode.ERROR, "why")
        owner: Any = bad if part == "span" else getattr(bad, part)
        whole = made_span(status=Status())
        names = list(vars(whole if part == "span" else getattr(whole, part)))
        if change == "dict":
            owner.__dict__ = dict(reversed(owner.__dict__.items()))
        if change.startswith("dict seen"):
            seen = vars(owner)
            if change.endswith("changed"):
                seen[names[0]] = seen.pop(names[0])
        if change.endswith("another"):
            name = names[0 if change.startswith("first") else -1]
            delattr(owner, name)
            owner.another = getattr(whole if part == "span" else getattr(whole, part), name)
        if change == "one more":
            owner.other = "other"
        if change == "twelve more":
            for number in range(12):
                setattr(owner, f"other {number}", number)
        return bad

    assert outcome(encode_compiled, make()) == outcome(encode_public, make())
    span = make()
    assert everything(wrap(span)) == everything(wrap_span(span))


_REDACTING = """
import sys
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace.status import Status, StatusCode
from otel_shed.otlp.encode_compiled import encode_compiled
from tests.otlp.made_spans import made_span

span = made_span(status=Status(StatusCode.ERROR, "secret"))
assert b"secret" in encode_compiled(span).body
as_it_was = object.__getattribute__

def redacted(self, name):
    return "***" if name == "_description" else as_it_was(self, name)

Status.__getattribute__ = redacted
later = made_span(status=Status(StatusCode.ERROR, "secret"))
for span in (span, later):
    body = encode_compiled(span).body
    assert b"***" in body and b"secret" not in body
"""


def test_a_class_that_is_changed_later_is_asked() -> None:
    """Places are those of the class as it was: what a program makes of it afterwards, to hide something say, counts."""
    done = subprocess.run([sys.executable, "-c", _REDACTING], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_events_and_links_that_keep_their_attributes_otherwise() -> None:
    """The same of what a span holds."""

    def make(change: Callable[[Any], object]) -> ReadableSpan:
        event, link = Event("exception", bounded({"a": 1}), 7), Link(CONTEXT, bounded({"b": 2}))
        change(event)
        change(link)
        return made_span(events=[event], links=[link])

    changes: list[Callable[[Any], object]] = [
        lambda thing: setattr(thing, "other", 1),
        lambda thing: setattr(thing, "__dict__", dict(reversed(thing.__dict__.items()))),
        lambda thing: delattr(thing, "_attributes"),
        lambda thing: (delattr(thing, "_attributes"), setattr(thing, "other", bounded({"c": 3}))),
    ]
    for change in changes:
        assert outcome(encode_compiled, make(change)) == outcome(encode_public, make(change))


def test_without_the_compiled_record_there_is_no_compiled_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come from one build or neither does."""
    monkeypatch.setattr(module, "SpanRecord", PlainSpanRecord)
    assert compiled_encoder() is None
    monkeypatch.setattr(module, "extension", None)
    assert compiled_encoder() is None


def test_usual_spans_are_not_left_to_the_public_path() -> None:
    """What programs make is encoded quickly: words as names, odd values in the midst, times without a parent."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("left to the public path")

    encoder = compiled_encoder(careful=refuse)
    state = TraceState([("ot", "th:8"), ("vendor", "é")])
    for span in (
        made_span(_Word.ONE, attributes={_Word.ONE: _Word.ONE, "odd": OrderedDict(a=1), "large": 1 << 80}),
        made_span(context=SpanContext(1, 2, False, trace_state=state), parent=SpanContext(1, 3, True)),
        made_span("a\ud800", events=[Event(_Word.ONE, bounded({"a": OrderedDict(b=1)}), 1)], resource=None),
    ):
        assert everything(encoder.encode(span)) == everything(encode_public(span))
        assert everything(encoder.encode(span, 2)) == everything(encode_public(span, 2))


@settings(max_examples=100, deadline=None)
@given(span=spans())
def test_attributes_are_those_of_the_property(span: ReadableSpan) -> None:
    """The quick reader of attributes gives what the span's property does."""
    assert dict(attributes_compiled(span)) == dict(attributes_in_public(span))


def test_attributes_that_change_in_another_thread() -> None:
    """Each encoding of a span whose attributes another thread changes is whole, or an EncodeError."""
    changing: dict[str, Any] = {f"key {number}": ["value", {"n": number}] for number in range(20)}
    events: Any = BoundedList.from_seq(None, [Event("e", bounded(changing), 1)])
    span, stop = made_span(attributes=changing, events=events), threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            changing[f"other {number % 50}"] = [number] * (number % 7)
            changing.pop(f"other {(number * 7) % 50}", None)
            changing["key 3"] = object()

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=change)
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        found = [message(encode_compiled(span, None if number % 2 else 3)) for number in range(500)]
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert {"key 0", "key 19"} <= {attribute.key for parsed in found for attribute in parsed.attributes}


STATEFUL = SpanContext(5, 6, False, trace_state=TraceState([("ot", "th:8")]))


def _batch() -> list[tuple[Any, int | None]]:
    """Spans of every kind, those that fail too, with their limits."""
    every = [(key, value) for key, value in zip(KEYS, HOSTILE, strict=False)]
    hostile = {f"{number}": make() for number, make in enumerate(HOSTILE.values())}
    event, link = Event("event", bounded(hostile), 7), Link(CONTEXT, bounded(made_of(every)))
    batch: list[tuple[Any, int | None]] = [
        (made_span(attributes=hostile, events=[event], links=[link]), None),
        (made_span(attributes=made_of(every), events=[event], links=[link]), 5),
        (made_span(_Word.ONE, attributes={"a": "x" * 5000, "n": [1, "é", {"k": 1.5}]}), 9),
        (made_span("\ud800", events=[Event("\ud800", bounded({"a": 1}), 1)]), 9),
        (made_span(context=STATEFUL, events=[Event("exception", bounded({"a": 1}), 1)]), None),
        (made_span(context=STATEFUL, attributes={"a": "x" * 50, "b": _List([1]), "c": _Text("text")}), 3),
        (made_span(context=STATEFUL, kind=7), None),
        (made_span(like_sdk=False), None),
        (object(), None),
    ]  # fmt: skip
    for name, odd in ODD_FIELDS.items():
        for value in odd:
            fields = {name: value} if name != "name" else {}
            batch.append((made_span(value if name == "name" else "work", **fields), None))
    return batch


@every_encoder
def test_encoding_leaves_nothing_behind(encoder: Encoder) -> None:
    """After many encodings, failed ones too, memory is where it was, and so are the references to what spans share."""
    batch = _batch()
    shared: list[Any] = [
        RESOURCE, SCOPE, CONTEXT, Priority.NORMAL, StatusCode.UNSET, SpanKind.INTERNAL, CONTEXT.trace_id, ReadableSpan,
        STATEFUL, STATEFUL.trace_state, STATEFUL.trace_state._dict,
        *(span for span, _ in batch), *(span._attributes for span, _ in batch if isinstance(span, ReadableSpan)),
    ]  # fmt: skip

    def run(times: int) -> None:
        for _ in range(times):
            for span, limit in batch:
                outcome(encoder, span, limit)

    run(3)
    gc.collect()
    references, blocks = [sys.getrefcount(thing) for thing in shared], sys.getallocatedblocks()
    run(60)
    gc.collect()
    grown = sys.getallocatedblocks() - blocks
    for _ in range(10):
        if abs(grown) < 60 or not IS_FREE_THREADED:  # without the lock, what is freed may be given back later
            break
        blocks = sys.getallocatedblocks()
        run(60)
        gc.collect()
        grown = sys.getallocatedblocks() - blocks
    assert [sys.getrefcount(thing) for thing in shared] == references
    assert abs(grown) < 60  # one block an encoding, or a batch, would be more


@pytest.mark.skipif(not sys.getallocatedblocks(), reason="Python's own allocator is not in use")
def test_a_hundred_thousand_spans_leave_memory_where_it_was() -> None:
    """What is held while records live is given back with them."""
    event = Event("exception", bounded({"k": "v"}), 1)
    span = made_span(context=STATEFUL, attributes={"a": "b", "n": 1, "list": ["x"]}, events=[event])
    encode_compiled(span)
    state = STATEFUL.trace_state._dict
    before, references = sys.getallocatedblocks(), sys.getrefcount(state)
    records = [encode_compiled(span) for _ in range(10_000)]
    assert sys.getallocatedblocks() - before >= 10_000
    assert sys.getrefcount(state) - references == 10_000
    del records
    for _ in range(100_000):
        encode_compiled(span)
    assert abs(sys.getallocatedblocks() - before) < 100
    assert sys.getrefcount(state) == references
