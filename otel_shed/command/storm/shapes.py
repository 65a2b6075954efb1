"""The traces of a storm: what spans they have, when these begin and end, and the wheel on which many run at a time.

Owns the spans that are open. Called by one thread, tick by tick; what a span's end takes is measured here.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue


class PaymentDeclinedError(Exception):
    """What goes wrong in a trace that fails."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A span of a trace. begins, ends: shares of the trace's time, 0..1. parent: its place in the shape.

    fails: whether it is where a failed trace fails, with an exception; told_of: whether it is then an ERROR too.
    """

    name: str
    begins: float
    ends: float
    parent: int | None = None
    kind: SpanKind = SpanKind.INTERNAL
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    fails: bool = False
    told_of: bool = False


def _query(statement: str, begins: float, ends: float, parent: int) -> Work:
    attributes: dict[str, AttributeValue] = {"db.system.name": "postgresql", "db.query.text": statement}
    name = f"{statement.split(maxsplit=1)[0]} shop"
    return Work(name=name, begins=begins, ends=ends, parent=parent, kind=SpanKind.CLIENT, attributes=attributes)


def _request(name: str, begins: float, ends: float) -> Work:
    method, route = name.split()
    attributes: dict[str, AttributeValue] = {"http.request.method": method, "http.route": route, "url.scheme": "https"}
    return Work(name=name, begins=begins, ends=ends, kind=SpanKind.SERVER, attributes=attributes, told_of=True)


_CHARGE = Work(name="charge card", begins=0.4, ends=0.7, parent=3, kind=SpanKind.CLIENT, fails=True, told_of=True)

CHECKOUT: Sequence[Work] = (
    _request("POST /checkout", 0.0, 1.0),
    Work(name="read cart", begins=0.0, ends=0.3, parent=0),
    _query("SELECT product, amount FROM cart_item WHERE cart = $1", 0.05, 0.25, 1),
    Work(name="pay", begins=0.3, ends=0.8, parent=0),
    _CHARGE,
    _query("INSERT INTO payment (cart, total) VALUES ($1, $2)", 0.7, 0.78, 3),
    Work(name="reserve stock", begins=0.35, ends=0.6, parent=0),
    _query("UPDATE stock SET reserved = reserved + $1 WHERE product = $2", 0.4, 0.55, 6),
    Work(name="send mail", begins=0.8, ends=0.95, parent=0, kind=SpanKind.PRODUCER),
    Work(name="render page", begins=0.85, ends=0.9, parent=0),
)
"""Ten spans."""

# The same in two processes: the front calls the back while CALLS is open.
FRONT: Sequence[Work] = (
    _request("POST /checkout", 0.0, 1.0),
    Work(name="read cart", begins=0.0, ends=0.2, parent=0),
    _query("SELECT product, amount FROM cart_item WHERE cart = $1", 0.05, 0.15, 1),
    Work(name="POST", begins=0.2, ends=0.9, parent=0, kind=SpanKind.CLIENT, told_of=True),
    Work(name="render page", begins=0.9, ends=0.95, parent=0),
)
CALLS = 3
BACK: Sequence[Work] = (
    _request("POST /payments", 0.0, 0.55),
    Work(name="reserve stock", begins=0.0, ends=0.3, parent=0),
    _query("UPDATE stock SET reserved = reserved + $1 WHERE product = $2", 0.05, 0.2, 1),
    Work(name="charge card", begins=0.2, ends=0.45, parent=0, kind=SpanKind.CLIENT, fails=True, told_of=True),
    _query("INSERT INTO payment (cart, total) VALUES ($1, $2)", 0.45, 0.5, 0),
)


class OpenTraces:
    """Traces of one shape, any number of them at a time.

    ticks: how many of them a trace lasts. began: is called with each span that begins and its place in the shape.
    end_times: nanoseconds of each ``Span.end()`` since it was last emptied; ended: spans, of the recorded ones.
    """

    def __init__(
        self,
        tracer: Tracer,
        shape: Sequence[Work],
        *,
        ticks: int,
        began: Callable[[Span, int, bool], None] | None = None,
    ) -> None:
        self._tracer = tracer
        self._shape = shape
        self._began = began
        self._script = _script(shape, ticks)
        self._last = self._script[-1][0]
        # By ticks from now on: the traces that have something to do.
        self._due: deque[list[_Open]] = deque([] for _ in range(self._last + 1))
        self.open = 0
        self.ended = 0
        self.unrecorded = 0
        self.end_times = array("q")

    def begin(self, *, failed: bool, context: Context | None = None) -> Span:
        """Begin a trace, or a part of the one in ``context``; its first span."""
        trace = _Open(failed, context or Context(), len(self._shape))
        self.open += 1
        self._go_on(trace)
        span = trace.spans[0]
        assert span is not None
        return span

    def tick(self) -> None:
        """Begin and end what is due at the next tick."""
        self._due.rotate(-1)
        due = self._due[0]
        if due:
            self._due[0] = []
            for trace in due:
                self._go_on(trace)

    def _go_on(self, trace: _Open) -> None:
        tick, steps = self._script[trace.at]
        for place, begins in steps:
            if begins:
                self._begin(trace, place)
            else:
                self._end(trace, place)
        trace.at += 1
        if trace.at == len(self._script):
            self.open -= 1
        else:
            self._due[self._script[trace.at][0] - tick].append(trace)

    def _begin(self, trace: _Open, place: int) -> None:
        work = self._shape[place]
        context = trace.context
        if work.parent is not None:
            parent = trace.spans[work.parent]
            assert parent is not None, "a parent begins before its children"
            context = set_span_in_context(parent, context)
        span = self._tracer.start_span(work.name, context=context, kind=work.kind, attributes=work.attributes)
        trace.spans[place] = span
        if self._began is not None:
            self._began(span, place, trace.failed)

    def _end(self, trace: _Open, place: int) -> None:
        work, span = self._shape[place], trace.spans[place]
        assert span is not None
        if trace.failed and work.fails:
            span.record_exception(PaymentDeclinedError("insufficient funds"))
        if trace.failed and work.told_of:
            span.set_status(Status(StatusCode.ERROR))
        if not span.is_recording():
            self.unrecorded += 1
            span.end()
            return
        began = perf_counter_ns()
        span.end()
        self.end_times.append(perf_counter_ns() - began)
        self.ended += 1


class _Open:
    """A trace that runs. at: its place in the script."""

    __slots__ = ("at", "context", "failed", "spans")

    def __init__(self, failed: bool, context: Context, spans: int) -> None:
        self.failed = failed
        self.context = context
        self.spans: list[Span | None] = [None] * spans
        self.at = 0


# At a tick of the trace: places in the shape, and whether they begin there or end.
_Step = tuple[int, list[tuple[int, bool]]]


def _script(shape: Sequence[Work], ticks: int) -> list[_Step]:
    """What is to be done at which tick; children end before their parents, parents begin before their children."""
    steps: dict[int, list[tuple[int, bool]]] = {}
    for place, work in enumerate(shape):
        steps.setdefault(round(work.begins * ticks), []).append((place, True))
    for place, work in reversed(list(enumerate(shape))):
        begins = round(work.begins * ticks)
        steps.setdefault(max(begins + 1, round(work.ends * ticks)), []).append((place, False))
    return sorted(steps.items())
