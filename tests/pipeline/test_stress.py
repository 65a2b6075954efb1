"""Real threads, all at once: eight that end spans, the export thread, the decision thread, and phases to and fro."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.ledger import Account, Fate
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.queue import PlainQueue, Queue
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import TraceView, Verdict
from otel_shed.record import Priority, SpanRecord
from tests.pipeline.scripted_sender import ScriptedSender

SECONDS = 3.0
CAPACITY = 2_000


class Collector(ScriptedSender):
    """Takes all, and keeps in mind which spans; some calls take a while."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        self.taken += [record.span_id for record in records]
        if len(self.taken) % 5 == 0:
            time.sleep(0.002)
        return Outcome(accepted=len(records))


class Phases:
    """Whether traces are held, and which are shed."""

    def __init__(self) -> None:
        self.holds = self.sheds = False

    def policy(self, trace: TraceView) -> Verdict:
        return Verdict(DropReason.OVER_BUDGET) if self.sheds and trace.randomness % 3 else Verdict()


def unbalanced(account: Account) -> bool:
    """Whether it does not add up, or more waits than may."""
    came_to = account.unsampled + account.queued + account.in_flight + account.exported + account.summarized
    return account.ended != came_to + sum(account.dropped.values()) or account.queued > CAPACITY


@pytest.mark.parametrize(("seed", "kind"), [(1, Queue), (2, PlainQueue)], ids=["built", "plain"])
def test_nothing_is_lost_between_the_threads(seed: int, kind: type[Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    """The account balances at every reading, each span has come to one end, and a flush passes after every change."""
    monkeypatch.setattr("otel_shed.pipeline.ledger.Queue", kind)
    phases, sender = Phases(), Collector()

    def store(shed: Shed, queue: Queue) -> Store:
        return Traces(
            policy=phases.policy,
            shed=shed,
            queue=queue,
            holds=lambda: phases.holds,
            capacity=CAPACITY,
            max_queue_size=CAPACITY,
            max_spans=2 * CAPACITY,
            max_bytes=1 << 24,
            trace_timeout=0.5,
        )

    pipeline = Pipeline(
        sender=sender,
        store=store,
        max_held_bytes=1 << 24,
        max_request_bytes=100_000,
        max_export_batch_size=64,
        linger=0.05,
        interval=5.0,
        shutdown_grace=10.0,
        clock=time.monotonic,
    )
    over, wrong, flushes = threading.Event(), [], []
    counts = [0] * 8

    def end_spans(producer: int) -> None:
        chance = random.Random(seed * 8 + producer)
        while not over.is_set():
            trace_id = chance.getrandbits(127) + 1
            for place in range(chance.choice((1, 1, 3))):
                counts[producer] += 1
                parent = 0 if place == 0 else 7
                pipeline.intake.offer(
                    SpanRecord(
                        trace_id,
                        counts[producer] * 8 + producer,
                        parent,
                        1,
                        "work",
                        0,
                        0,
                        chance.choice((Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH)),
                        chance.randrange(50, 500),
                        None,
                        b"",
                        None,
                    )
                )
            if chance.random() < 0.05:
                counts[producer] += 1
                pipeline.intake.book(Fate.UNSAMPLED)
            if chance.random() < 0.1:
                time.sleep(0.001)

    def read() -> None:
        while not over.is_set():
            if unbalanced(account := pipeline.account()):
                wrong.append(account)
            time.sleep(0.0005)

    def change_phases() -> None:
        chance = random.Random(seed)
        while not over.is_set():
            phases.holds, phases.sheds = chance.random() < 0.6, chance.random() < 0.5
            over.wait(chance.random() * 0.05)

    def flush() -> None:
        while not over.is_set():
            flushes.append(pipeline.flush(30.0))
            over.wait(0.1)

    threads = [threading.Thread(target=end_spans, args=(producer,)) for producer in range(8)]
    threads += [threading.Thread(target=target) for target in (read, change_phases, flush)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        over.wait(SECONDS)
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    # Without anybody who asks: what is the last to come goes out when its time has come, and wakes who is to see to it.
    deadline = time.monotonic() + 20
    while (pipeline.ledger.queued or pipeline.ledger.in_flight) and time.monotonic() < deadline:
        time.sleep(0.01)
    account = pipeline.account()
    assert wrong == []
    assert (account.queued, account.in_flight) == (0, 0)
    assert account.ended == sum(counts)
    assert account.exported == len(sender.taken) == len(set(sender.taken))
    assert account.exported > 1_000
    assert account.dropped.get(DropReason.OVER_BUDGET, 0) > 0
    assert all(flushes)
    assert len(flushes) > 3
    time.sleep(0.7)  # for what is remembered of traces
    turned = pipeline._worker.last_turn
    time.sleep(0.2)  # an interval in which a worker that spins would have turned many times
    assert pipeline._worker.last_turn == turned
    pipeline.shutdown(10.0)
    assert not pipeline.shutdown_was_lossy
