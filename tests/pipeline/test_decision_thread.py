"""The decision thread: one, started when it is first called, that comes back when something is due, and what stands in
its way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline import decision_thread as module
from otel_shed.pipeline.decision_thread import DecisionThread
from otel_shed.pipeline.intake import WORTH_A_LOOK
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.pipeline.queue import Queue
from otel_shed.pipeline.store import Shed, Store
from otel_shed.pipeline.traces import Traces
from otel_shed.pipeline.verdict import Policy, TraceView, Verdict, keep_all
from otel_shed.record import Priority, SpanRecord
from otel_shed.stats import read_stats
from tests.conftest import ended_span
from tests.pipeline.scripted_sender import ScriptedSender
from tests.pipeline.test_pipeline import Stall


class Decisions:
    """Counts, says who it was, and when to come again: ``pauses``, then when it is called."""

    def __init__(self, pauses: Sequence[float] = ()) -> None:
        self.pauses = list(pauses)
        self.threads: list[int] = []
        self.done = threading.Semaphore(0)

    def __call__(self) -> float | None:
        self.threads.append(threading.get_ident())
        self.done.release()
        return self.pauses.pop(0) if self.pauses else None

    def has_come(self, times: int = 1) -> bool:
        return all(self.done.acquire(timeout=10) for _ in range(times))


def no_threads(**parts: object) -> None:
    raise RuntimeError("can't start new thread")


def test_each_call_is_answered_by_the_same_thread() -> None:
    """Which is not the caller's, and is not there before the first call."""
    decisions = Decisions()
    thread = DecisionThread(decisions)
    assert thread._threads == []
    for _ in range(3):
        thread.call()
        assert decisions.has_come()
    thread.end(10.0)
    assert len(set(decisions.threads)) == 1
    assert threading.get_ident() not in decisions.threads


def test_it_comes_again_by_itself_when_it_is_told_to() -> None:
    """After so many seconds; then it sleeps until it is called."""
    decisions = Decisions([0.001, 0.0, 0.001])
    thread = DecisionThread(decisions)
    thread.call()
    assert decisions.has_come(4)
    assert not decisions.done.acquire(timeout=0.05)
    thread.call()
    assert decisions.has_come()
    thread.end(10.0)


@pytest.mark.parametrize("fault", [ZeroDivisionError("for once"), SystemExit("for once")])
def test_a_fault_is_told_and_does_not_end_it(fault: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The next call is answered; also where a policy of the program's calls sys.exit()."""
    decisions, faults = Decisions(), [fault]

    def decide() -> float | None:
        pause = decisions()
        if faults:
            raise faults.pop()
        return pause

    module._log._state.clear()
    thread = DecisionThread(decide)
    thread.call()
    assert decisions.has_come()
    thread.call()
    assert decisions.has_come()
    thread.end(10.0)
    assert len(set(decisions.threads)) == 1
    assert any("for once" in line for line in caplog.messages)


def test_where_no_thread_can_be_started_it_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears nothing of it; the next call tries again."""
    decisions = Decisions()
    thread = DecisionThread(decisions)
    with monkeypatch.context() as patched:
        patched.setattr(module, "start_thread", no_threads)
        thread.call()
    thread.call()
    assert decisions.has_come()
    thread.end(10.0)


def test_many_that_call_at_once_have_one() -> None:
    """Those that were started at the same time end at once."""
    decisions = Decisions()
    thread = DecisionThread(decisions)
    start = threading.Barrier(8)

    def call() -> None:
        start.wait()
        thread.call()

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert decisions.has_come()
    thread.end(10.0)
    assert len(set(decisions.threads)) == 1
    assert not any(each.is_alive() for each in thread._threads)


def test_after_its_end_it_is_not_started_again() -> None:
    """Nor where it had never been."""
    decisions = Decisions()
    for thread in (DecisionThread(decisions), DecisionThread(decisions)):
        thread.end(10.0)
        thread.call()
        assert thread._threads == []
    assert decisions.threads == []


def test_it_may_end_itself() -> None:
    """A finalizer that comes there and shuts down does not wait for its own thread."""
    ended = threading.Event()

    def decide() -> float | None:
        thread.end(60.0)
        ended.set()
        return None

    thread = DecisionThread(decide)
    thread.call()
    assert ended.wait(10)
    thread._threads[0].join(10)
    assert not thread._threads[0].is_alive()


def test_a_child_has_one_of_its_own() -> None:
    """The parent's thread is not there: the next call starts another."""
    decisions = Decisions()
    thread = DecisionThread(decisions)
    thread.call()
    assert decisions.has_come()
    thread.end(10.0)
    thread.restart()
    thread.call()
    assert decisions.has_come()
    thread.end(10.0)
    assert len(decisions.threads) == 2


# -- in a pipeline -----------------------------------------------------------------------------------------------


class Held:
    """A pipeline whose traces are held while ``holds`` is set; the first span of a new trace each time."""

    def __init__(self, sender: ScriptedSender, *, policy: Policy = keep_all, **changes: float) -> None:
        self.holds = False

        def store(shed: Shed, queue: Queue) -> Store:
            return Traces(
                policy=policy,
                shed=shed,
                queue=queue,
                holds=lambda: self.holds,
                capacity=20_000,
                max_spans=40_000,
                max_bytes=1 << 25,
                trace_timeout=30.0,
            )

        settings = {"linger": 60.0, "interval": 60.0, "shutdown_grace": 3.0} | changes
        self.pipeline = Pipeline(
            sender=sender,
            store=store,
            max_held_bytes=1 << 25,
            max_request_bytes=1_000_000,
            max_export_batch_size=4,
            clock=time.monotonic,
            **settings,
        )
        self.number = 0

    def end(self, count: int = 1, *, root: bool = True) -> None:
        for _ in range(count):
            self.number += 1
            self.pipeline.intake.offer(
                SpanRecord(
                    self.number, self.number, 0 if root else 7, 1, "work", 0, 0, Priority.NORMAL, 10, None, b"", None
                )
            )


def shed_all(trace: TraceView) -> Verdict:
    return Verdict(DropReason.OVER_BUDGET)


def until(condition: Callable[[], bool]) -> bool:
    tries, deadline = threading.Event(), time.monotonic() + 10  # an event that nobody sets
    while not condition() and time.monotonic() < deadline:
        tries.wait(0.001)
    return condition()


def test_while_the_exporter_hangs_traces_are_decided_on() -> None:
    """Not by the threads that end spans, and not once it has come back; the thread is gone after shutdown."""
    stall, threads = Stall(), set()

    def policy(trace: TraceView) -> Verdict:
        threads.add(threading.current_thread())
        return Verdict(DropReason.OVER_BUDGET)

    held = Held(ScriptedSender([stall]), policy=policy)
    held.end(4)
    assert stall.began.wait(10)
    held.holds = True
    held.end(WORTH_A_LOOK)
    assert until(lambda: held.pipeline.account().dropped.get(DropReason.OVER_BUDGET) == WORTH_A_LOOK)
    (decisions,) = threads
    assert decisions.name == "otel-shed-decisions"
    stall.go_on.set()
    assert held.pipeline.flush(10.0)
    assert read_stats([held.pipeline]).exported == 4
    held.pipeline.shutdown(10.0)
    assert not decisions.is_alive()


def test_where_there_is_no_decision_thread_the_worker_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came while it was in a call, once it has come back."""
    monkeypatch.setattr(module, "start_thread", no_threads)
    stall = Stall()
    held = Held(ScriptedSender([stall]), policy=shed_all)
    held.end(4)
    assert stall.began.wait(10)
    held.holds = True
    held.end(2 * WORTH_A_LOOK)
    stall.go_on.set()
    assert until(lambda: held.pipeline.account().dropped.get(DropReason.OVER_BUDGET) == 2 * WORTH_A_LOOK)


@pytest.mark.parametrize("policy", [keep_all, shed_all])
def test_a_flush_of_many_held_traces_is_not_slowed_down(policy: Policy) -> None:
    """Nobody rests while it is waited for, and what is kept goes out in full batches."""
    sender = ScriptedSender()
    held = Held(sender, policy=policy)
    held.holds = True
    held.end(8_000, root=False)
    began = time.thread_time(), time.monotonic()
    assert held.pipeline.flush(60.0)
    assert time.monotonic() - began[1] < 20
    account = held.pipeline.account()
    assert account.queued == 0
    if policy is keep_all:
        assert account.exported == 8_000
        assert account.exports_attempted < 2_100  # 2,000 are full


@pytest.mark.parametrize("policy", [keep_all, shed_all])
@pytest.mark.parametrize("flushes", [False, True])
def test_without_threads_all_that_is_held_is_decided_on(
    policy: Policy, flushes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many slices it takes, by who flushes or shuts down."""
    monkeypatch.setattr(module, "start_thread", no_threads)
    monkeypatch.setattr("otel_shed.pipeline.pipeline.start_thread", no_threads)
    held = Held(ScriptedSender(), policy=policy)
    held.holds = True
    held.end(5_000, root=False)
    if flushes:
        assert held.pipeline.flush(60.0)
    else:
        held.pipeline.shutdown(60.0)
    account = held.pipeline.account()
    assert (account.queued, account.exported if policy is keep_all else account.dropped) == (
        0,
        5_000 if policy is keep_all else {DropReason.OVER_BUDGET: 5_000},
    )
    assert not held.pipeline.shutdown_was_lossy


def test_it_ends_with_a_pipeline_that_nobody_holds() -> None:
    """Nobody has to shut that down."""
    stall = Stall()
    held = Held(ScriptedSender([stall]))
    held.end(4)
    assert stall.began.wait(10)
    held.end(WORTH_A_LOOK)
    decisions = held.pipeline._decisions
    assert until(lambda: decisions._thread_id is not None)
    stall.go_on.set()
    held.pipeline.forget()
    assert until(lambda: held.pipeline.shutdown_completed)
    assert until(lambda: not any(thread.is_alive() for thread in decisions._threads))
    assert held.pipeline.account().exported == 4 + WORTH_A_LOOK


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_it_decides_delivers_its_own_spans() -> None:
    """Its locks are new, whatever the parent's decision thread was in the middle of."""
    stall = Stall()
    held = Held(ScriptedSender([stall]), policy=shed_all)
    held.end(4)
    assert stall.began.wait(10)
    held.holds = True
    over = threading.Event()

    def end_spans() -> None:
        while not over.is_set():
            held.end(100)
            over.wait(0.0001)

    producer = threading.Thread(target=end_spans)
    producer.start()
    try:
        for _ in range(5):
            assert until(lambda: held.pipeline._decisions._thread_id is not None)
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    held.holds = False
                    held.pipeline.admit(ended_span())
                    is_delivered = held.pipeline.flush(10.0)
                    code = 0 if is_delivered and held.pipeline.account().exported == 1 else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        over.set()
        producer.join()
        stall.go_on.set()
    assert held.pipeline.flush(10.0)


def test_the_decision_thread_sees_the_control_while_the_exporter_hangs() -> None:
    """It is measured, so that its processor time counts as tracing's."""
    stall, measured = Stall(), threading.Event()
    held = Held(ScriptedSender([stall]))
    held.pipeline._measured = measured.set
    held.end(4)
    assert stall.began.wait(10)
    held.end(WORTH_A_LOOK)
    assert measured.wait(10)
    stall.go_on.set()


def test_an_outcome_that_comes_while_decisions_are_made_is_counted() -> None:
    """Both move spans in the ledger, one at a time."""
    sender = ScriptedSender()
    held = Held(sender, policy=shed_all, linger=0.001)
    sender.script = [lambda records: Outcome(accepted=len(records))] * 50
    for turn in range(50):
        held.holds = turn % 2 == 1
        held.end(64)
        account = held.pipeline.account()
        came_to = account.queued + account.in_flight + account.exported + sum(account.dropped.values())
        assert account.ended == came_to
    held.holds = False
    assert held.pipeline.flush(10.0)
    assert held.pipeline.account().queued == 0
