"""The ledger: one account of what is in the queue, behind it, and gone, that adds up at every reading."""

from __future__ import annotations

import threading

import pytest

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.ledger import KIND, Fate, Ledger
from otel_shed.pipeline.queue import PlainQueue, Queue
from tests.pipeline.made_records import made_record


@pytest.fixture(params=[Queue, PlainQueue], ids=["built", "plain"])
def ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr("otel_shed.pipeline.ledger.Queue", request.param)
    return Ledger()


def push(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.queue.push(made_record(trace_id=number + 1))


def balances(ledger: Ledger) -> bool:
    account = ledger.account()
    came_to = account.unsampled + account.queued + account.in_flight + account.exported + account.summarized
    return account.ended == came_to + sum(account.dropped.values())


def test_a_span_is_in_one_place_at_a_time(ledger: Ledger) -> None:
    """From the queue to the trace buffer, to the exporter's hands, to its outcome; or shed on the way."""
    push(ledger, 10)
    ledger.book(Fate.UNSAMPLED, 2)
    assert (ledger.queued, ledger.pending) == (10, 0)
    with ledger.lock:
        ledger.pop(len(ledger.queue.pop(6)[0]))
        assert (ledger.queued, ledger.pending) == (10, 6)
        ledger.let_go(DropReason.OVER_BUDGET, 1)
        ledger.let_go(Fate.SUMMARIZED, 1)
        ledger.take(2, len(ledger.queue.pop(1)[0]))
    assert balances(ledger)
    ledger.settle(3, Outcome(accepted=1, rejected=1, reason=DropReason.RETRY_EXHAUSTED))
    account = ledger.account()
    assert (account.ended, account.queued, account.in_flight, account.submitted) == (12, 5, 0, 3)
    assert (account.exported, account.summarized, account.unsampled) == (1, 1, 2)
    assert account.dropped == {
        DropReason.OVER_BUDGET: 1,
        DropReason.REJECTED: 1,
        DropReason.RETRY_EXHAUSTED: 1,
    }
    assert balances(ledger)


def test_what_the_queue_counts_and_what_is_counted_behind_it_are_one_number(ledger: Ledger) -> None:
    """Records that admission refused, and traces that the budget had no room for, are dropped for one reason."""
    push(ledger, 2)
    with ledger.lock:
        ledger.pop(len(ledger.queue.pop(2)[0]))
        ledger.let_go(DropReason.OVER_BUDGET, 2)
    ledger.queue.book(KIND[DropReason.OVER_BUDGET], 3)
    assert ledger.dropped[DropReason.OVER_BUDGET] == 5
    assert ledger.account().dropped == {DropReason.OVER_BUDGET: 5}
    assert (ledger.shed(), ledger.lost_in_export()) == (5, 0)


def test_what_would_have_been_shed_is_counted_beside(ledger: Ledger) -> None:
    """It is no end that a span comes to."""
    ledger.book(Fate.WOULD_HAVE_SHED, 3)
    account = ledger.account()
    assert (account.ended, account.would_have_shed) == (0, 3)


def test_giving_up_leaves_nothing(ledger: Ledger) -> None:
    """In the queue, behind it and in flight; what gets through after all is moved over."""
    push(ledger, 10)
    with ledger.lock:
        ledger.pop(len(ledger.queue.pop(5)[0]))
        ledger.take(2, 0)
    ledger.queue.close()
    ledger.abandon()
    account = ledger.account()
    assert (account.ended, account.queued, account.in_flight) == (10, 0, 0)
    assert account.dropped == {DropReason.SHUTDOWN: 10}
    ledger.settle(2, Outcome(accepted=2))
    assert ledger.account().dropped == {DropReason.SHUTDOWN: 8}
    assert balances(ledger)


def test_a_glance_does_not_wait(ledger: Ledger) -> None:
    """Whoever is in the ledger, and for however long."""
    push(ledger, 3)
    seen = []
    with ledger.lock:
        other = threading.Thread(target=lambda: seen.append(ledger.glance()))
        other.start()
        other.join(10)
        assert not other.is_alive()
    assert seen == [ledger.account()]


def test_a_child_begins_anew(ledger: Ledger) -> None:
    """With counts of its own, and a lock that nobody holds."""
    push(ledger, 3)
    ledger.book(Fate.UNSAMPLED)
    held = threading.Thread(target=ledger.lock.acquire)  # as if its owner were not in the child
    held.start()
    held.join()
    ledger.restart()
    assert (ledger.account().ended, ledger.queued) == (0, 0)
    push(ledger, 1)
    assert ledger.account().queued == 1
