"""The clock and the transport that are offered to tests."""

from __future__ import annotations

import threading

import pytest

from otel_shed.otlp.retry import no_answer
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.transport import ACCEPTED, ScriptedTransport


def test_only_the_test_moves_the_clock() -> None:
    """It stands still between advances, and never goes back."""
    clock = FakeClock(start=5.0)
    assert (clock(), clock()) == (5.0, 5.0)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_what_is_due_happens_in_its_order_and_at_its_time() -> None:
    """Actions run while time passes, also those that others add."""
    clock = FakeClock(start=0.0)
    seen: list[tuple[str, float]] = []
    clock.after(3, lambda: seen.append(("late", clock())))
    clock.after(1, lambda: clock.after(1, lambda: seen.append(("added", clock()))))
    clock.after(1, lambda: seen.append(("early", clock())))
    clock.advance(2.5)
    assert seen == [("early", 1.0), ("added", 2.0)]
    clock.advance(1)
    assert seen[2:] == [("late", 3.0)]
    assert clock() == 3.5


def test_a_wait_takes_its_time_or_ends_with_the_event() -> None:
    """Waits are remembered by how long they lasted."""
    clock = FakeClock(start=0.0)
    event = threading.Event()
    assert not clock.wait(event, 4.0)
    clock.after(1.5, event.set)
    assert clock.wait(event, 4.0)
    assert clock.wait(event, 4.0)
    assert (clock(), clock.waits) == (5.5, [4.0, 1.5, 0.0])


def test_a_transport_answers_from_its_script() -> None:
    """One after the other, then always the same; it remembers what it was sent, and raises what it is told to."""
    transport = ScriptedTransport([no_answer("gone"), OSError("broken"), lambda timeout: no_answer(str(timeout))])
    assert transport.send(b"1", 1.0).code == "gone"
    with pytest.raises(OSError, match="broken"):
        transport.send(b"2", 2.0)
    assert transport.send(b"3", 3.0).code == "3.0"
    assert transport.send(b"4", 4.0) is ACCEPTED
    assert (transport.payloads, transport.timeouts) == ([b"1", b"2", b"3", b"4"], [1.0, 2.0, 3.0, 4.0])


def test_a_gated_transport_waits() -> None:
    """Until the gate opens, or the call is cancelled."""
    transport = ScriptedTransport(gate=threading.Event())
    codes: list[str] = []
    thread = threading.Thread(target=lambda: codes.append(transport.send(b"", 1.0).code))
    thread.start()
    assert transport.entered.acquire(timeout=10)
    transport.cancel()
    thread.join(10)
    assert codes == ["cancelled"]
