"""A shedder's metrics: the phase, the pressure, what new traces are decided by, the budget.

Read by the meter provider's collection thread, which thereby may be the one that evaluates the brownout, as any reader
of stats is. The rule: the values are those of ``LoadShedder.stats()``.
"""

from __future__ import annotations

import itertools
import os
from typing import Protocol

from opentelemetry.metrics import MeterProvider

from otel_shed.control.overload import OverloadControl
from otel_shed.control.phase import Phase
from otel_shed.instruments import Instrument, Instruments, Kind, Points, sdk_metrics_enabled
from otel_shed.metrics.pipeline import PROCESSOR, SCOPE
from otel_shed.metrics.summary import SUMMARY
from otel_shed.stats import Stats

PHASE = "otel_shed.phase"
SIGNAL = "otel_shed.signal"

# The convention for a type that it has no word for: what the language calls it.
_COMPONENT_TYPE = "otel_shed.LoadShedder"
_numbers = itertools.count()


class Shedder(Protocol):
    """What is read; otel_shed.assembly.Assembly is one."""

    @property
    def control(self) -> OverloadControl: ...

    def stats(self) -> Stats: ...


def _phase(shedder: Shedder) -> Points:
    # As the conventions have it for states (k8s.pod.status.phase, hw.status): a point for each, 1 for the one that is.
    current = shedder.control.snapshot().phase
    return [(int(phase is current), {PHASE: phase.value}) for phase in Phase]


def _pressure(shedder: Shedder) -> Points:
    return [(pressure, {SIGNAL: signal}) for signal, pressure in shedder.control.brownout.pressures().items()]


def _budget(shedder: Shedder) -> Points:
    budget = shedder.stats().budget_spans_per_second
    return [] if budget is None else [(budget, {})]


CONTROL: Instruments[Shedder] = Instruments(
    SCOPE,
    Instrument(
        name="otel_shed.phase",
        kind=Kind.UP_DOWN_COUNTER,
        unit="1",
        description="1 for the phase that the brownout is in, or would be in in observe mode; 0 for all others.",
        attributes=(PHASE,),
        read=_phase,
    ),
    Instrument(
        name="otel_shed.pressure",
        kind=Kind.GAUGE,
        unit="1",
        description="What each signal says, 0 to 1; the worst of them is the pressure.",
        attributes=(SIGNAL,),
        read=_pressure,
    ),
    Instrument(
        name="otel_shed.probability",
        kind=Kind.GAUGE,
        unit="1",
        description="The share of new traces without special claims that is kept, 0 to 1.",
        read=lambda shedder: [(shedder.stats().sample_probability, {})],
    ),
    Instrument(
        name="otel_shed.budget",
        kind=Kind.GAUGE,
        unit="{span}/s",
        description="What the collector is believed to take; absent while no limit is known.",
        read=_budget,
    ),
)


def observe_shedder(shedder: Shedder, meter_provider: MeterProvider | None) -> None:
    """Publish ``shedder`` and its summary through ``meter_provider``, the global one if None."""
    attributes = {
        "otel.component.type": _COMPONENT_TYPE,
        "otel.component.name": f"{_COMPONENT_TYPE}/{next(_numbers)}",
    }
    if sdk_metrics_enabled(os.environ):
        # Ahead of ours: what was made for the stock processor may read the first scope that there is.
        PROCESSOR.create(meter_provider)
    CONTROL.join(shedder, attributes, meter_provider)
    SUMMARY.join(shedder.control.summary, attributes, meter_provider)
