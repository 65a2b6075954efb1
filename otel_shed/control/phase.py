"""The phases of a brownout and the actions that follow from them; values only."""

from __future__ import annotations

from enum import Enum


class Action(str, Enum):
    """What is done with spans in a phase."""

    EXPORT_ALL = "export_all"
    DROP_LOW_PRIORITY = "drop_low_priority"
    RETAIN_SUMMARY_ONLY = "retain_summary_only"

    def __str__(self) -> str:
        return self.value


class Phase(str, Enum):
    """How much is being shed, and whether it is on its way back."""

    NORMAL = "normal"
    OBSERVE = "observe"
    DEGRADE = "degrade"
    SHED_OPTIONAL = "shed_optional"
    RECOVERY = "recovery"

    def __str__(self) -> str:
        return self.value
