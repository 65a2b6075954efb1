"""LoadShedder: the parts for one process, made from one configuration and sharing one control.

Called by set-up code. ``LoadShedder.default()`` is the one global of the library: the entry points, which the SDK
calls one by one, find each other there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from otel_shed.assembly import Assembly, stock_exporter
from otel_shed.config import ShedConfig
from otel_shed.exporter import SheddingSpanExporter
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.processor import SheddingSpanProcessor
from otel_shed.sampler import AdaptiveSampler
from otel_shed.stats import Stats

_default: LoadShedder | None = None
_default_lock = threading.Lock()


class LoadShedder:
    """Makes the sampler, span processors and span exporters of a process.

    config: everything from the environment if None. exporter: what the faces export to unless told otherwise; OTLP as
    OTEL_EXPORTER_OTLP_* say if None. clock: seconds, monotonic. With ``enabled`` false it makes the SDK's own parts.
    """

    def __init__(
        self,
        config: ShedConfig | None = None,
        *,
        exporter: SpanExporter | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = ShedConfig.from_env() if config is None else config
        self.assembly = Assembly(self.config, meter_provider=meter_provider, clock=clock)
        self._exporter = exporter

    @classmethod
    def default(cls) -> LoadShedder:
        """The process-wide one, made from the environment at its first use."""
        global _default
        with _default_lock:
            if _default is None:
                _default = cls()
            return _default

    def sampler(self, root: Sampler | None = None) -> Sampler:
        """A sampler that decides at local roots and follows the parent elsewhere; ``root``: what it may thin out."""
        if not self.config.enabled:
            return ParentBased(root or ALWAYS_ON)
        sampler = AdaptiveSampler(root)
        self.assembly.add_sampler(sampler)
        return ParentBased(sampler)

    def span_processor(self, exporter: SpanExporter | None = None) -> SpanProcessor:
        """A span processor to ``exporter``."""
        chosen = exporter or self._exporter or self._own_exporter()
        if not self.config.enabled:
            return BatchSpanProcessor(chosen)
        return SheddingSpanProcessor(chosen, shedder=self)

    def span_exporter(self, exporter: SpanExporter | None = None) -> SpanExporter:
        """The same behind the SpanExporter interface."""
        chosen = exporter or self._exporter or self._own_exporter()
        return SheddingSpanExporter(chosen, shedder=self) if self.config.enabled else chosen

    def _own_exporter(self) -> SpanExporter:
        return OTLPSpanExporter() if self.config.enabled else stock_exporter()

    def stats(self) -> Stats:
        """The sum over the faces made from this."""
        return self.assembly.stats()
