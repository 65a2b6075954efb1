"""A small web shop that is traced: what the demo runs to have something to observe.

Owns its threads and the times that ``Span.end()`` took in them. The rule: it holds the rate that it was given, if it
can, and never catches up in a burst, so that what the account shows comes from the collector and not from here.
"""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, TracerProvider, use_span
from opentelemetry.util.types import AttributeValue

THREADS = 4
# A thread that is further behind its plan than this makes a new plan.
_PATIENCE_SECONDS = 0.25


class PaymentDeclinedError(Exception):
    """What goes wrong in the shop now and then."""


@dataclass(frozen=True)
class Step:
    """A unit of work, which is one span: its inner steps, then ``seconds`` of waiting, then perhaps a failure."""

    name: str
    kind: SpanKind = SpanKind.INTERNAL
    seconds: float = 0.0
    fails: float = 0.0
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


def _query(statement: str) -> Step:
    attributes: dict[str, AttributeValue] = {"db.system.name": "postgresql", "db.query.text": statement}
    return Step(" ".join(statement.split()[:1]) + " shop", SpanKind.CLIENT, 0.001, attributes=attributes)


def _call(method: str, host: str, path: str, *, seconds: float = 0.002, fails: float = 0.0) -> Step:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method,
        "server.address": host,
        "url.full": f"https://{host}{path}",
    }
    return Step(method, SpanKind.CLIENT, seconds, fails, attributes)


def _request(method: str, route: str, *steps: Step) -> Step:
    attributes: dict[str, AttributeValue] = {"http.request.method": method, "http.route": route, "url.scheme": "https"}
    return Step(f"{method} {route}", SpanKind.SERVER, attributes=attributes, steps=steps)


def _requests() -> tuple[Sequence[Step], Sequence[int]]:
    """What customers ask for, and how often of ten times."""
    browse = _request(
        "GET", "/products", _query("SELECT id, name, price FROM product LIMIT 20"), Step("render page", seconds=0.001)
    )
    cart = _request(
        "POST",
        "/cart",
        _query("SELECT stock FROM product WHERE id = $1"),
        _query("INSERT INTO cart_item (cart, product) VALUES ($1, $2)"),
        Step("price cart", seconds=0.0005, attributes={"cart.items": 3}),
    )
    checkout = _request(
        "POST",
        "/checkout",
        _query("SELECT product, amount FROM cart_item WHERE cart = $1"),
        Step("reserve stock", steps=(_call("POST", "stock.shop.example", "/reservations"),)),
        Step("pay", steps=(_call("POST", "pay.shop.example", "/charges", seconds=0.004, fails=0.1),)),
        _query("INSERT INTO purchase (cart, total) VALUES ($1, $2)"),
        Step("send mail queue", SpanKind.PRODUCER, 0.0005, attributes={"messaging.destination.name": "mail"}),
    )
    return (browse, cart, checkout), (5, 3, 2)


class Shop:
    """Serves requests at ``spans_per_second`` in all, from ``start`` to ``stop``."""

    def __init__(self, provider: TracerProvider, *, spans_per_second: float, seed: int | None = None) -> None:
        tracer = provider.get_tracer("otel_shed.demo.shop")
        self._stop = threading.Event()
        self._servers = [
            _Server(tracer, self._stop, spans_per_second / THREADS, random.Random(seed and seed + number))
            for number in range(THREADS)
        ]

    def start(self) -> None:
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Return once the last request is served; may be called again."""
        self._stop.set()
        for server in self._servers:
            if server.ident is not None:
                server.join()

    @property
    def recorded(self) -> int:
        """Spans that were ended and recorded, by the shop's own count."""
        return sum(len(server.end_times) for server in self._servers)

    def end_times(self) -> list[float]:
        """What each ``Span.end()`` took, in seconds, the shortest first."""
        return sorted(each / 1e9 for server in self._servers for each in server.end_times)


class _Server(threading.Thread):
    def __init__(self, tracer: Tracer, stop: threading.Event, spans_per_second: float, chance: random.Random) -> None:
        super().__init__(name="otel-shed-demo-shop", daemon=True)
        self.end_times = array("q")
        self._tracer = tracer
        # Not named _stop: Thread has one.
        self._closing = stop
        self._seconds_per_span = 1 / spans_per_second
        self._chance = chance

    def run(self) -> None:
        requests, weights = _requests()
        due = time.monotonic() + self._chance.random() * self._seconds_per_span * 5
        while not self._closing.wait(max(0.0, due - time.monotonic())):
            made = self._serve(self._chance.choices(requests, weights)[0])[0]
            due = max(due + made * self._seconds_per_span, time.monotonic() - _PATIENCE_SECONDS)

    def _serve(self, step: Step) -> tuple[int, bool]:
        """Do a step in a span of its own; the spans that it made, and whether it went well."""
        made, well = 1, True
        span = self._tracer.start_span(step.name, kind=step.kind, attributes=step.attributes)
        with use_span(span, end_on_exit=False):
            for inner in step.steps:
                more, inner_well = self._serve(inner)
                made, well = made + more, well and inner_well
            if step.seconds:
                time.sleep(self._chance.uniform(0.5, 1.5) * step.seconds)
        if step.fails and self._chance.random() < step.fails:
            span.record_exception(PaymentDeclinedError("insufficient funds"))
            well = False
        if not well:
            span.set_status(Status(StatusCode.ERROR))
        recorded = span.is_recording()
        began = time.perf_counter_ns()
        span.end()
        took = time.perf_counter_ns() - began
        if recorded:
            self.end_times.append(took)
        return made, well
