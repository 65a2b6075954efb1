"""A sender that is watched: nothing of what it does changes, and what it comes to is told, whatever happens."""

from __future__ import annotations

import logging
import threading

import pytest

from otel_shed.control.observed import ObservedSender
from otel_shed.control.signals.exports import Exports
from otel_shed.log_limit import PREFIX
from otel_shed.native import start_thread
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.sender import Sender
from otel_shed.testing.clock import FakeClock
from tests.control.spans import span
from tests.pipeline.scripted_sender import ScriptedSender


class Watch:
    """An ObservedSender before a ScriptedSender, and what it told."""

    def __init__(self, clock: FakeClock, sender: ScriptedSender) -> None:
        self.exports = Exports(clock=clock)
        self.told: list[tuple[float, Outcome]] = []
        self.closed = 0
        self.faults: list[Exception] = []
        self.sender = ObservedSender(sender, exports=self.exports, told=self.tell, closed=self.close, clock=clock)

    def tell(self, began: float, outcome: Outcome) -> None:
        if self.faults:
            raise self.faults.pop()
        self.told.append((began, outcome))

    def close(self) -> None:
        self.closed += 1


def test_everything_else_is_the_senders(clock: FakeClock) -> None:
    """What travels, what fits, how it is cut, and all that shutdown asks for reach the sender that stands behind."""
    inner = ScriptedSender()
    inner.limit, inner.pieces = 10, 2
    observed: Sender = Watch(clock, inner).sender
    record = observed.record(span("name:11"))
    assert record.name == "name:11"
    assert not observed.fits(record)
    assert [len(piece) for piece in observed.split([record] * 4)] == [2, 2]
    assert observed.flush(1.0)
    observed.hurry(1.0)
    observed.abort()
    observed.after_fork_in_child()
    observed.shutdown(1.0)
    assert inner.calls == ["flush", "hurry", "abort", "after_fork_in_child", "shutdown"]


def test_tells_of_each_call(clock: FakeClock) -> None:
    """When it began, what it came to; while it lasts the exporter is busy, and then no more."""
    lost = Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED)
    busy: list[float | None] = []

    def answer(_: object) -> Outcome:
        busy.append(watch.exports.busy_since)
        clock.advance(2.0)
        return lost

    watch = Watch(clock, ScriptedSender([answer]))
    began = clock()
    record = watch.sender.record(span())
    assert watch.sender.send([record]) is lost
    assert watch.sender.send([record, record]) == Outcome(accepted=2)
    assert watch.told == [(began, lost), (began + 2.0, Outcome(accepted=2))]
    assert busy == [began]
    assert watch.exports.busy_since is None
    assert watch.exports.failing > 0.0


def test_tells_of_requests_one_after_the_other_as_they_end(clock: FakeClock) -> None:
    """Where one is made at a time, each is a call of its own, made when the one before has been dealt with."""
    watch = Watch(clock, ScriptedSender())
    record = watch.sender.record(span())
    outcomes = watch.sender.send_all([[record], [record, record]])
    for number in (1, 2):
        assert next(outcomes) == Outcome(accepted=number)
        assert [outcome.accepted for _, outcome in watch.told] == [1, 2][:number]


def test_tells_of_requests_that_are_made_at_once_as_of_one_call(clock: FakeClock) -> None:
    """What was taken is the sum, what failed failed; the exporter is busy from the first to the last."""
    refused = Outcome(0, 1, DropReason.NOT_RETRYABLE, "no", attempts=3, duration=5.0, throttled_until=1010.0)
    never_tried = Outcome(0, reason=DropReason.TOO_LARGE, attempts=0)
    inner = ScriptedSender([Outcome(2, duration=1.0), refused, never_tried])
    inner.at_once = 2
    watch = Watch(clock, inner)
    began = clock()
    record = watch.sender.record(span())
    outcomes = watch.sender.send_all([[record, record], [record], [record]])
    assert next(outcomes).accepted == 2
    assert (watch.exports.busy_since, watch.told) == (began, [])
    clock.advance(5.0)
    assert list(outcomes) == [refused, never_tried]
    assert watch.told == [
        (began, Outcome(2, 1, DropReason.NOT_RETRYABLE, "no", attempts=3, duration=5.0, throttled_until=1010.0))
    ]
    assert watch.exports.busy_since is None


def test_requests_that_nobody_hears_the_end_of_have_failed(clock: FakeClock) -> None:
    """A call that is given up in the middle has ended, as a failure."""
    inner = ScriptedSender()
    inner.at_once = 2
    watch = Watch(clock, inner)
    record = watch.sender.record(span())
    outcomes = watch.sender.send_all([[record], [record]])
    assert next(outcomes).accepted == 1
    outcomes.close()  # type: ignore[attr-defined]
    assert watch.told == [(clock(), Outcome(1, reason=DropReason.EXPORTER_ERROR))]
    assert watch.exports.busy_since is None


def test_a_fault_of_the_control_is_not_the_batchs(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """What was delivered is delivered, whatever those that are told make of it; it is one line."""
    watch = Watch(clock, ScriptedSender())
    watch.faults = [ZeroDivisionError("of the budget")]
    with caplog.at_level(logging.WARNING, "otel_shed"):
        assert watch.sender.send([watch.sender.record(span())]) == Outcome(accepted=1)
        assert watch.sender.send([watch.sender.record(span())]) == Outcome(accepted=1)
    assert len(watch.told) == 1
    assert [record.getMessage().removeprefix(PREFIX) for record in caplog.records] == [
        "fault in the control: ZeroDivisionError: of the budget"
    ]


def test_a_sender_that_breaks_is_not_busy_for_ever(clock: FakeClock) -> None:
    """A call that ends by an exception has ended, as a failure; the exception is the worker's to see."""

    def answer(_: object) -> Outcome:
        raise SystemExit(3)

    watch = Watch(clock, ScriptedSender([answer]))
    with pytest.raises(SystemExit):
        watch.sender.send([watch.sender.record(span())])
    assert watch.exports.busy_since is None
    assert [outcome.reason for _, outcome in watch.told] == [DropReason.EXPORTER_ERROR]


def test_is_closed_even_if_the_exporter_never_comes_back(clock: FakeClock) -> None:
    """Those who wait for its end are told as its shutdown begins, which may hang or raise."""

    class Hangs(ScriptedSender):
        def __init__(self) -> None:
            super().__init__()
            self.over = threading.Event()
            self.entered = threading.Event()

        def shutdown(self, timeout: float) -> None:
            self.entered.set()
            self.over.wait(10)
            raise OSError

    inner = Hangs()
    watch = Watch(clock, inner)
    failed: list[type[Exception]] = []

    def shut_down() -> None:
        try:
            watch.sender.shutdown(1.0)
        except OSError as error:
            failed.append(type(error))

    thread = start_thread(name="shutdown", target=shut_down)
    assert inner.entered.wait(10)
    assert watch.closed == 1
    inner.over.set()
    thread.join(10)
    assert (watch.closed, failed) == (1, [OSError])
