"""One control and its pipelines: what every face is made from.

Called where faces are made (set-up code, any thread) and where their stats are read. The rule: one Assembly for each
LoadShedder; a face that was given none has one of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.types import AttributeValue

from otel_shed.config import ShedConfig
from otel_shed.control.flow import Flow, FlowReading, HeadCounts
from otel_shed.control.observed import ObservedSender
from otel_shed.control.overload import OverloadControl
from otel_shed.control.pressure import PressureSignal
from otel_shed.control.priority import ChoosePriority
from otel_shed.fork import begin_anew_after_fork
from otel_shed.log_limit import LogLimit
from otel_shed.metrics.pipeline import observe_pipeline
from otel_shed.metrics.shedder import observe_shedder
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.outcome import DropReason
from otel_shed.pipeline import lifecycle
from otel_shed.pipeline.batches import Batches
from otel_shed.pipeline.ledger import Account
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.sender import OTLPSender, Sender, SpanExporterSender
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, keep_all
from otel_shed.record import Priority
from otel_shed.report import Report
from otel_shed.sampler import AdaptiveSampler
from otel_shed.stats import Stats, read_stats
from otel_shed.steady_clock import steady

_logger = logging.getLogger("otel_shed")


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
        self._lock = threading.Lock()
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
        seen = _Seen()
        flow = control.add_flow(
            seen,
            queue_capacity=max_batches * config.max_export_batch_size if max_batches else config.max_queue_size,
            batch_size=config.max_export_batch_size * config.concurrent_requests,
            decides_traces=max_batches is None,
        )

        def store(shed: Shed) -> Store:
            if max_batches is not None:
                return Batches(max_batches=max_batches, max_bytes=config.max_held_bytes, shed=shed)
            return Traces(
                policy=self._policy or flow.policy or keep_all,
                shed=shed,
                holds=control.holds_traces,
                capacity=config.max_queue_size,
                max_spans=max(config.max_held_spans, config.max_queue_size),
                max_bytes=config.max_held_bytes,
                trace_timeout=config.trace_timeout_millis / 1000,
            )

        if isinstance(exporter, OTLPSpanExporter):
            exporter.on_attempt(flow.exports.attempted)
        watch = _Watch(config, control, flow, self._clock)
        pipeline = Pipeline(
            sender=ObservedSender(
                self._sender(exporter, config),
                exports=flow.exports,
                told=flow.told,
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

    def settle(self) -> None:
        """Have all that has ended by now looked at."""
        with self._lock:
            pipelines = [alive for ref, _ in self._pipelines if (alive := ref()) is not None]
        for pipeline in pipelines:
            pipeline.intake.settle_inbox()

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


class _Watch:
    """A worker's look at the control, and what it has to tell of its pipeline, which this must not keep alive."""

    def __init__(self, config: ShedConfig, control: OverloadControl, flow: Flow, clock: Callable[[], float]) -> None:
        self.pipeline: Callable[[], Pipeline | None] = _nothing
        self._control = control
        self._flow = flow
        self._report = (
            Report(account=self._account, state=self._state, summary=control.summary, clock=clock, time_ns=time.time_ns)
            if config.report
            else None
        )
        self._log = LogLimit(_logger, clock=clock)
        self._faults = 0
        begin_anew_after_fork(self)

    def after_fork_in_child(self) -> None:
        """What was shed before is the parent's to tell."""
        self._faults = 0
        if self._report is not None:
            self._report.restart()

    def look(self, now: float) -> float | None:
        pipeline, wait = self.pipeline(), None
        if pipeline is not None and not pipeline.is_shut_down:
            self._tell_of_faults(pipeline.intake.store)
            wait = self._tell_of_shed(pipeline, now)
        later = self._control.look(now)
        return later if wait is None else wait if later is None else min(wait, later)

    def _tell_of_faults(self, store: Store) -> None:
        if isinstance(store, Traces) and store.judge.faults != self._faults:
            self._faults, error = store.judge.faults, store.judge.last_fault
            self._log.warning(
                "policy",
                "the policy has failed on %d local traces, which were kept: %s: %s",
                self._faults,
                type(error).__name__,
                error,
            )

    def _tell_of_shed(self, pipeline: Pipeline, now: float) -> float | None:
        """The seconds after which there is more to tell."""
        if self._report is None or pipeline.resource is None:
            return None
        if (span := self._report.due(now, pipeline.resource)) is not None:
            pipeline.admit(span, Priority.CRITICAL)
        return self._report.wait(now)

    def _account(self) -> Account:
        pipeline = self.pipeline()
        return Account() if pipeline is None else pipeline.account()

    def _state(self) -> dict[str, AttributeValue]:
        brownout = self._control.snapshot()
        budget = self._flow.state.spans_per_second
        state: dict[str, AttributeValue] = {
            "otel_shed.phase": brownout.phase.value,
            "otel_shed.reasons": list(brownout.reasons),
            "otel_shed.pressure": brownout.pressure,
        }
        return state if budget is None else state | {"otel_shed.budget": budget}


class _Seen:
    """What the control reads of a pipeline, without keeping it alive; nothing before it is made and when it is gone."""

    __slots__ = ("pipeline",)

    def __init__(self) -> None:
        self.pipeline: Callable[[], Pipeline | None] = _nothing

    def __call__(self) -> FlowReading:
        pipeline = self.pipeline()
        if pipeline is None:
            return FlowReading()
        # Numbers that are read one after the other, without the lock: what is a span out here is right the next time.
        ledger, intake = pipeline.ledger, pipeline.intake
        # Those in the inbox count as what they will be if all is well.
        waiting = len(intake.inbox)
        return FlowReading(
            sampled=ledger.ended - ledger.unsampled + waiting,
            low=ledger.dropped[DropReason.LOW_PRIORITY],
            overflowed=ledger.dropped[DropReason.QUEUE_FULL],
            queued=intake.store.ready_spans,
            fill=min(1.0, intake.store.fill + waiting / intake.store.capacity),
            held_bytes=intake.store.held_bytes,
            is_exporting=ledger.in_flight > 0,
            admitted=intake.admitted,
            oldest=intake.admitted - ledger.queued - ledger.in_flight,
        )


def _nothing() -> None:
    """No pipeline yet."""
