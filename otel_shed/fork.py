"""Who begins anew in a forked child: whatever holds locks, counts, threads or sockets that are the parent's.

Owns the one hook of the process and the set of those that it calls, weakly. Called on the thread that forked, in the
child, before anything else runs there. The rule: being told of forks keeps nobody alive.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What is the parent's in a forked child."""

    def after_fork_in_child(self) -> None:
        """Begin anew; must not raise, and must not wait for a lock: its holder is not there."""


_living: weakref.WeakSet[Forked] = weakref.WeakSet()


def begin_anew_after_fork(one: Forked) -> None:
    """Have ``one`` told of forks for as long as it lives."""
    _living.add(one)


def _after_fork_in_child() -> None:
    for one in list(_living):
        one.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
