"""The README says what the code does: its table of settings is the table of the configuration."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from otel_shed.config import SETTINGS
from otel_shed.outcome import DropReason
from otel_shed.setting import Setting

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text()


def test_the_first_command_has_what_it_needs() -> None:
    """Whatever installs the launcher is said before it is called, and is an extra of the package."""
    install = README.index('pip install "otel-shed[launcher]"')
    assert install < README.index("OTEL_PYTHON_DISTRO=shed opentelemetry-instrument")
    assert 'launcher = ["opentelemetry-distro' in (PROJECT / "pyproject.toml").read_text()
    assert entry_points(group="console_scripts", name="opentelemetry-instrument")


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
