"""One control and its pipelines: what every face is made from.

Called where faces are made (set-up code, any thread) and where their stats are read. The rule: one Assembly for each
LoadShedder; a face that was given none has one of its own.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace.export import SpanExporter

from otel_shed.config import ShedConfig
from otel_shed.control.flow import Flow, HeadCounts
from otel_shed.control.observed import ObservedSender
from otel_shed.control.overload import OverloadControl
from otel_shed.control.pressure import PressureSignal
from otel_shed.control.priority import ChoosePriority
from otel_shed.control.signals.cpu import CpuMeter
from otel_shed.metrics.pipeline import observe_pipeline
from otel_shed.metrics.shedder import observe_shedder
from otel_shed.native import allocate_rlock
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.otlp.retry import Attempt
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.sender import OTLPSender, Sender, SpanExporterSender
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import LEAST_BYTES, Traces
from otel_shed.pipeline.verdict import Policy, keep_all
from otel_shed.sampler import AdaptiveSampler
from otel_shed.stats import Stats, read_stats
from otel_shed.steady_clock import steady
from otel_shed.watch import Seen, Watch

_logger = logging.getLogger("otel_shed")

# The specification's default of OTEL_BSP_MAX_QUEUE_SIZE: the bound where the size of spans is not known, and what the
# control takes for a full queue where it is.
NOMINAL_QUEUE = 2048
# A burst of as many spans as may be held is sent within a second or two; what waits for longer is more than is taken.
FILLS_IN_SECONDS = 4.0


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
        signals: Iterable[PressureSignal] = (),
        priority: ChoosePriority | None = None,
        policy: Policy | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._meter_provider = meter_provider
        self._clock = steady(clock)
        self.control = OverloadControl(config, signals=signals, priority=priority, clock=self._clock)
        self._policy = policy
        self._lock = allocate_rlock()  # a signal handler may read the stats in the middle of a reading
        self._pipelines: list[tuple[weakref.ref[Pipeline], Flow]] = []
        self._samplers: list[AdaptiveSampler] = []
        if config.enabled:
            observe_shedder(self, meter_provider)
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
        control = self.control
        seen, batch_size = Seen(), config.max_export_batch_size
        sender = self._sender(exporter, config)
        # Where the size of what is queued is known, its bytes are the bound.
        is_sized = isinstance(exporter, OTLPSpanExporter)
        queue_size = config.max_queue_size
        if queue_size is None and not is_sized:
            queue_size = max(NOMINAL_QUEUE, batch_size)
        nominal = NOMINAL_QUEUE if queue_size is None else queue_size
        flow = control.add_flow(
            seen,
            queue_capacity=min((max_batches or nominal) * batch_size, nominal),
            batch_size=batch_size * config.concurrent_requests,
            decides_traces=max_batches is None,
            fills_in=FILLS_IN_SECONDS if queue_size is None and max_batches is None else 0.0,
            where=sender.where,
            phase_changed=seen.phase_changed,
        )

        def store(shed: Shed, queue: Queue) -> Store:
            if max_batches is not None:
                return Batches(
                    max_batches=max_batches,
                    max_spans=config.max_held_bytes // LEAST_BYTES if queue_size is None else queue_size,
                    max_bytes=config.max_held_bytes,
                    shed=shed,
                )
            return Traces(
                policy=self._policy or flow.policy or keep_all,
                shed=shed,
                queue=queue,
                holds=control.holds_traces,
                capacity=max(config.max_held_spans, queue_size or 0),
                nominal=nominal,
                max_queue_size=queue_size,
                max_spans=max(config.max_held_spans, queue_size or 0),
                max_bytes=config.max_held_bytes,
                trace_timeout=config.trace_timeout_millis / 1000,
            )

        if isinstance(exporter, OTLPSpanExporter):
            exporter.on_attempt(_measured(_told(flow, control), control.meter))
        watch = Watch(config, control, flow, self._clock)
        pipeline = Pipeline(
            sender=ObservedSender(
                sender,
                exports=flow.exports,
                told=lambda began, outcome: flow.told(began, outcome, queued=seen.queued),
                closed=lambda: control.remove_flow(flow),
                clock=self._clock,
            ),
            store=store,
            max_held_bytes=config.max_held_bytes,
            max_request_bytes=config.max_request_bytes,
            max_export_batch_size=config.max_export_batch_size,
            linger=config.schedule_delay if linger is None else linger,
            interval=config.schedule_delay,
            shutdown_grace=config.shutdown_grace,
            clock=self._clock,
            shed=control.gate.shed,
            summary=control.summary,
            look=watch.look,
            measured=None if control.meter is None else control.meter.worker_turned,
        )
        seen.pipeline = watch.pipeline = weakref.ref(pipeline)
        # A pipeline that nobody shut down and nobody holds any more presses no longer.
        weakref.finalize(pipeline, control.remove_flow, flow).atexit = False
        with self._lock:
            alive = [kept for kept in self._pipelines if kept[0]() is not None]
            self._pipelines = [*alive, (weakref.ref(pipeline), flow)]
        observe_pipeline(pipeline, meter_provider or self._meter_provider)
        return pipeline

    def _sender(self, exporter: SpanExporter, config: ShedConfig) -> Sender:
        if isinstance(exporter, OTLPSpanExporter):
            return OTLPSender(
                exporter,
                export_timeout=config.export_timeout,
                max_request_bytes=config.max_request_bytes,
                max_request_spans=config.max_export_batch_size,
                at_once=config.concurrent_requests,
            )
        return SpanExporterSender(exporter, export_timeout=config.export_timeout, clock=self._clock)

    def add_sampler(self, sampler: AdaptiveSampler) -> None:
        """Count the decisions of ``sampler`` in the stats and in what the budget goes by, and its time as tracing's."""
        if self.control.meter is not None:
            sampler.should_sample = self.control.meter.metered(sampler.should_sample)  # type: ignore[method-assign]
        with self._lock:
            self._samplers.append(sampler)
        self.control.add_head(lambda: HeadCounts(sampler.eligible, sampler.kept, sampler.ceiling_probability))

    @property
    def is_shut_down(self) -> bool:
        """Whether a shutdown has begun of every pipeline, if there was any."""
        pipelines = self._alive()
        return bool(self._pipelines) and all(pipeline.is_shut_down for pipeline in pipelines)

    @property
    def shutdown_completed(self) -> bool:
        """Whether these have come to their ends."""
        pipelines = self._alive()
        return bool(self._pipelines) and all(pipeline.shutdown_completed for pipeline in pipelines)

    def _alive(self) -> list[Pipeline]:
        with self._lock:
            return [alive for ref, _ in self._pipelines if (alive := ref()) is not None]

    def stats(self, of: Pipeline | None = None) -> Stats:
        """The sum over everything made from this; of one pipeline, its own account."""
        with self._lock:
            pipelines = [(alive, flow) for ref, flow in self._pipelines if (alive := ref()) is not None]
            samplers = list(self._samplers)
        chosen = [(alive, flow) for alive, flow in pipelines if of is None or alive is of]
        return read_stats(
            [alive for alive, _ in chosen],
            control=self.control,
            flows=[flow for _, flow in chosen],
            samplers=samplers if of is None else (),
        )


def _told(flow: Flow, control: OverloadControl) -> Callable[[Attempt], None]:
    """Tell the flow of an attempt, and have the control look where it failed: the log is to tell of an outage."""

    def tell(attempt: Attempt) -> None:
        flow.exports.attempted(attempt)
        if not attempt.accepted:
            control.wanted()

    return tell


def _measured(told: Callable[[Attempt], None], meter: CpuMeter | None) -> Callable[[Attempt], None]:
    """``told``, after which the time of the thread that made the request counts."""
    if meter is None:
        return told

    def tell(attempt: Attempt) -> None:
        told(attempt)
        meter.worker_turned()

    return tell
