"""One control and its pipelines: what every face is made from.

Called where faces are made (set-up code, any thread) and where their stats are read. The rule: one Assembly for each
LoadShedder; a face that was given none has one of its own.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace.export import SpanExporter

from otel_shed.config import ShedConfig
from otel_shed.control.priority import Classifier, rules_from_settings
from otel_shed.metrics import observe_pipeline
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.sender import OTLPSender, Sender, SpanExporterSender
from otel_shed.record import Priority
from otel_shed.sampler import AdaptiveSampler
from otel_shed.stats import Stats, read_stats

# The SDK's own switch for metrics about itself; they are in development, hence opt-in (semantic conventions).
_METRICS_ENABLED = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


def stock_exporter() -> SpanExporter:
    """The SDK's own OTLP exporter, as OTEL_EXPORTER_OTLP_* say: for where the library is switched off."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((value for name in names if (value := os.environ.get(name, "").strip())), "grpc")
    if protocol == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPExporter

        return HTTPExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GRPCExporter

    return GRPCExporter()


class Assembly:
    """Builds the parts of pipelines and connects them."""

    def __init__(
        self,
        config: ShedConfig,
        *,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._meter_provider = meter_provider
        self._clock = clock
        self.classifier = Classifier(
            attributes=config.priority_attributes,
            rules=rules_from_settings(
                {
                    Priority.LOW: config.low_priority_names,
                    Priority.HIGH: config.high_priority_names,
                    Priority.CRITICAL: config.critical_priority_names,
                },
                {
                    Priority.LOW: config.low_priority_kinds,
                    Priority.HIGH: config.high_priority_kinds,
                    Priority.CRITICAL: config.critical_priority_kinds,
                },
            ),
            clock=clock,
        )
        self._lock = threading.Lock()
        self._pipelines: list[weakref.ref[Pipeline]] = []
        self._samplers: list[AdaptiveSampler] = []
        if config.enabled and config.flush_on_sigterm:
            lifecycle.flush_on_sigterm()

    def open_pipeline(
        self,
        exporter: SpanExporter,
        *,
        config: ShedConfig | None = None,
        linger: float | None = None,
        max_batches: int | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> Pipeline:
        """A new pipeline to ``exporter``; ``linger`` in seconds, the schedule delay if None."""
        config = config or self.config
        pipeline = Pipeline(
            sender=self._sender(exporter, config),
            max_queue_size=config.max_queue_size,
            max_held_bytes=config.max_held_bytes,
            max_request_bytes=config.max_request_bytes,
            max_export_batch_size=config.max_export_batch_size,
            linger=config.schedule_delay if linger is None else linger,
            interval=config.schedule_delay,
            shutdown_grace=config.shutdown_grace,
            clock=self._clock,
            max_batches=max_batches,
        )
        with self._lock:
            self._pipelines = [*(kept for kept in self._pipelines if kept() is not None), weakref.ref(pipeline)]
        if os.environ.get(_METRICS_ENABLED, "").strip().lower() == "true":
            observe_pipeline(pipeline, meter_provider or self._meter_provider)
        return pipeline

    def _sender(self, exporter: SpanExporter, config: ShedConfig) -> Sender:
        if isinstance(exporter, OTLPSpanExporter):
            return OTLPSender(
                exporter,
                export_timeout=config.export_timeout,
                max_request_bytes=config.max_request_bytes,
            )
        return SpanExporterSender(exporter, export_timeout=config.export_timeout, clock=self._clock)

    def add_sampler(self, sampler: AdaptiveSampler) -> None:
        """Count the decisions of ``sampler`` in the stats."""
        with self._lock:
            self._samplers.append(sampler)

    def stats(self) -> Stats:
        """The sum over everything made from this."""
        with self._lock:
            pipelines = [pipeline for reference in self._pipelines if (pipeline := reference()) is not None]
            samplers = list(self._samplers)
        return read_stats(
            pipelines,
            started=sum(sampler.started for sampler in samplers),
            sampled_out=sum(sampler.sampled_out for sampler in samplers),
        )
