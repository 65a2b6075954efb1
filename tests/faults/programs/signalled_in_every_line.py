"""Forks a child for each line that on_end runs through, which gets SIGTERM in that line. Argument: the file."""

import os
import signal
import sys
from itertools import count
from pathlib import Path
from types import FrameType

from appending import AppendingExporter, end_spans, provider_to

import otel_shed

PACKAGE = str(Path(otel_shed.__file__).parent)
PAST_THE_LAST_LINE = 42

provider = provider_to(AppendingExporter(sys.argv[1]))


class SignalInLine:
    """A trace function that has the signal come in the n-th line of this package that runs."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, frame: FrameType, event: str, argument: object) -> object:
        if event == "line" and frame.f_code.co_filename.startswith(PACKAGE):
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGTERM)
        return self if self._left > 0 else None


def child(number: int) -> None:
    """Ten spans that have ended, and one that the signal comes in the middle of."""
    signal.alarm(20)  # a child that hangs ends by another signal
    end_spans(provider, f"child-{number}", 10)
    span = provider.get_tracer(__name__).start_span("late")
    sys.settrace(SignalInLine(number))
    span.end()
    if sys.gettrace() is not None:
        os._exit(PAST_THE_LAST_LINE)
    signal.pause()  # the signal was put off until on_end was done


statuses = []
for line in count(1):
    if (pid := os.fork()) == 0:
        child(line)
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) == PAST_THE_LAST_LINE:
        break
    statuses.append(status)
print("statuses", *statuses)
