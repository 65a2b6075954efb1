"""What opentelemetry-instrument makes of entry points: which it finds beside ours, what it logs of configurators.

Called on the thread that starts the program, before the program. The rule: the launcher logs a line for each
configurator that it passes over; of those lines none is left that says nothing but that this library is installed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points

from otel_shed.sdk_environment import NAME, PYTHON_CONFIGURATOR, PYTHON_DISTRO, is_named

_OURS = "otel_shed.distro:"
_LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
_PASSED_OVER = "Configuration of %s not loaded"


def other_entry_points(group: str) -> Iterator[EntryPoint]:
    """What the launcher would have found without us, in its order."""
    return (entry_point for entry_point in entry_points(group=group) if not entry_point.value.startswith(_OURS))


class _PassedOver(logging.Filter):
    """Leaves out the launcher's lines about configurators that are passed over because ours was asked for.

    Where nobody asked for ours and it had another do the work, the lines tell of that other one.
    """

    worker: str | None = None
    """The configurator that does the work in our place."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be seen; it may have been changed."""
        if not str(record.msg).startswith(_PASSED_OVER) or not isinstance(record.args, tuple):
            return True
        name, chosen, *others = record.args
        if name == NAME:  # of use only to those who asked for the distro and for another configurator
            return is_named(os.environ, PYTHON_DISTRO)
        if chosen != NAME:
            return True
        if self.worker is None or name == self.worker or is_named(os.environ, PYTHON_CONFIGURATOR):
            return False
        record.args = (name, self.worker, *others)
        return True


_filter = _PassedOver()


def leave_out_lines_about_configurators(*, worker: str | None = None) -> None:
    """From now on the launcher's lines tell nothing of ours. ``worker``: the configurator that does its work."""
    _filter.worker = worker
    logging.getLogger(_LOADER).addFilter(_filter)  # which is there once, however often it is added
