"""The throughput: only what can be known is measured."""

from __future__ import annotations

import pytest

from otel_shed.control.throughput import COMPANY_SECONDS, REFUSING_SECONDS, Throughput
from otel_shed.outcome import DropReason, Outcome

BATCH = 512


class Calls:
    """Export calls one after the other."""

    def __init__(self) -> None:
        self.seen = Throughput(BATCH)
        self.now = 100.0

    def call(
        self,
        took: float,
        *,
        after: float = 0.0,
        taken: int = BATCH,
        waiting: int = 2 * BATCH,
        refusals: int = 0,
        reason: DropReason | None = None,
    ) -> Throughput:
        """One that begins so many seconds ``after`` the last; ``waiting``: spans when it ends."""
        begun = self.now + after
        for _ in range(refusals):
            self.seen.refused(begun, 1)
        self.now = begun + took
        outcome = Outcome(0 if reason else taken, reason=reason, attempts=1 + refusals, duration=took)
        self.seen.exported(self.now, begun, outcome, queued=waiting)
        return self.seen


def test_a_collector_is_measured_while_a_batch_waits() -> None:
    """Exactly, and from a second of that on."""
    calls = Calls()
    assert not calls.call(0.9).is_measured
    seen = calls.call(0.9)
    assert seen.is_measured
    assert seen.while_pressed == pytest.approx(BATCH / 0.9)


def test_the_time_between_calls_counts_while_a_batch_waits() -> None:
    """What the program does between them is part of what can be had."""
    calls = Calls()
    for _ in range(20):
        seen = calls.call(0.5, after=0.5)
    assert seen.while_pressed == pytest.approx(BATCH, rel=0.1)


def test_a_collector_that_waits_for_spans_is_not_measured() -> None:
    """Its pause is not its slowness."""
    calls = Calls()
    for _ in range(5):
        seen = calls.call(0.1, after=5.0, waiting=10)
    assert not seen.is_measured
    assert seen.service == pytest.approx(BATCH / 0.1)


def test_a_pause_ends_what_was_measured() -> None:
    """It begins anew with the next batch that waits."""
    calls = Calls()
    calls.call(2.0)
    calls.call(2.0, waiting=0)
    seen = calls.call(0.5, after=60.0)
    assert not seen.is_measured
    assert seen.while_pressed == pytest.approx(BATCH / 0.5)


@pytest.mark.parametrize("reason", [DropReason.RETRY_EXHAUSTED, DropReason.EXPORT_TIMEOUT, DropReason.EXPORTER_ERROR])
def test_what_nobody_answered_says_nothing(reason: DropReason) -> None:
    """Neither of a rate nor of a collector that refuses."""
    calls = Calls()
    for _ in range(4):
        calls.call(2.0, refusals=1)
    seen = calls.call(30.0, reason=reason)
    assert seen.unanswered
    assert seen.failed
    assert not seen.is_measured
    assert not seen.is_refusing(calls.now)
    assert seen.between_refusals is None


def test_a_retry_that_was_not_asked_for_is_a_failure() -> None:
    """Its wait says nothing of a rate."""
    calls = Calls()
    calls.seen.exported(10.0, 8.0, Outcome(BATCH, attempts=3, duration=2.0), queued=2 * BATCH)
    assert calls.seen.failed
    assert not calls.seen.unanswered
    assert not calls.seen.is_measured


def test_one_that_refuses_is_measured_from_one_refusal_to_the_next() -> None:
    """What it took at once before the first is not in it: that was room left over."""
    calls = Calls()
    for _ in range(4):
        calls.call(0.01)
    assert calls.seen.between_refusals is None
    assert calls.call(1.0, refusals=1).between_refusals is None
    for _ in range(3):
        calls.call(0.0, after=1.0)
    assert calls.call(1.0, refusals=1).between_refusals == pytest.approx(4 * BATCH / 4.0)


def test_refusals_less_than_a_second_apart_are_one() -> None:
    """A batch between them would make a rate of nothing."""
    calls = Calls()
    calls.call(0.01, refusals=1)
    assert calls.call(0.01, refusals=1).between_refusals is None


def test_other_programs_show_in_a_request_that_is_refused_twice() -> None:
    """And are remembered for ten minutes."""
    calls = Calls()
    assert calls.call(1.0, refusals=1).is_alone(calls.now)
    assert not calls.call(3.0, refusals=2).is_alone(calls.now)
    assert not calls.seen.is_alone(calls.now + COMPANY_SECONDS - 10.0)
    assert calls.seen.is_alone(calls.now + COMPANY_SECONDS + 1.0)


def test_other_programs_show_in_a_limit_that_is_not_the_same_each_time() -> None:
    """What is taken from one refusal to the next is, to within a batch at each end, of a limit that is its own."""
    calls = Calls()
    for batches in (10, 10, 12, 9):
        for _ in range(batches):
            calls.call(0.0, after=1.0)
        calls.call(0.0, refusals=1)
        assert calls.seen.is_alone(calls.now)
    for _ in range(10):
        calls.call(0.0, after=3.0)
    calls.call(0.0, refusals=1)
    assert not calls.seen.is_alone(calls.now)


def test_a_refusal_is_told_as_it_comes_and_belongs_to_its_call() -> None:
    """The first of a call is known from those that follow."""
    seen = Throughput(BATCH)
    assert seen.refused(1.0, 1)
    assert not seen.refused(2.0, 1)
    seen.exported(5.0, 0.5, Outcome(BATCH, attempts=3), queued=0)
    assert (seen.refusals, seen.failed) == (2, False)
    assert seen.refused(6.0, 2)
    seen.exported(9.0, 5.5, Outcome(BATCH, attempts=3), queued=0)
    assert seen.refusals == 2


def test_it_refuses_for_some_minutes_after_a_refusal() -> None:
    """Then it is one that does not."""
    calls = Calls()
    assert not calls.seen.is_refusing(calls.now)
    seen = calls.call(1.0, refusals=1)
    assert seen.is_refusing(calls.now + REFUSING_SECONDS - 2.0)
    assert not seen.is_refusing(calls.now + REFUSING_SECONDS)


def test_lately_is_what_the_last_calls_took_in_all_of_their_time() -> None:
    """Waits included; the calm before a storm is soon forgotten."""
    calls = Calls()
    for _ in range(50):
        calls.call(0.1, after=4.9, taken=50, waiting=0)
    assert calls.seen.lately == pytest.approx(10.0, rel=0.01)
    for _ in range(40):
        calls.call(1.0)
    assert calls.seen.lately == pytest.approx(BATCH, rel=0.05)


def test_a_call_that_lasts_makes_less_of_the_best_there_can_be() -> None:
    """Before it ends: the rate can only be as high as if it ended now."""
    calls = Calls()
    for _ in range(10):
        calls.call(1.0)
    assert calls.seen.at_best(1.0) == pytest.approx(BATCH, rel=0.01)
    assert calls.seen.at_best(20.0) < calls.seen.at_best(5.0) < BATCH


def test_the_backlog_is_what_waits_behind_the_next_batch() -> None:
    """The next is allowed for as it comes about, so that the backlog does not jump."""
    calls = Calls()
    seen = calls.call(2.0)
    assert seen.backlog(calls.now, 700) == 700
    assert seen.backlog(calls.now + 1.0, 700) == pytest.approx(700 - BATCH / 2)
    assert seen.backlog(calls.now + 10.0, 700) == 700 - BATCH
    seen = calls.call(2.0, waiting=100)
    assert seen.backlog(calls.now, 700) == 0.0
