"""The brownout: evaluated by whoever asks first, never waited for, forced and given back, observed without acting."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from otel_shed.control.brownout import Brownout, BrownoutSnapshot
from otel_shed.control.phase import Action, Phase
from otel_shed.control.pressure import PressureReading
from otel_shed.log_limit import PREFIX
from otel_shed.testing.clock import FakeClock


class Dial:
    """A signal that a test turns."""

    def __init__(self, pressure: float = 0.0, reason: str = "dial") -> None:
        self.pressure = pressure
        self.reason = reason
        self.reads = 0
        self.during: Callable[[], object] = lambda: None

    def read(self, now: float) -> PressureReading:
        self.reads += 1
        self.during()
        return PressureReading(self.pressure, self.reason)


@pytest.fixture
def dial() -> Dial:
    return Dial()


@pytest.fixture
def brownout(clock: FakeClock, dial: Dial) -> Brownout:
    return Brownout(signals=[dial], clock=clock)


def phases(brownout: Brownout, clock: FakeClock, seconds: float) -> list[Phase]:
    """The phases that it goes through when asked ten times a second."""
    seen: list[Phase] = []
    for _ in range(round(seconds * 10)):
        clock.advance(0.1)
        phase = brownout.row().phase
        if not seen or seen[-1] is not phase:
            seen.append(phase)
    return seen


def test_begins_normal(brownout: Brownout, clock: FakeClock) -> None:
    """Without pressure everything is exported, and no reason is given."""
    assert brownout.snapshot() == BrownoutSnapshot(since=clock())
    assert brownout.row().action is Action.EXPORT_ALL


def test_full_fidelity_within_ten_seconds(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """From the worst phase it is back in NORMAL, through each phase between, less than 10 s after the storm's end."""
    dial.pressure = 1.0
    assert phases(brownout, clock, 1) == [Phase.SHED_OPTIONAL]
    dial.pressure = 0.2
    assert phases(brownout, clock, 9.9) == [Phase.SHED_OPTIONAL, Phase.DEGRADE, Phase.RECOVERY, Phase.NORMAL]


def test_evaluated_once_an_interval(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """However many ask, the signals are read once in a tenth of a second."""
    for _ in range(5):
        for _ in range(20):
            brownout.row()
            brownout.snapshot()
        clock.advance(0.1)
    assert dial.reads == 5


def test_a_hung_reader_delays_nobody(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """While one thread evaluates, others get what was found before, at once."""
    reading, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        reading.set()
        assert go_on.wait(10)

    dial.during, dial.pressure = hang, 1.0
    thread = threading.Thread(target=brownout.row)
    thread.start()
    assert reading.wait(10)
    assert brownout.row().phase is Phase.NORMAL
    assert brownout.snapshot().phase is Phase.NORMAL
    go_on.set()
    thread.join()
    assert brownout.row().phase is Phase.SHED_OPTIONAL
    assert dial.reads == 1


def test_a_signal_may_ask_for_the_phase(brownout: Brownout, dial: Dial) -> None:
    """A signal that reads stats while it is read gets the phase as it was."""
    asked: list[Phase] = []
    dial.during, dial.pressure = lambda: asked.append(brownout.row().phase), 0.8
    assert brownout.row().phase is Phase.DEGRADE
    assert asked == [Phase.NORMAL]


def test_pressures_are_read_as_often_as_the_phase_is(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """Asking for what each signal says evaluates, if that is due, and no oftener."""
    dial.pressure = 0.8
    clock.advance(0.1)
    assert brownout.pressures() == {"Dial": 0.8}
    dial.pressure = 0.1
    assert brownout.pressures() == {"Dial": 0.8}
    assert dial.reads == 1
    clock.advance(0.1)
    assert brownout.pressures() == {"Dial": 0.1}


def test_a_fork_in_the_middle_of_an_evaluation(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """In the child the lock is a new one: the phase is not frozen for ever."""
    reading, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        reading.set()
        assert go_on.wait(10)

    dial.during = hang
    thread = threading.Thread(target=brownout.row)
    thread.start()
    assert reading.wait(10)
    brownout.after_fork_in_child()
    dial.during, dial.pressure = (lambda: None), 1.0
    clock.advance(0.1)
    assert brownout.row().phase is Phase.SHED_OPTIONAL
    go_on.set()
    thread.join()


def test_reasons_stay_until_it_is_over(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """While a phase only waits for calm, the snapshot still says what brought it about."""
    brownout.add_signal(Dial(0.3, "other"))
    dial.pressure = 0.8
    assert brownout.snapshot().reasons == ("dial",)
    dial.pressure = 0.0
    clock.advance(1)
    snapshot = brownout.snapshot()
    assert (snapshot.phase, snapshot.pressure, snapshot.reasons) == (Phase.DEGRADE, 0.3, ("dial",))
    phases(brownout, clock, 8)
    assert brownout.snapshot().reasons == (), "nothing presses, and nothing is done"


def test_since_is_when_the_phase_began(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """The snapshot says when the phase began, on the shedder's clock."""
    clock.advance(5)
    began, dial.pressure = clock(), 0.8
    for _ in range(20):
        assert brownout.snapshot().since == began
        clock.advance(0.5)


def test_recovery_ramps_up(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """The least share that is kept rises from the trickle to all of it, and begins again when it is not calm."""
    assert brownout.probability_floor() == 1.0
    dial.pressure = 0.8
    clock.advance(0.1)
    assert brownout.probability_floor() == 0.01
    dial.pressure = 0.0
    assert phases(brownout, clock, 3.5)[-1] is Phase.RECOVERY
    rising = []
    for _ in range(6):
        rising.append(brownout.probability_floor())
        clock.advance(0.4)
    assert rising == sorted(rising)
    assert rising[0] < 0.3
    assert rising[-1] > 0.8
    dial.pressure = 0.6
    assert brownout.probability_floor() == pytest.approx(0.01)
    dial.pressure = 0.0
    phases(brownout, clock, 4)
    assert brownout.probability_floor() == 1.0


def test_forced_whatever_the_pressure(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """An outside ledger's word counts at once, with its reasons, and pressure goes on being measured."""
    brownout.force_phase(Phase.SHED_OPTIONAL, "maintenance", "ledger")
    dial.pressure = 0.3
    clock.advance(5)
    snapshot = brownout.snapshot()
    assert (snapshot.phase, snapshot.action) == (Phase.SHED_OPTIONAL, Action.RETAIN_SUMMARY_ONLY)
    assert (snapshot.forced, snapshot.reasons, snapshot.pressure) == (True, ("maintenance", "ledger"), 0.3)
    brownout.force_phase(Phase.NORMAL)
    dial.pressure = 1.0
    clock.advance(5)
    assert brownout.snapshot().phase is Phase.NORMAL
    assert brownout.snapshot().reasons == ("forced",)


def test_given_back_through_recovery(brownout: Brownout, clock: FakeClock) -> None:
    """What an outside ledger shed comes back by the same ramp as after a storm."""
    brownout.force_phase(Phase.SHED_OPTIONAL, "ledger")
    clock.advance(60)
    brownout.force_phase(None)
    snapshot = brownout.snapshot()
    assert (snapshot.phase, snapshot.forced) == (Phase.RECOVERY, False)
    assert phases(brownout, clock, 3.2) == [Phase.RECOVERY, Phase.NORMAL]


def test_given_back_to_what_the_signals_say(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """In a storm the phase is the storm's again; where nothing was shed there is nothing to recover from."""
    brownout.force_phase(Phase.NORMAL)
    dial.pressure = 0.8
    clock.advance(1)
    brownout.force_phase(None)
    assert brownout.row().phase is Phase.DEGRADE
    dial.pressure = 0.0
    phases(brownout, clock, 10)
    brownout.force_phase(Phase.OBSERVE)
    brownout.force_phase(None)
    assert brownout.row().phase is Phase.NORMAL


def test_forcing_what_is_no_phase(brownout: Brownout) -> None:
    """A phase that does not exist is an error, and changes nothing."""
    with pytest.raises(ValueError, match="panic"):
        brownout.force_phase("panic")  # type: ignore[arg-type]
    assert not brownout.snapshot().forced


def test_forced_from_within_a_signal(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """A signal may force the phase while it is read: it takes effect with that very reading."""
    dial.during = lambda: brownout.force_phase(Phase.DEGRADE, "from within")
    assert brownout.row().phase is Phase.DEGRADE
    assert brownout.snapshot().reasons == ("from within",)


def test_observe_mode_acts_on_nothing(clock: FakeClock, dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    """Phases are found and reported; the row to act on stays that of NORMAL."""
    brownout = Brownout(signals=[dial], enforcing=False, clock=clock)
    dial.pressure = 1.0
    with caplog.at_level(logging.DEBUG, "otel_shed"):
        snapshot = brownout.snapshot()
    assert (snapshot.phase, snapshot.action) == (Phase.SHED_OPTIONAL, Action.RETAIN_SUMMARY_ONLY)
    assert brownout.row_in_force.phase is Phase.NORMAL
    assert "nothing is shed" in caplog.text


def test_one_line_a_change(brownout: Brownout, clock: FakeClock, dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    """A change of phase is one line for those who look for it: from where, to where and why. Nothing else is one."""
    with caplog.at_level(logging.DEBUG, "otel_shed"):
        dial.pressure = 0.8
        phases(brownout, clock, 5)
        dial.pressure = 0.1
        phases(brownout, clock, 7)
    assert [(record.levelname, record.getMessage().removeprefix(PREFIX)) for record in caplog.records] == [
        ("DEBUG", "phase normal -> degrade (pressure 0.80, dial)"),
        ("DEBUG", "phase degrade -> recovery (pressure 0.10, dial)"),
        ("DEBUG", "phase recovery -> normal (pressure 0.10)"),
    ]


def test_a_log_handler_that_raises(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """A logging filter of the application's that fails is not seen by those who ask, and costs no phase."""

    def broken(record: logging.LogRecord) -> bool:
        raise RuntimeError

    logger = logging.getLogger("otel_shed")
    logger.addFilter(broken)
    try:
        dial.pressure = 1.0
        assert brownout.row().phase is Phase.SHED_OPTIONAL
        dial.pressure = float("nan")
        clock.advance(1)
        assert brownout.row().phase is Phase.SHED_OPTIONAL
    finally:
        logger.removeFilter(broken)


def test_a_clock_that_goes_back(dial: Dial) -> None:
    """The phase is evaluated all the same, and the calm begins anew instead of lasting an hour."""
    now = [10_000.0]
    brownout = Brownout(signals=[dial], clock=lambda: now[0])
    dial.pressure = 1.0
    brownout.row()
    dial.pressure = 0.0
    now[0] -= 3600
    seen = []
    for _ in range(100):
        seen.append(brownout.row().phase)
        now[0] += 0.1
    assert list(dict.fromkeys(seen)) == [Phase.SHED_OPTIONAL, Phase.DEGRADE, Phase.RECOVERY, Phase.NORMAL]
    assert seen.count(Phase.SHED_OPTIONAL) >= 30


def test_says_when_to_look_again(brownout: Brownout, clock: FakeClock, dial: Dial) -> None:
    """A worker that looks when it is told to brings a quiet program back to NORMAL, with a look for each step."""
    assert brownout.next_look(clock()) is None
    dial.pressure = 1.0
    brownout.row()
    dial.pressure = 0.0
    began, looks = clock(), 0
    while (pause := brownout.next_look(clock())) is not None:
        clock.advance(pause)
        brownout.row()
        looks += 1
    assert brownout.row().phase is Phase.NORMAL
    assert clock() - began < 9.5
    assert looks <= 6


def test_signals_come_and_go(brownout: Brownout, clock: FakeClock) -> None:
    """A signal counts from when it is added until it is removed."""
    extra = Dial(0.9, "extra")
    brownout.add_signal(extra)
    assert brownout.snapshot().reasons == ("extra",)
    brownout.remove_signal(extra)
    clock.advance(1)
    assert brownout.snapshot().pressure == 0.0
    with pytest.raises(TypeError, match="read"):
        brownout.add_signal(object())  # type: ignore[arg-type]
