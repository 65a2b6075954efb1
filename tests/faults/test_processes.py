"""Spans reach the exporter, each once, however their process came to be and however it ends."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from otel_shed.testing.answers import Answer
from otel_shed.testing.receiver import Receiver
from tests.faults.delivered import delivered, names, processes, run, value_of
from tests.faults.sending import GRPC, PROTOCOLS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file that the programs export to."""
    return tmp_path / "spans"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_deliver_at_their_end(path: Path, method: str) -> None:
    """Children that return, raise, exit or serve a pool deliver each span once, and the parent its own once."""
    code, output = run("multiprocessing_children.py", path, method)
    assert code == 0, output
    assert value_of(output, "exit codes") == "[0, 1, 3]"
    children = ["returns", "raises", "exits", "pool-a", "pool-b", "pool-c", "pool-d"]
    assert delivered(path) == names(["parent", *children], 10)
    parent = processes(path, "parent")
    assert len(parent) == 1
    assert all(processes(path, child).isdisjoint(parent) for child in children)


def test_forks_of_a_parent_whose_threads_are_in_the_middle_of_it(path: Path) -> None:
    """Twelve forks in the middle of on_end: no child hangs, none sends what the parent held, nothing is lost."""
    code, output = run("forks_while_threads_work.py", path)
    assert code == 0, output
    assert value_of(output, "statuses") == "{0}"
    ended = [int(count) for count in value_of(output, "ended").split()]
    assert min(ended) > 0
    expected = names([f"child-{number}" for number in range(12)], 5)
    expected += names([f"grandchild-{number}" for number in range(2, 12, 3)], 5)
    for thread, count in enumerate(ended):
        expected += names([f"thread-{thread}"], count)
    assert delivered(path) == expected
    assert len(processes(path, "thread-")) == 1
    assert len(processes(path, "child-") | processes(path, "grandchild-")) == 12 + 4


@pytest.mark.parametrize(
    ("how", "code"), [("returns", 0), ("exits", 3), ("raises", 1), ("nobody shuts down", 0), ("a thread works on", 0)]
)
def test_the_interpreter_exits_without_a_shutdown(path: Path, how: str, code: int) -> None:
    """Whatever ended before the interpreter is gone is delivered, though the program never says so."""
    assert run("exits.py", path, how)[0] == code
    expected = names(["main"], 10)
    if how == "a thread works on":
        expected += names(["late"], 10)
    assert delivered(path) == expected


def test_a_daemon_thread_does_not_keep_the_interpreter(path: Path) -> None:
    """A thread that ends spans for ever neither holds up the exit nor loses what ended before it."""
    code, output = run("exits.py", path, "a daemon works for ever", timeout=20)
    assert (code, output) == (0, "")
    assert delivered(path) & names(["main"], 10) == names(["main"], 10)


@pytest.mark.parametrize("when", ["first", "before the first span", "after the first span"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_green_threads(path: Path, library: str, when: str) -> None:
    """Whenever the patches come: an export stops no green thread, flush and exit end, and a child delivers its own."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    code, output = run("green_threads.py", path, library, when)
    assert code == 0, output
    assert value_of(output, "delivered") == "[True, True, True]"
    assert int(value_of(output, "ticks")) > 10
    assert value_of(output, "status") == "0"
    expected = names(["first", "parent", "child", "last"], 10)
    assert delivered(path) == expected + names([f"green-{number}" for number in range(5)], 200)
    assert processes(path, "child").isdisjoint(processes(path, "parent"))


@PROTOCOLS
@pytest.mark.parametrize("when", ["first", "before the first span", "after the first span"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_green_threads_over_sockets(library: str, when: str, protocol: str) -> None:
    """A collector is spoken to, a request that hangs is interrupted at the end, and nothing fails or is said of it."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    with Receiver() as receiver:
        receiver.answer = lambda request: Answer(hang=b"late" in request.payload)
        endpoint = receiver.grpc_endpoint if protocol == GRPC else f"{receiver.http_endpoint}/v1/traces"
        code, output = run(
            "green_sockets.py", library, when, protocol, endpoint, OTEL_SHED_SHUTDOWN_GRACE="300", timeout=30
        )
        assert code == 0, output
        assert receiver.counts.spans == 40
    assert value_of(output, "delivered") == "[True, True, True]"
    assert value_of(output, "late") == "False"
    assert value_of(output, "dropped") == "{'shutdown': 1}"
    assert "failed" not in output


def test_asyncio(path: Path) -> None:
    """An export of a second does not hold up the event loop, and what ended last is delivered at the exit."""
    code, output = run("coroutines.py", path)
    assert code == 0, output
    assert value_of(output, "delivered") == "True"
    assert int(value_of(output, "ticks")) > 10
    tasks = names([f"task-{number}-{part}" for number in range(20) for part in range(10)], 1)
    assert delivered(path) == tasks + names(["last"], 10)
