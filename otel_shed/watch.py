"""What the control and the worker see of a pipeline, and tell of it, without keeping it alive.

``Seen`` is read by whoever refreshes the control, ``Watch.look`` is called at each of the worker's turns. The rule: a
pipeline that its owner forgot is not held by those who look at it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from opentelemetry.util.types import AttributeValue

from otel_shed.config import ShedConfig
from otel_shed.control.flow import Flow, FlowReading
from otel_shed.control.overload import OverloadControl
from otel_shed.fork import begin_anew_after_fork
from otel_shed.log_limit import LogLimit
from otel_shed.outcome import UNDELIVERED, DropReason
from otel_shed.pipeline.ledger import Account
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.store import Store
from otel_shed.pipeline.traces import Traces
from otel_shed.record import Priority
from otel_shed.report import Report

_logger = logging.getLogger("otel_shed")


class Watch:
    """A worker's look at the control, and what it has to tell of its pipeline, which this must not keep alive."""

    def __init__(self, config: ShedConfig, control: OverloadControl, flow: Flow, clock: Callable[[], float]) -> None:
        self.pipeline: Callable[[], Pipeline | None] = _nothing
        self._control = control
        self._flow = flow
        self._report = (
            Report(
                account=self._account,
                shed=self._shed,
                state=self._state,
                summary=control.summary,
                clock=clock,
                time_ns=time.time_ns,
            )
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
        return Account() if pipeline is None else pipeline.ledger.account()  # the worker has just swept

    def _shed(self) -> int:
        pipeline = self.pipeline()
        return 0 if pipeline is None else pipeline.ledger.shed()

    def _state(self) -> dict[str, AttributeValue]:
        brownout = self._control.snapshot()
        budget = self._flow.state.spans_per_second
        state: dict[str, AttributeValue] = {
            "otel_shed.phase": brownout.phase.value,
            "otel_shed.reasons": list(brownout.reasons),
            "otel_shed.pressure": brownout.pressure,
        }
        return state if budget is None else state | {"otel_shed.budget": budget}


class Seen:
    """What the control reads of a pipeline, without keeping it alive; nothing before it is made and when it is gone."""

    __slots__ = ("pipeline",)

    def __init__(self) -> None:
        self.pipeline: Callable[[], Pipeline | None] = _nothing

    @property
    def queued(self) -> int:
        """Of a reading, what is asked for at each batch."""
        pipeline = self.pipeline()
        return 0 if pipeline is None else pipeline.intake.store.ready_spans

    def phase_changed(self) -> None:
        """Have the pipeline's threads look again; never waits."""
        pipeline = self.pipeline()
        if pipeline is not None:
            pipeline.look_again()

    def __call__(self) -> FlowReading:
        pipeline = self.pipeline()
        if pipeline is None:
            return FlowReading()
        # Numbers that are read one after the other, without the lock: what is a span out here is right the next time.
        ledger, store = pipeline.ledger, pipeline.intake.store
        account = ledger.glance()
        admitted = ledger.queue.admitted
        return FlowReading(
            sampled=account.ended - account.unsampled,
            low=(low := account.dropped.get(DropReason.LOW_PRIORITY, 0)),
            overflowed=account.dropped.get(DropReason.QUEUE_FULL, 0),
            queued=store.ready_spans,
            fill=store.fill,
            held_bytes=store.held_bytes,
            is_exporting=account.in_flight > 0,
            admitted=admitted,
            oldest=admitted - account.queued - account.in_flight,
            held_since=store.held_since,
            shed=low + account.summarized + account.dropped.get(DropReason.OVER_BUDGET, 0),
            would_have_shed=account.would_have_shed,
            undelivered=sum([account.dropped.get(reason, 0) for reason in UNDELIVERED]),
            exported=account.exported,
            held=account.queued + account.in_flight,
        )


def _nothing() -> None:
    """No pipeline yet."""
