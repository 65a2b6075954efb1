"""Lanes: jobs that several threads share, told in order, by no more threads than are needed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from otel_shed.native import WorkerThread
from otel_shed.otlp import lanes as lanes_module
from otel_shed.otlp.lanes import Job, Lanes
from tests.launched import until

PATIENCE = 30.0


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[WorkerThread]:
    """Those that were started, in order."""
    started: list[WorkerThread] = []
    start = lanes_module.start_thread

    def start_and_keep(**options: object) -> WorkerThread:
        started.append(start(**options))  # type: ignore[arg-type]
        return started[-1]

    monkeypatch.setattr(lanes_module, "start_thread", start_and_keep)
    return started


@pytest.fixture
def lanes(threads: list[WorkerThread]) -> Iterator[Lanes[int]]:
    lanes: Lanes[int] = Lanes()
    yield lanes
    lanes.end()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def meeting(parties: int) -> list[Job[int]]:
    """So many jobs, none of which ends before all have begun."""
    barrier = threading.Barrier(parties)

    def meet(number: int, _: int) -> int:
        barrier.wait(PATIENCE)
        return number

    return [partial(meet, number) for number in range(parties)]


@pytest.mark.parametrize("at_once", [2, 3, 8])
def test_so_many_are_under_way_at_once(lanes: Lanes[int], threads: list[WorkerThread], at_once: int) -> None:
    """As many jobs as there are lanes meet each other, again and again, on the same threads."""
    for _ in range(3):
        assert list(lanes.run(meeting(at_once), at_once)) == list(range(at_once))
    assert len(threads) == at_once - 1


def test_no_more_than_that(lanes: Lanes[int]) -> None:
    """Of twenty jobs in three lanes there are never four under way, and no lane has two."""
    counting = threading.Lock()
    under_way: list[int] = []
    most: list[int] = []
    seen: dict[int, set[int]] = {}

    def job(lane: int) -> int:
        with counting:
            assert lane not in under_way
            under_way.append(lane)
            most.append(len(under_way))
            seen.setdefault(lane, set()).add(threading.get_ident())
        with counting:
            under_way.remove(lane)
        return lane

    for _ in range(20):
        assert len(list(lanes.run([job] * 20, 3))) == 20
    assert max(most) <= 3
    assert all(len(each) == 1 for each in seen.values())
    assert seen[0] == {threading.get_ident()}


def test_fewer_jobs_need_fewer_threads(lanes: Lanes[int], threads: list[WorkerThread]) -> None:
    """One job is done by the thread that has it; two need one thread more, whatever is allowed."""
    assert list(lanes.run([], 8)) == []
    assert list(lanes.run([lambda lane: lane], 8)) == [0]
    assert threads == []
    assert list(lanes.run(meeting(2), 8)) == [0, 1]
    assert len(threads) == 1


def test_results_are_told_in_order_and_as_soon_as_can_be(lanes: Lanes[int]) -> None:
    """The last job is done first and told last; the first is told while the second is under way."""
    release, third = threading.Event(), threading.Event()

    def second(_: int) -> int:
        assert release.wait(PATIENCE)
        return 1

    def last(_: int) -> int:
        third.set()
        return 2

    results = lanes.run([lambda _: 0, second, last], 3)
    assert next(results) == 0
    assert third.wait(PATIENCE)
    release.set()
    assert list(results) == [1, 2]


def test_who_stops_in_the_middle_begins_no_further_job(lanes: Lanes[int]) -> None:
    """What is under way ends by itself, and the next run has nothing to do with it."""
    begun: list[int] = []
    release, entered = threading.Event(), threading.Event()

    def first(_: int) -> int:
        assert entered.wait(PATIENCE)
        return 0

    def held(_: int) -> int:
        entered.set()
        assert release.wait(PATIENCE)
        return 1

    def later(_: int) -> int:
        begun.append(2)
        return 2

    results = lanes.run([first, held, *[later] * 5], 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    release.set()
    assert list(lanes.run(meeting(2), 2)) == [0, 1]
    assert begun == []


def test_without_threads_the_caller_does_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started, jobs are done one after the other, in lane 0."""

    def refuse(**_: object) -> WorkerThread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lanes_module, "start_thread", refuse)
    lanes: Lanes[int] = Lanes()
    assert list(lanes.run([lambda lane: lane] * 5, 4)) == [0] * 5


def test_a_forked_child_has_threads_of_its_own(lanes: Lanes[int], threads: list[WorkerThread]) -> None:
    """Those that it had are the parent's: nothing is given to them."""
    assert list(lanes.run(meeting(2), 2)) == [0, 1]
    abandoned = lanes._helpers[0]
    lanes.after_fork_in_child()
    assert list(lanes.run(meeting(2), 2)) == [0, 1]
    assert len(threads) == 2
    abandoned.end()


def test_lanes_that_are_forgotten_end(threads: list[WorkerThread]) -> None:
    """Nobody needs to end them: a thread that waits holds neither lanes nor jobs."""
    lanes: Lanes[int] = Lanes()
    jobs = meeting(2)
    job = weakref.ref(jobs[0])
    assert list(lanes.run(jobs, 2)) == [0, 1]
    del jobs
    gc.collect()
    until(lambda: job() is None, what="a job is held")
    del lanes
    gc.collect()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
