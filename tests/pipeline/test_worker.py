"""The worker: what is due when, barriers, outcomes; driven turn by turn, without a thread."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from otel_shed.native import Signal
from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.intake import NEVER, Intake
from otel_shed.pipeline.ledger import Ledger
from otel_shed.pipeline.store import Batch
from otel_shed.pipeline.worker import EXPECTED_SHARE, LOOK_SECONDS, Worker
from otel_shed.record import SpanRecord
from otel_shed.testing.clock import FakeClock
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.stores import streaming
from tests.pipeline.test_intake import record


class Bench:
    """A worker with its parts, and a clock that stands still."""

    def __init__(self, clock: FakeClock, *, batch_size: int = 4, linger: float = 5.0) -> None:
        self.clock = clock
        self.ledger = Ledger()
        self.wakes = 0
        self.intake = Intake(
            ledger=self.ledger,
            store=streaming(capacity=100, max_bytes=10_000),
            clock=clock,
            wake=self.woken,
        )
        self.sender = ScriptedSender()
        self.worker = Worker(
            intake=self.intake,
            ledger=self.ledger,
            sender=self.sender,
            batch_size=batch_size,
            batch_bytes=5_000,
            linger=linger,
            interval=5.0,
            clock=clock,
        )
        self.number = 0

    def end(self, count: int) -> bool:
        """End so many spans; whether the worker was to be woken."""
        before = self.wakes
        for _ in range(count):
            self.intake.offer(record(self.number))
            self.number += 1
        return self.wakes > before

    def woken(self) -> None:
        self.wakes += 1

    @property
    def sent(self) -> list[int]:
        return [len(batch) for batch in self.sender.sent]


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    return Bench(clock)


def test_idle_waits_for_ever(bench: Bench) -> None:
    """With nothing queued the worker asks for no timer at all, and the first span wakes it."""
    assert bench.worker.turn() is None
    assert bench.end(1)


def test_a_full_batch_goes_at_once(bench: Bench) -> None:
    """A batch is sent when it is full; what is left over waits for its time."""
    bench.worker.turn()
    bench.end(6)
    assert bench.worker.turn() == 5.0
    assert bench.sent == [4]


def test_a_span_waits_no_longer_than_the_schedule_delay(bench: Bench) -> None:
    """What does not fill a batch is sent when the first of it has waited for the schedule delay."""
    bench.end(1)
    assert bench.worker.turn() == 5.0
    bench.clock.advance(3.0)
    bench.end(1)
    assert bench.worker.turn() == pytest.approx(2.0)
    assert bench.sent == []
    bench.clock.advance(2.0)
    bench.worker.turn()
    assert bench.sent == [2]


def test_a_batch_is_full_by_bytes_too(bench: Bench) -> None:
    """Large spans do not wait for their number to be reached: what is held must not fill up meanwhile."""
    bench.worker.turn()
    bench.intake.offer(record(1, 3_000))
    bench.worker.turn()
    assert bench.sent == []
    bench.intake.offer(record(2, 3_000))
    assert bench.wakes == 2
    bench.worker.turn()
    assert bench.sent == [1]  # two of them are larger than a batch
    bench.clock.advance(5.0)
    bench.worker.turn()
    assert bench.sent == [1, 1]


def test_while_it_waits_only_a_full_batch_wakes_it(bench: Bench) -> None:
    """Between the first span and the timer, the worker is woken when the batch is full, not by every span."""
    bench.end(1)
    bench.worker.turn()
    assert not bench.end(2)
    assert bench.end(1)


def test_no_wake_up_is_lost_between_the_look_and_the_wait(bench: Bench) -> None:
    """A batch that fills up while another is being sent is sent in the same turn (upstream issue 5400)."""
    bench.worker.turn()
    bench.end(4)

    def more_spans_meanwhile(records: object) -> Outcome:
        assert bench.intake.wake_at == NEVER
        assert not bench.end(4)
        return Outcome(accepted=4)

    bench.sender.script = [more_spans_meanwhile]
    bench.worker.turn()
    assert bench.sent == [4, 4]


def test_a_flush_sends_what_is_queued(bench: Bench) -> None:
    """A barrier makes everything due, and passes when it has been delivered and the exporter has flushed."""
    bench.end(6)
    flush = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert bench.sent == [4, 2]
    assert bench.sender.calls == ["flush"]
    assert (flush.done.is_set(), flush.delivered) == (True, True)


def test_a_flush_does_not_wait_for_what_ends_after_it(bench: Bench) -> None:
    """Under steady load a barrier passes as soon as what was there before it has gone."""
    bench.end(4)
    flush = bench.worker.request_flush(10.0)
    states: list[bool] = []

    def endless_load(records: object) -> Outcome:
        states.append(flush.done.is_set())
        if len(states) < 4:
            bench.end(4)
        return Outcome(accepted=4)

    bench.sender.script = [endless_load] * 4
    bench.worker.turn()
    assert states == [False, True, True, True]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED),
        Outcome(accepted=3, rejected=1),
        Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE),
    ],
)
def test_a_flush_fails_when_a_span_before_it_was_lost(bench: Bench, outcome: Outcome) -> None:
    """A barrier tells of the loss of any span that ended before it."""
    bench.sender.script = [outcome]
    bench.end(4)
    flush = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert (flush.done.is_set(), flush.delivered) == (True, False)


def test_a_flush_that_is_asked_for_as_the_worker_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before it says that it has finished, or just after: whoever waits for it is told, and not left alone."""
    flushes = []
    finish = Signal.set

    def asked_for(signal: Signal) -> None:
        if signal is bench.worker.finished:
            flushes.append(bench.worker.request_flush(10.0))
            finish(signal)
            flushes.append(bench.worker.request_flush(10.0))
        else:
            finish(signal)

    monkeypatch.setattr(Signal, "set", asked_for)
    bench.end(3)
    bench.intake.close()
    bench.worker.run()
    assert [(flush.done.is_set(), flush.delivered) for flush in flushes] == [(True, True)] * 2
    assert bench.sent == [3]


def test_flushes_after_the_end_are_told_of_a_loss(bench: Bench) -> None:
    """The first one; who asks later has been told of it."""
    bench.sender.script = [Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED)]
    bench.end(4)
    bench.intake.close()
    bench.worker.run()
    flushes = [bench.worker.request_flush(10.0) for _ in range(3)]
    assert [(flush.done.is_set(), flush.delivered) for flush in flushes] == [(True, False), (True, True), (True, True)]


def test_after_a_batch_that_took_too_long_come_smaller_ones(bench: Bench) -> None:
    """And they go as soon as they are full."""
    late = Outcome(0, reason=DropReason.EXPORT_TIMEOUT, duration=30.0)
    bench.sender.script = [late, Outcome(2, duration=20.0), Outcome(2, duration=0.1)]
    bench.end(4)
    bench.worker.turn()
    bench.end(2)
    bench.worker.turn()
    assert bench.sent == [4, 2]
    bench.end(5)
    bench.worker.turn()
    assert bench.sent == [4, 2, 2]
    bench.end(1)
    bench.worker.turn()
    assert bench.sent == [4, 2, 2, 4]


def test_a_loss_fails_one_flush(bench: Bench) -> None:
    """A loss before the call is told by the next flush, and by that one only."""
    bench.sender.script = [Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED)]
    bench.end(4)
    bench.worker.turn()
    first = bench.worker.request_flush(10.0)
    bench.worker.turn()
    second = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert (first.delivered, second.delivered) == (False, True)


def test_what_is_lost_later_does_not_fail_an_earlier_flush(bench: Bench) -> None:
    """A span that is dropped as it ends after the call is the next flush's to tell of."""
    bench.end(1)
    first = bench.worker.request_flush(10.0)
    bench.intake.book(DropReason.TOO_LARGE)
    bench.worker.turn()
    second = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert (first.delivered, second.delivered) == (True, False)


def test_what_the_queue_dropped_does_not_fail_a_flush(bench: Bench) -> None:
    """Overflow is a choice: the account tells of it, not the barrier."""
    bench.intake.store.max_queue_size = 2
    bench.intake.store.resize_queue()
    bench.end(5)
    flush = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert flush.delivered
    assert bench.ledger.dropped[DropReason.QUEUE_FULL] == 3


@pytest.mark.parametrize("answer", [False, RuntimeError("no")])
def test_a_flush_fails_with_the_exporters(bench: Bench, answer: bool | Exception) -> None:
    """An exporter whose own force_flush fails has not delivered."""
    bench.sender.flushed = answer
    flush = bench.worker.request_flush(10.0)
    bench.worker.turn()
    assert (flush.done.is_set(), flush.delivered) == (True, False)


@pytest.mark.parametrize(
    ("outcome", "exported", "rejected", "failed"),
    [
        (Outcome(accepted=4), 4, 0, 0),
        (Outcome(accepted=1, rejected=3), 1, 3, 0),
        (Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE), 0, 0, 4),
        (Outcome(accepted=9), 4, 0, 0),
        (Outcome(accepted=-2, rejected=9), 0, 4, 0),
    ],
)
def test_books_what_became_of_a_batch(
    bench: Bench, outcome: Outcome, exported: int, rejected: int, failed: int
) -> None:
    """Every span of a batch is accepted, rejected or failed; a collector that counts wrong cannot upset the account."""
    bench.sender.script = [outcome]
    bench.end(4)
    bench.worker.turn()
    account = bench.ledger.account()
    assert (account.exported, account.dropped.get(DropReason.REJECTED, 0)) == (exported, rejected)
    assert account.dropped.get(DropReason.NOT_RETRYABLE, 0) == failed
    assert (account.queued, account.in_flight, bench.intake.store.held_bytes) == (0, 0, 0)


def test_each_piece_of_a_batch_has_its_own_outcome(bench: Bench) -> None:
    """A batch that was split is booked request by request."""
    bench.sender.pieces = 2
    bench.sender.script = [Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE), Outcome(accepted=2)]
    bench.end(4)
    bench.worker.turn()
    account = bench.ledger.account()
    assert (account.exported, account.dropped) == (2, {DropReason.NOT_RETRYABLE: 2})
    assert (account.exports_attempted, account.exports_succeeded) == (2, 1)


def fault(records: object) -> Outcome:
    raise ZeroDivisionError


def test_a_fault_after_a_piece_costs_what_is_left(bench: Bench) -> None:
    """What was sent before it stays sent, and is released once."""
    bench.sender.pieces = 4
    bench.sender.script = [Outcome(accepted=1), Outcome(accepted=1), fault]
    bench.end(4)
    bench.end(3)
    with pytest.raises(ZeroDivisionError):
        bench.worker.turn()
    account = bench.ledger.account()
    assert (account.exported, account.dropped, account.in_flight) == (2, {DropReason.EXPORTER_ERROR: 2}, 0)
    assert (account.queued, bench.intake.store.held_bytes) == (3, 30)  # a scripted span has ten


def test_a_fault_of_ours_costs_the_batch_in_hand_and_is_counted(bench: Bench) -> None:
    """An exception inside the worker loses no span without counting it, and the next batch goes through."""
    bench.sender.script = [fault]
    bench.end(8)
    with pytest.raises(ZeroDivisionError):
        bench.worker.turn()
    bench.worker.turn()
    account = bench.ledger.account()
    assert (account.exported, account.dropped, account.in_flight) == (4, {DropReason.EXPORTER_ERROR: 4}, 0)


def test_finishes_when_closed_and_empty(bench: Bench) -> None:
    """After the intake is closed the worker sends the rest and finishes."""
    bench.end(6)
    bench.intake.close()
    bench.worker.turn()
    assert bench.sent == [4, 2]
    assert bench.worker.finished.is_set()


def test_after_giving_up_nothing_more_is_sent(bench: Bench) -> None:
    """What shutdown has given up is not sent any more; what was under way and got through is moved to exported."""
    bench.end(8)

    def give_up_meanwhile(records: object) -> Outcome:
        bench.intake.close()
        bench.ledger.abandon()
        bench.intake.clear()
        return Outcome(accepted=4)

    bench.sender.script = [give_up_meanwhile]
    bench.worker.turn()
    account = bench.ledger.account()
    assert bench.sent == [4]
    assert (account.exported, account.dropped) == (4, {DropReason.SHUTDOWN: 4})
    assert bench.worker.finished.is_set()


def test_health_is_the_last_outcome_and_no_hang(bench: Bench) -> None:
    """Parity D7: unhealthy after a failed export, and while one has been under way for more than three intervals."""
    assert bench.worker.healthy
    bench.sender.script = [Outcome(accepted=0, reason=DropReason.RETRY_EXHAUSTED)]
    bench.end(4)
    bench.worker.turn()
    assert not bench.worker.healthy
    seen: list[bool] = []

    def slow(records: object) -> Outcome:
        bench.clock.advance(14.0)
        seen.append(bench.worker.healthy)
        bench.clock.advance(2.0)
        seen.append(bench.worker.healthy)
        return Outcome(accepted=4)

    bench.sender.script = [Outcome(accepted=4), slow]
    bench.end(8)
    bench.worker.turn()
    assert seen == [True, False]
    assert bench.worker.healthy


def test_a_loss_is_one_line_a_minute(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that refuses for long is told once a minute, with all that was lost since, not once a batch."""
    caplog.set_level(logging.WARNING, "otel_shed")
    lost = Outcome(accepted=0, reason=DropReason.NOT_RETRYABLE, message="401: no token")
    bench.sender.script = [lost] * 30
    for _ in range(30):
        bench.end(4)
        bench.worker.turn()
        bench.clock.advance(3.0)
    refused = "the collector refuses them (401: no token)."
    go_on = "The program goes on and is not affected (to see why, run: otel-shed doctor)"
    assert caplog.messages == [
        f"otel-shed: 4 spans lost: {refused} {go_on}",
        f"otel-shed: 80 spans lost: {refused} {go_on}",
    ]


def test_after_a_full_batch_another_is_expected(bench: Bench) -> None:
    """Its first span wakes nobody; all of it does, and so does a quarter of the time for which a batch gathers."""
    bench.end(4)
    assert bench.worker.turn() == 1.25
    assert not bench.end(3)
    assert bench.end(1)
    assert bench.worker.turn() == 1.25
    assert bench.sent == [4, 4]
    bench.clock.advance(1.25)
    assert bench.worker.turn() is None
    assert bench.end(1)


def test_what_came_while_a_batch_was_expected_waits_no_longer_for_that(bench: Bench) -> None:
    """The time in which it was not seen is part of the schedule delay."""
    bench.end(4)
    bench.worker.turn()
    bench.end(1)
    bench.clock.advance(1.25)
    assert bench.worker.turn() == 3.75
    bench.clock.advance(3.75)
    bench.worker.turn()
    assert bench.sent == [4, 1]
    assert bench.worker.turn() is None  # that was no full one


def looks_of(bench: Bench) -> list[float]:
    """When the worker looks, from now on, in seconds from now."""
    looks: list[float] = []

    def look(now: float) -> float | None:
        looks.append(now - began)
        return None

    began = bench.clock()
    bench.worker._look = look
    return looks


def test_a_worker_that_has_no_end_of_batches_looks_up_now_and_then(bench: Bench) -> None:
    """Before a batch when it has not for a while, or a flush waits for it; and always before it rests."""
    looks = looks_of(bench)
    bench.sender.script = [lambda records: bench.clock.advance(0.02) or Outcome(accepted=len(records))] * 8
    bench.end(32)
    bench.worker.turn()
    assert looks == pytest.approx([0.0, 0.06, 0.12, 0.16])
    bench.clock.advance(0.01)
    bench.end(4)
    bench.worker.request_flush(1.0)
    looks.clear()
    bench.worker.turn()
    assert looks == pytest.approx([0.17, 0.17])


def test_a_short_rest_between_two_batches_needs_no_look(bench: Bench) -> None:
    """Where it has just looked and expects a batch: then soon. Batches that come slowly cost no wake-up more for it."""
    looks = looks_of(bench)
    pauses = []
    for _ in range(12):
        bench.end(4)
        pauses.append(bench.worker.turn())
        bench.clock.advance(0.01)
    assert looks == pytest.approx([0.0, 0.0, 0.05, 0.05, 0.1, 0.1])
    assert [pause == LOOK_SECONDS for pause in pauses] == [False, *[True] * 4, False, *[True] * 4, False, True]
    bench.clock.advance(LOOK_SECONDS)
    assert bench.worker.turn() is None
    assert looks[-1] == pytest.approx(0.17)
    looks.clear()
    for _ in range(3):
        bench.clock.advance(0.06)
        bench.end(4)
        assert bench.worker.turn() == EXPECTED_SHARE * 5.0
    assert len(looks) == 6


def test_what_was_left_over_when_the_time_came_does_not_wait_again(bench: Bench) -> None:
    """All that had come by then goes at once, in as many batches as it takes; what comes later has its own time."""
    bench.end(3)
    assert bench.worker.turn() == 5.0
    bench.end(6)
    bench.clock.advance(5.0)

    def meanwhile(records: Sequence[SpanRecord]) -> Outcome:
        bench.end(5)
        return Outcome(accepted=len(records))

    bench.sender.script = [meanwhile]
    assert bench.worker.turn() == 5.0
    assert bench.sent == [4, 4, 4]
    bench.clock.advance(5.0)
    bench.worker.turn()
    assert bench.sent == [4, 4, 4, 2]


def test_what_a_full_batch_leaves_keeps_its_time(bench: Bench) -> None:
    """It may have come as early as what has gone."""
    bench.end(3)
    bench.worker.turn()
    bench.clock.advance(4.0)
    bench.end(3)
    assert bench.worker.turn() == pytest.approx(1.0)
    assert bench.sent == [4]
    bench.clock.advance(1.0)
    bench.worker.turn()
    assert bench.sent == [4, 2]


def test_a_guest_expects_nothing(bench: Bench) -> None:
    """Where no thread stays to look by itself, the first span after a full batch is told of."""
    bench.end(4)
    bench.worker.turn_here(1.0)
    assert bench.sent == [4]
    assert bench.end(1)


def test_what_comes_after_a_full_batch_has_its_own_time(bench: Bench) -> None:
    """The one before it took all that had come."""
    bench.end(1)
    bench.worker.turn()
    bench.clock.advance(4.0)
    bench.end(3)

    def meanwhile(records: Sequence[SpanRecord]) -> Outcome:
        bench.end(1)
        return Outcome(accepted=len(records))

    bench.sender.script = [meanwhile]
    assert bench.worker.turn() == 5.0
    assert bench.sent == [4]


def test_a_batch_that_is_evicted_before_it_is_taken_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large span pushes out what the worker has just seen, itself too: the worker waits for the next one."""
    bench.worker.turn()
    bench.end(4)
    take = bench.intake.take

    def evicted(most: int, most_bytes: int = NEVER) -> Batch:
        bench.intake.offer(record(99, 1_000_000))
        for _ in range(4):
            bench.ledger.queue.resize(0, 0)
        return take(most, most_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(bench.intake, "take", evicted)
        assert bench.worker.turn() is None
    assert bench.sent == []
    bench.intake.store.resize_queue()
    assert bench.end(1)


def test_a_guest_that_was_interrupted_leaves_nothing_behind(bench: Bench) -> None:
    """Where an exception ends its turn in the middle of a call, the next span calls the worker all the same."""

    def interrupted(records: object) -> Outcome:
        raise KeyboardInterrupt

    bench.sender.script = [interrupted]
    bench.end(4)
    with pytest.raises(KeyboardInterrupt):
        bench.worker.turn_here(1.0)
    assert bench.ledger.account().dropped == {DropReason.EXPORTER_ERROR: 4}
    assert bench.end(1)
