"""The README says what the code does: its table of settings is the table of the configuration."""

from __future__ import annotations

from pathlib import Path

from otel_shed.config import SETTINGS
from otel_shed.outcome import DropReason
from otel_shed.setting import Setting

README = (Path(__file__).parent.parent / "README.md").read_text()


def row(setting: Setting) -> str:
    """One line of the table."""
    default = setting.in_words(setting.default)
    return f"| `{setting.variable}` | `{setting.name}` | {default} | {setting.meaning} |"


def test_every_setting_is_in_the_readme() -> None:
    """The table lists each setting with its variable, default and meaning, in the configuration's order."""
    between = README.split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert between.strip().splitlines()[2:] == [row(setting) for setting in SETTINGS]


def test_every_reason_is_in_the_readme() -> None:
    """Whatever a span can be dropped for is explained."""
    unexplained = [reason.value for reason in DropReason if f"`{reason.value}`" not in README]
    assert unexplained == []
