"""Each numeric setting at its least and at its most, in a storm: a collector that hangs, then takes all, then peace.

What must hold at any value: the account balances, what is held is bounded, DEGRADE comes before everything optional is
shed, nothing fails, and what ends after the storm arrives.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig, Stats
from otel_shed.config import SETTINGS
from otel_shed.otlp.client import OTLPClient
from otel_shed.setting import Kind, Setting
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.transport import ScriptedTransport
from tests.control.spans import span
from tests.launched import until

# Beside the setting that is tried: a queue that a short storm fills, and a machine whose own memory does not press.
SMALL = {"max_queue_size": 200, "max_export_batch_size": 20, "memory_limit_bytes": 2**50, "report": False}
# What these press by is the test's own process: it is not the storm that takes them past DEGRADE.
PRESS_BY_THEMSELVES = {"memory_limit_bytes", "cpu_share"}
# What waits to be looked at, on top of what is held.
UNSEEN_SPANS, UNSEEN_SHARE = 1024, 1 / 8
STEP_SECONDS = 0.02


def _value(row: Setting, end: float) -> float:
    return int(end) if row.kind is not Kind.NUMBER and end == int(end) else end


ENDS = [
    pytest.param(row.name, _value(row, end), id=f"{row.name}={end:g}")
    for row in SETTINGS
    if row.is_number
    for end in (row.low, row.high)
]


def made_config(**settings: float) -> ShedConfig:
    """The small storm's settings with these; of a pair, the other gives way."""
    chosen = {**SMALL, **settings}
    if chosen["max_queue_size"] < chosen["max_export_batch_size"]:
        name = "max_queue_size" if "max_export_batch_size" in settings else "max_export_batch_size"
        chosen[name] = settings.get("max_export_batch_size", settings.get("max_queue_size", 0))
    if settings.get("leave_pressure", 0.0) >= 0.75:
        chosen["enter_pressure"] = 1.0
    if settings.get("max_request_bytes", 0) > 33554432:
        chosen["max_held_bytes"] = settings["max_request_bytes"]
    return ShedConfig(**chosen)  # type: ignore[arg-type]


@dataclass
class Storm:
    """A shedder whose collector hangs until ``gate`` is opened, on a clock that only this moves."""

    config: ShedConfig
    clock: FakeClock = field(default_factory=FakeClock)
    gate: threading.Event = field(default_factory=threading.Event)
    random: Random = field(default_factory=lambda: Random(1))
    phases: list[Phase] = field(default_factory=list)
    most: int = 0
    most_bytes: int = 0

    def __post_init__(self) -> None:
        self.transport = ScriptedTransport(gate=self.gate)
        exporter = OTLPSpanExporter(clock=self.clock)
        exporter._client = OTLPClient(self.transport, timeout=10.0, clock=self.clock)
        exporter._new_transport = lambda: ScriptedTransport(gate=self.gate)  # type: ignore[assignment]
        self.shedder = LoadShedder(self.config, exporter=exporter, clock=self.clock)
        self.processor = self.shedder.span_processor()

    def run(self, steps: int, spans: int) -> None:
        """So many steps in each of which so many spans end."""
        for _ in range(steps):
            self.clock.advance(STEP_SECONDS)
            for _ in range(spans):
                self.processor.on_end(self._span())
            self._see(self.shedder.stats())

    def calm_down(self) -> None:
        """Longer than any calm: now and then a span ends, and is delivered."""
        for _ in range(150):
            self.clock.advance(1000.0)
            self.deliver()

    def deliver(self) -> None:
        """A span ends, and is exported, or shed."""
        self.processor.on_end(self._span())
        assert self.processor.force_flush(10_000)

    def _span(self) -> ReadableSpan:
        """One of a trace of its own, whose id is random, as ids are."""
        return span(trace_id=self.random.getrandbits(128))

    def _see(self, stats: Stats) -> None:
        assert stats.unaccounted == 0
        self.most = max(self.most, stats.queued + stats.in_flight)
        self.most_bytes = max(self.most_bytes, stats.queued_bytes)
        if not self.phases or self.phases[-1] is not stats.phase:
            self.phases.append(stats.phase)


Lived = Callable[[ShedConfig], Storm]


@pytest.fixture
def lived() -> Iterator[Lived]:
    """Storms that have reached their height; their collectors answer at the latest when the test is over."""
    storms: list[Storm] = []

    def live(config: ShedConfig) -> Storm:
        storms.append(Storm(config))
        _rise(storms[-1])
        return storms[-1]

    yield live
    for storm in storms:
        storm.gate.set()


def _rise(storm: Storm) -> None:
    storm.run(1, 25)
    if storm.shedder.stats().queued or storm.shedder.stats().in_flight:
        storm.processor.force_flush(0)  # so that a batch is on its way, however long one gathers
        until(lambda: storm.transport.entered.acquire(False) or _is_empty(storm.shedder.stats()))
    storm.run(50, 20)


def _is_empty(stats: Stats) -> bool:
    """Whether all has been decided on and nothing goes out: under this pressure everything is shed."""
    return stats.queued == stats.in_flight == 0


@pytest.mark.parametrize(("name", "value"), ENDS)
def test_a_storm_at_the_end_of_a_range(name: str, value: float, lived: Lived, caplog: pytest.LogCaptureFixture) -> None:
    """DEGRADE first, all accounted for, bounded, no fault, and peace is peace again."""
    caplog.set_level(logging.INFO, "otel_shed")
    storm = lived(made_config(**{name: value}))
    config = storm.config
    if name not in PRESS_BY_THEMSELVES:
        assert Phase.SHED_OPTIONAL not in storm.phases or Phase.DEGRADE in storm.phases
    assert storm.most <= max(config.max_held_spans, config.max_queue_size) + UNSEEN_SPANS
    assert storm.most_bytes <= config.max_held_bytes * (1 + UNSEEN_SHARE)
    storm.gate.set()
    assert storm.processor.force_flush()
    stats = storm.shedder.stats()
    assert (stats.queued, stats.in_flight, stats.unaccounted) == (0, 0, 0)
    if not (
        name == "memory_limit_bytes" and value == config.memory_limit_bytes < 2**50
    ):  # always too much: all is shed
        assert stats.exported > 0
        storm.calm_down()
        before = storm.shedder.stats()
        assert (before.phase, before.sample_probability) == (Phase.NORMAL, 1.0)
        for _ in range(10):
            storm.deliver()
        assert storm.shedder.stats().exported - before.exported == 10
    assert not [record.getMessage() for record in caplog.records if "fault" in record.getMessage()]


@pytest.mark.parametrize("enter", [0.5, 0.75, 0.9, 0.99, 1.0])
def test_a_full_queue_is_no_reason_to_throw_it_away(enter: float, lived: Lived) -> None:
    """Wherever shedding begins, a queue that is full at once is delivered, and nothing is only summarized."""
    storm = lived(made_config(enter_pressure=enter, leave_pressure=0.49))
    assert Phase.SHED_OPTIONAL not in storm.phases
    storm.gate.set()
    assert storm.processor.force_flush()
    stats = storm.shedder.stats()
    assert stats.exported > 150
    assert stats.summarized == 0
