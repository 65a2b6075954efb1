"""The control of one shedder: every flow, every signal, the phase, and the threshold that new traces are held against.

Owns the flows and the threshold in force, which is composed here and nowhere else. There is no thread: whoever asks
first once a tenth of a second is over does the work, and nobody waits for it; all others read what was found before.
Asked by application threads when a local root starts and when a span ends, and by workers. The rule: asking never
blocks and never raises.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from otel_shed.config import ShedConfig
from otel_shed.control.brownout import INTERVAL_SECONDS, Brownout, BrownoutSnapshot
from otel_shed.control.budget import RateBudget
from otel_shed.control.flow import Flow, FlowReading, HeadCounts
from otel_shed.control.gate import Gate
from otel_shed.control.keep_share import KeepShare
from otel_shed.control.phase import Action, Phase
from otel_shed.control.phase_table import phase_table
from otel_shed.control.policy import BudgetPolicy, Conditions
from otel_shed.control.pressure import Levels, PressureSignal
from otel_shed.control.priority import ChoosePriority, classifier_of
from otel_shed.control.shed_log import ShedLog
from otel_shed.control.signals.cpu import CpuMeter, CpuShare
from otel_shed.control.signals.exports import ExportFailures, ExportLatency, Throttling
from otel_shed.control.signals.memory import ProcessMemory, cgroup_memory
from otel_shed.control.signals.queue import DropRate, HeldBytes, IntakeFill, OverBudget
from otel_shed.control.threshold import KEEP_ALL, ThresholdInForce, in_force
from otel_shed.fork import begin_anew_after_fork
from otel_shed.interruption import EXHAUSTED, is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.native import allocate_lock, allocate_rlock
from otel_shed.pipeline.summary import Summary

Head = Callable[[], HeadCounts]


class OverloadControl:
    """Connects what is measured to what is done about it."""

    __slots__ = ("__dict__", "__weakref__", "_change")

    def __init__(
        self,
        config: ShedConfig,
        *,
        signals: Iterable[PressureSignal] = (),
        priority: ChoosePriority | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.clock = clock
        self._log = LogLimit(logging.getLogger("otel_shed"), clock=clock)
        self._levels = Levels(enter=config.enter_pressure, leave=config.leave_pressure)
        self._flows: tuple[Flow, ...] = ()
        self._flow_signals: dict[int, tuple[PressureSignal, ...]] = {}
        self._followers: dict[int, Callable[[], None]] = {}
        self._heads: tuple[Head, ...] = ()
        self._change, self._refreshing = allocate_rlock(), allocate_lock()  # the first in a finalizer too
        self.meter = None if config.cpu_share is None else CpuMeter()
        self._cpu = (
            None
            if config.cpu_share is None or self.meter is None
            else CpuShare(self.meter, config.cpu_share, floor=config.min_probability, levels=self._levels)
        )
        self.brownout = Brownout(
            table=phase_table(
                levels=self._levels,
                calm=config.calm,
                min_probability=config.min_probability,
                attribute_length=config.attribute_length,
                degraded_attribute_length=config.degraded_attribute_length,
            ),
            signals=(*self._own_signals(), *signals),
            enforcing=config.mode != "observe",
            clock=clock,
            changed=self._phase_has_changed,
        )
        self._shed_log = ShedLog(calm=config.calm, enforcing=self.brownout.enforcing)
        self.summary = Summary()
        self.gate = Gate(
            brownout=self.brownout,
            classifier=classifier_of(config, priority, clock),
            summary=self.summary,
            keep=KeepShare(config.keep_share, budget=lambda: self.budget, clock=clock) if config.keep_share else None,
            threshold=self.wanted,
            clock=clock,
        )
        if self.meter is not None:
            # Of the sampler's decisions, those at roots: one for a child costs less than the SDK's own sampler would.
            self.threshold = self.meter.metered(self.threshold)  # type: ignore[method-assign]
        # What is in force, and what would be: the same where this enforces. Written by whoever refreshes.
        self._wanted = self._in_force = KEEP_ALL
        self._refreshed = self._due = clock()
        begin_anew_after_fork(self)

    def _own_signals(self) -> Iterable[PressureSignal]:
        config, levels = self.config, self._levels
        yield IntakeFill(lambda: max((flow.fill for flow in self._flows), default=0.0), levels=levels)
        yield DropRate(
            lambda: sum(flow.read().overflowed for flow in self._flows),
            enter_per_second=config.enter_drops_per_second,
            levels=levels,
        )
        yield HeldBytes(
            lambda: max((flow.read().held_bytes for flow in self._flows), default=0),
            config.max_held_bytes,
            levels=levels,
        )
        yield ProcessMemory(config.memory_limit_bytes, cgroup=cgroup_memory())
        if self._cpu is not None:
            yield self._cpu

    # -- what is connected ---------------------------------------------------------------------------------------

    def add_flow(
        self,
        read: Callable[[], FlowReading],
        *,
        queue_capacity: int,
        batch_size: int,
        decides_traces: bool = False,
        fills_in: float = 0.0,
        where: str = "the collector",
        phase_changed: Callable[[], None] | None = None,
    ) -> Flow:
        """A flow for a new pipeline; ``remove_flow`` it when that is gone. ``where``, ``fills_in``: as in Flow.

        ``decides_traces``: the pipeline asks the flow's policy about whole traces; where none does, it is for the
        samplers to keep to the budget. ``phase_changed`` is called after each change of the phase, and must not wait.
        """
        flow = Flow(
            read=read,
            policy=BudgetPolicy(
                conditions=lambda now: self._conditions(flow, now),
                occasion=lambda: self.brownout.last_row,
                keep_share=self.config.keep_share,
                min_probability=self.config.min_probability,
                slow_trace=None if self.config.slow_trace_millis is None else self.config.slow_trace_millis / 1000,
                standing=batch_size * 3 // 2,
            )
            if decides_traces
            else None,
            head=self.head_counts,
            fills_in=fills_in,
            budget=RateBudget(
                queue_capacity=queue_capacity, batch_size=batch_size, min_probability=self.config.min_probability
            ),
            where=where,
            clock=self.clock,
        )
        signals: tuple[PressureSignal, ...] = (
            Throttling(flow.exports, levels=self._levels),
            ExportFailures(flow.exports),
            ExportLatency(flow.exports),
            OverBudget(lambda: flow.state.offered, lambda: flow.state.spans_per_second, levels=self._levels),
        )
        with self._change:
            self._flows = (*self._flows, flow)
            self._flow_signals[id(flow)] = signals
            if phase_changed is not None:
                self._followers[id(flow)] = phase_changed
            for signal in signals:
                self.brownout.add_signal(signal)
        return flow

    def remove_flow(self, flow: Flow) -> None:
        """Its signals count no longer; one that is not there is left alone."""
        with self._change:
            self._flows = tuple(kept for kept in self._flows if kept is not flow)
            self._followers.pop(id(flow), None)
            for signal in self._flow_signals.pop(id(flow), ()):
                self.brownout.remove_signal(signal)

    def add_signal(self, signal: PressureSignal) -> None:
        """Have ``signal`` of the user's count too; TypeError if it has no ``read``."""
        with self._change:
            self.brownout.add_signal(signal)

    def _conditions(self, flow: Flow, now: float) -> Conditions:
        """What a flow's policy goes by; while the collector is out, that is the room there is, and no budget."""
        row = self.brownout.last_row
        if row.action is Action.EXPORT_ALL:
            return Conditions()
        return Conditions(
            spans_per_second=None if flow.exports.is_parked(now) else flow.state.spans_per_second,
            min_priority=row.min_priority,
            summarizes=row.action is Action.RETAIN_SUMMARY_ONLY,
        )

    def holds_traces(self) -> bool:
        """Whether local traces are held until they can be decided on whole: from OBSERVE on."""
        return self.brownout.enforcing and self.brownout.last_row.phase is not Phase.NORMAL

    def _phase_has_changed(self) -> None:
        """Have the pipelines act on it now: what gathers for a batch would wait for that otherwise."""
        try:
            for phase_changed in [*self._followers.values()]:
                phase_changed()
        except EXHAUSTED:  # each acts on it when it next wakes
            pass

    def add_head(self, head: Head) -> None:
        """Have the decisions of a sampler count."""
        with self._change:
            self._heads = (*self._heads, head)

    def head_counts(self) -> HeadCounts:
        """The decisions of all samplers."""
        if not (heads := [head() for head in self._heads]):
            return HeadCounts()
        roots, kept = sum([head.roots for head in heads]), sum([head.kept for head in heads])
        return HeadCounts(roots, kept, max([head.ceiling for head in heads]))

    # -- what is asked -------------------------------------------------------------------------------------------

    def threshold(self) -> ThresholdInForce:
        """What a local root that starts now is held against."""
        now = self.clock()
        if not self._refreshed <= now < self._due:
            self._refresh(now)
        return self._in_force

    def wanted(self) -> ThresholdInForce:
        """What it would be held against if this enforced."""
        now = self.clock()
        if not self._refreshed <= now < self._due:
            self._refresh(now)
        return self._wanted

    def look(self, now: float) -> float | None:
        """A worker's turn: move things on; seconds after which it should look again, None if it need not."""
        if self.meter is not None:
            self.meter.worker_turned()
        # While nothing is shed there is nothing to keep up with; otherwise what has just been told counts at once.
        if self.brownout.last_row.action is not Action.EXPORT_ALL or not self._refreshed <= now < self._due:
            self._refresh(now)
        waits = self.brownout.next_look(now), self._shed_log.wait(now)
        return min([wait for wait in waits if wait is not None], default=None)

    @property
    def budget(self) -> float | None:
        """Spans a second that the collectors take, of all flows of which it is known; None while it is of none."""
        known = [budget for flow in self._flows if (budget := flow.state.spans_per_second) is not None]
        return sum(known) if known else None

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest span held has been."""
        return max((flow.oldest_seconds for flow in self._flows), default=0.0)

    def snapshot(self) -> BrownoutSnapshot:
        """The phase and why."""
        self.wanted()
        return self.brownout.snapshot(self.clock())

    def _refresh(self, now: float) -> None:
        refreshing = self._refreshing  # another one, if this thread forks in the middle
        if not refreshing.acquire(False):
            return
        try:
            self._refreshed, self._due = now, now + INTERVAL_SECONDS
            for flow in self._flows:
                flow.move_on(now)
            row = self.brownout.row(now)
            if row.action is Action.EXPORT_ALL:
                self._wanted = KEEP_ALL
            else:
                budgets = [
                    flow.state.in_force.probability
                    for flow in self._flows
                    if flow.policy is None or not self.brownout.enforcing
                ]
                ceiling = 1.0 if self._cpu is None else self._cpu.ceiling
                self._wanted = in_force(max(self.brownout.probability_floor(now), min([*budgets, ceiling])))
            if self.brownout.enforcing:
                self._in_force = self._wanted
            self._shed_log.look(
                now, self._flows, self.brownout.snapshot(now), self.head_counts(), self._in_force.probability
            )
        except Exception as error:  # a fault of ours; this may be the middle of the application's Span.end()
            if is_applications(error):
                raise
            self._log.warning("refresh", "fault in the control: %s: %s", type(error).__name__, error)
        finally:
            refreshing.release()

    # -- the process ---------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Counts and locks are the parent's; what was learned of the collector, and the phase, hold here too."""
        self._change, self._refreshing = allocate_rlock(), allocate_lock()
        self.brownout.after_fork_in_child()
        self.summary.restart()
        self._shed_log.restart()
        if self.meter is not None:
            self.meter.restart()
        for flow in self._flows:
            flow.after_fork_in_child()
