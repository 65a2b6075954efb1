"""Observable instruments: one set for each meter provider, and the components that they report, weakly.

Components join on the threads that make them; the meter provider's collection thread reads them. All instruments are
observable, so a MeterProvider that is set after a component was made, as the SDK's configurator does, still sees every
value, and nothing is recorded while spans end. The rules: a metric never keeps a component alive, and however often one
is joined, and through whichever name of its provider, each of its points is there once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter_provider

from otel_shed.fork import begin_anew_after_fork
from otel_shed.native import allocate_rlock

# The SDK's own switch for metrics about itself; they are in development, hence opt-in (semantic conventions).
SDK_METRICS_ENABLED = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
# The scope of those; dashboards made for the SDK's parts go on working with ours.
SDK_SCOPE = "opentelemetry-sdk"
COMPONENT = ("otel.component.type", "otel.component.name")

T = TypeVar("T")
Attributes = Mapping[str, str | int]
Points = Iterable[tuple[float, Attributes]]


class Kind(str, Enum):
    """What an instrument is: the values are those of the API's ``create_observable_*``."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    GAUGE = "gauge"


@dataclass(frozen=True, kw_only=True)
class Instrument(Generic[T]):
    """One instrument. attributes: those that its points have beside the component's. read: the points of a component.

    A counter's point must never be less than it was.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    read: Callable[[T], Points]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Joined(Generic[T]):
    """A component. provider: None for the global one, whichever that is."""

    component: weakref.ref[T]
    provider: weakref.ref[MeterProvider] | None
    attributes: Attributes

    @property
    def is_alive(self) -> bool:
        return self.component() is not None and (self.provider is None or self.provider() is not None)

    def through(self, current: MeterProvider) -> MeterProvider | None:
        """The provider; ``current`` is the global one."""
        return current if self.provider is None else self.provider()


class Instruments(Generic[T]):
    """What components of one sort report; an SDK gives back the first instrument of a name and forgets the callbacks
    of later ones, so those of each provider report all components whose provider it is.
    """

    def __init__(self, scope: str, *instruments: Instrument[T], common: tuple[str, ...] = COMPONENT) -> None:
        """``common``: the attributes that components have."""
        self.scope = scope
        self.instruments = instruments
        self.common = common
        self._lock = allocate_rlock()
        self._providers: weakref.WeakSet[MeterProvider] = weakref.WeakSet()
        self._joined: tuple[_Joined[T], ...] = ()
        begin_anew_after_fork(self)

    def join(self, component: T, attributes: Attributes, meter_provider: MeterProvider | None = None) -> None:
        """Report ``component`` for as long as it lives, through the global provider if None; again changes nothing."""
        current = get_meter_provider()
        provider = current if meter_provider is None else meter_provider
        with self._lock:
            alive = [joined for joined in self._joined if joined.is_alive]
            if not any(joined.component() is component and joined.through(current) is provider for joined in alive):
                given = None if provider is current else weakref.ref(provider)
                alive.append(_Joined(weakref.ref(component), given, attributes))
            self._joined = tuple(alive)
        self.create(meter_provider)

    def create(self, meter_provider: MeterProvider | None = None) -> None:
        """Have the instruments made, as the first that joins does."""
        current = get_meter_provider()
        provider = current if meter_provider is None else meter_provider
        with self._lock:
            is_new = provider not in self._providers
            self._providers.add(provider)
        if is_new:
            # The global one may be a stand-in, whose instruments become those of the one that is set later.
            self._create(provider, get_meter_provider if provider is current else weakref.ref(provider))

    def _create(self, provider: MeterProvider, of: Callable[[], MeterProvider | None]) -> None:
        meter = provider.get_meter(self.scope)
        for instrument in self.instruments:
            create = getattr(meter, f"create_observable_{instrument.kind.value}")
            create(
                instrument.name,
                callbacks=[self._observing(instrument.read, of)],
                unit=instrument.unit,
                description=instrument.description,
            )

    def _observing(
        self, read: Callable[[T], Points], of: Callable[[], MeterProvider | None]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            provider, current = of(), get_meter_provider()
            seen: set[int] = set()
            for joined in self._joined:
                component = joined.component()
                # One that was given the provider by name, and the global one, which that has since become: once.
                if component is None or joined.through(current) is not provider or id(component) in seen:
                    continue
                seen.add(id(component))
                for value, attributes in read(component):
                    yield Observation(value, {**joined.attributes, **attributes})

        return callback

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread that is not there any more may have held it."""
        self._lock = allocate_rlock()


def sdk_metrics_enabled(environ: Mapping[str, str]) -> bool:
    """Whether the metrics by the semantic conventions for SDKs are asked for."""
    return environ.get(SDK_METRICS_ENABLED, "").strip().lower() == "true"
