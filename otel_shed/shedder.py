"""LoadShedder: the parts for one process, made from one configuration and sharing one control.

Called by set-up code. ``LoadShedder.default()`` is the one global of the library: the entry points, which the SDK
calls one by one, find each other there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from otel_shed.arguments import (
    check_callable,
    check_clock,
    check_exporter,
    check_instance,
    check_meter_provider,
    check_part,
)
from otel_shed.assembly import Assembly, stock_exporter
from otel_shed.config import ShedConfig
from otel_shed.control.brownout import BrownoutSnapshot
from otel_shed.control.ceiling import Ceiling
from otel_shed.control.phase import Phase
from otel_shed.control.pressure import PressureSignal
from otel_shed.control.priority import ChoosePriority
from otel_shed.exporter import SheddingSpanExporter
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.pipeline.verdict import Policy
from otel_shed.processor import SheddingSpanProcessor
from otel_shed.sampler import AdaptiveSampler, check_sampler_parts
from otel_shed.stats import Stats

_default: LoadShedder | None = None
_default_lock = threading.RLock()


class LoadShedder:
    """Makes the sampler, span processors and span exporters of a process.

    config: everything from the environment if None. exporter: what the faces export to unless told otherwise; OTLP as
    OTEL_EXPORTER_OTLP_* say if None. signals: of pressure, beside the library's own. priority: says what a span is
    worth that neither attribute, status nor settings speak of, None for NORMAL; called in Span.end(). policy: decides
    in place of the library's own which local traces are kept while they are held, from OBSERVE on (never in observe
    mode). It is given a TraceView, in Span.end() or by the worker, must not wait, and returns a Verdict; a trace on
    which it fails is kept. clock: seconds, monotonic. With ``enabled`` false it makes the SDK's own parts. TypeError,
    which names the argument, for a part that is none, as a signal that has no ``read``.
    """

    def __init__(
        self,
        config: ShedConfig | None = None,
        *,
        exporter: SpanExporter | None = None,
        signals: Iterable[PressureSignal] = (),
        priority: ChoosePriority | None = None,
        policy: Policy | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_instance("config", config, ShedConfig, "a ShedConfig", optional=True)
        if exporter is not None:
            check_exporter("exporter", exporter)
        check_instance("signals", signals, Iterable, "a sequence of pressure signals")
        signals = tuple(signals)
        for number, signal in enumerate(signals):
            check_part(f"signals[{number}]", signal, "a pressure signal", "read")
        check_callable("priority", priority, "a function of a span that returns its Priority or None", optional=True)
        check_callable("policy", policy, "a function of a TraceView that returns a Verdict", optional=True)
        check_meter_provider(meter_provider)
        check_clock(clock)
        self.config = ShedConfig.from_env() if config is None else config
        self.assembly = Assembly(
            self.config,
            signals=signals,
            priority=priority,
            policy=policy,
            meter_provider=meter_provider,
            clock=clock,
        )
        self._exporter = exporter
        self._meter_provider = meter_provider

    @classmethod
    def default(cls) -> LoadShedder:
        """The process-wide one, made from the environment at its first use."""
        global _default
        with _default_lock:
            if _default is None:
                made = cls()
                _default = _default or made  # a signal handler may have come in between
            return _default

    def sampler(self, root: Sampler | None = None, *, ceiling: Ceiling | None = None) -> Sampler:
        """A sampler that decides at local roots and follows the parent elsewhere.

        ``root``: what it may thin out, everything if None. ``ceiling``: the most that is recorded whatever the load.
        """
        check_sampler_parts(root, ceiling)
        if not self.config.enabled:
            return ParentBased(root or ALWAYS_ON)
        sampler = AdaptiveSampler(
            root, threshold=self.assembly.control.threshold, ceiling=ceiling, follow_remote_parent=True
        )
        self.assembly.add_sampler(sampler)
        return sampler

    def span_processor(self, exporter: SpanExporter | None = None) -> SpanProcessor:
        """A span processor to ``exporter``; TypeError if that is none."""
        if exporter is not None:
            check_exporter("exporter", exporter)
        chosen = exporter or self._exporter or self._own_exporter()
        if not self.config.enabled:
            return BatchSpanProcessor(chosen)
        return SheddingSpanProcessor(chosen, shedder=self)

    def span_exporter(self, exporter: SpanExporter | None = None) -> SpanExporter:
        """The same behind the SpanExporter interface."""
        if exporter is not None:
            check_exporter("exporter", exporter)
        chosen = exporter or self._exporter or self._own_exporter()
        return SheddingSpanExporter(chosen, shedder=self) if self.config.enabled else chosen

    def _own_exporter(self) -> SpanExporter:
        return OTLPSpanExporter(meter_provider=self._meter_provider) if self.config.enabled else stock_exporter()

    def stats(self) -> Stats:
        """The sum over the faces made from this."""
        return self.assembly.stats()

    @property
    def is_shutdown(self) -> bool:
        """Whether the shutdown of every face made from this has begun, and there was one."""
        return self.assembly.is_shut_down

    @property
    def shutdown_completed(self) -> bool:
        """Whether the shutdowns of all of them have come to their ends."""
        return self.assembly.shutdown_completed

    def brownout(self) -> BrownoutSnapshot:
        """The phase that it is in, and why; in observe mode the one that it would be in."""
        return self.assembly.control.snapshot()

    def force_phase(self, phase: Phase | None, *reasons: str) -> None:
        """Have ``phase`` hold, whatever the pressure, as an operator or another system's ledger says.

        ``reasons``: codes to report. None gives the phase back to the signals; from a phase that shed, through
        RECOVERY. ValueError if there is no such phase.
        """
        self.assembly.control.brownout.force_phase(phase, *reasons)

    def add_signal(self, signal: PressureSignal) -> None:
        """Have ``signal`` count too; TypeError if it has no ``read``."""
        self.assembly.control.add_signal(signal)


class DefaultSpanExporter(SheddingSpanExporter):
    """What ``OTEL_TRACES_EXPORTER=otlp_shed`` names: SheddingSpanExporter, of the process-wide shedder.

    So the samplers that the environment names, and ``LoadShedder.default()``, know what becomes of its spans.
    """

    def __init__(
        self,
        span_exporter: SpanExporter | None = None,
        *,
        max_batches: int | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(
            span_exporter, max_batches=max_batches, shedder=LoadShedder.default(), meter_provider=meter_provider
        )
