"""The SDK's own variables: what is made of a bad one before the SDK sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_shed import sdk_environment
from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.sdk_environment import (
    is_named,
    repair_components,
    repair_limits,
    repair_set_up,
    replaced,
    set_if_unset,
    spell_name,
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget_warnings()
    yield
    forget_warnings()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removeprefix(PREFIX) for record in caplog.records if record.name == "otel_shed"]


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "nan", "99999999999999999999"])
def test_a_bad_limit_is_unset(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A limit that is no integer of the specification's range goes, with one warning."""
    environ = {"OTEL_SPAN_EVENT_COUNT_LIMIT": text, "OTEL_SPAN_LINK_COUNT_LIMIT": "7"}
    repair_limits(environ)
    repair_limits(environ)
    assert environ == {"OTEL_SPAN_LINK_COUNT_LIMIT": "7"}
    assert lines(caplog) == [
        f"OTEL_SPAN_EVENT_COUNT_LIMIT='{text}' is not an integer from 0 to 2147483647; using the default"
    ]


def test_an_empty_limit_is_unset(caplog: pytest.LogCaptureFixture) -> None:
    """An empty limit, which the SDK takes for no limit at all, goes without a word."""
    environ = {"OTEL_SPAN_EVENT_COUNT_LIMIT": "", "OTEL_ATTRIBUTE_COUNT_LIMIT": "  "}
    repair_limits(environ)
    assert environ == {}
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("variable", "text", "kept", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "otlp", "otlp", 0),
        ("OTEL_TRACES_EXPORTER", "none", "none", 0),
        ("OTEL_TRACES_EXPORTER", " None ", " None ", 0),
        ("OTEL_TRACES_EXPORTER", "OTLP, console", "otlp,console", 0),
        ("OTEL_TRACES_EXPORTER", "otlp,", "otlp", 0),
        ("OTEL_TRACES_EXPORTER", "otlp,bogus", "otlp", 1),
        ("OTEL_TRACES_EXPORTER", "bogus", None, 1),
        ("OTEL_TRACES_EXPORTER", ",", None, 1),
        ("OTEL_TRACES_EXPORTER", " ", None, 0),
        ("OTEL_METRICS_EXPORTER", "bogus,none", None, 1),
        ("OTEL_LOGS_EXPORTER", "bogus", None, 1),
        ("OTEL_TRACES_SAMPLER", "Always_On", "always_on", 0),
        ("OTEL_TRACES_SAMPLER", "bogus", None, 1),
        ("OTEL_TRACES_SAMPLER", "", None, 0),
        ("OTEL_PYTHON_ID_GENERATOR", "random", "random", 0),
        ("OTEL_PYTHON_ID_GENERATOR", "bogus", None, 1),
        ("OTEL_PYTHON_ID_GENERATOR", "", None, 0),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC", "grpc", 0),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf", 1),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "bogus", "grpc", 1),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", " ", None, 0),
        ("OTEL_SERVICE_NAME", "bogus", "bogus", 0),
    ],
)
def test_names_of_components(
    variable: str, text: str, kept: str | None, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that are installed stay, in the spelling of their entry point; the others go, with one warning."""
    environ = {variable: text}
    repair_components(environ)
    assert environ.get(variable) == kept
    assert len(lines(caplog)) == said


def test_a_protocol_fits_the_endpoint_of_its_telemetry_signal(caplog: pytest.LogCaptureFixture) -> None:
    """One that there is not becomes the one that fits, for each endpoint; the line names what is used."""
    prefix = "OTEL_EXPORTER_OTLP_"
    environ = {
        f"{prefix}PROTOCOL": "http/json",
        f"{prefix}ENDPOINT": "http://collector:4318",
        f"{prefix}TRACES_ENDPOINT": "http://traces:4317",
        f"{prefix}LOGS_PROTOCOL": "grpc",
        f"{prefix}LOGS_ENDPOINT": "http://logs:4317",
    }
    repair_components(environ)
    assert {name: value for name, value in environ.items() if name.endswith("PROTOCOL")} == {
        f"{prefix}PROTOCOL": "http/protobuf",
        f"{prefix}TRACES_PROTOCOL": "grpc",
        f"{prefix}LOGS_PROTOCOL": "grpc",
    }
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"otel-shed: {prefix}PROTOCOL='http/json' is not known (grpc, http/protobuf); using http/protobuf"


@pytest.mark.parametrize(
    ("sampler", "text", "kept", "said"),
    [
        ("traceidratio", "0.25", "0.25", 0),
        ("traceidratio", "1e-3", "0.001", 0),
        ("parentbased_traceidratio", "2", "1.0", 1),
        ("traceidratio", "nan", "1.0", 1),
        ("traceidratio", " ", " ", 0),
        ("always_on", "whatever", "whatever", 0),
    ],
)
def test_the_ratio_of_a_sampler(
    sampler: str, text: str, kept: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A ratio outside 0 to 1 becomes the default of 1, with one warning; other samplers' arguments are theirs."""
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": text}
    repair_components(environ)
    assert environ["OTEL_TRACES_SAMPLER_ARG"] == kept
    assert len(lines(caplog)) == said


def test_the_set_up(caplog: pytest.LogCaptureFixture) -> None:
    """A configurator that is not installed goes, and a configuration file without a name."""
    environ = {"OTEL_PYTHON_CONFIGURATOR": "bogus", "OTEL_CONFIG_FILE": " "}
    repair_set_up(environ)
    assert environ == {}
    assert len(lines(caplog)) == 1
    environ = {"OTEL_PYTHON_CONFIGURATOR": "shed", "OTEL_CONFIG_FILE": "otel.yaml"}
    repair_set_up(environ)
    assert environ == {"OTEL_PYTHON_CONFIGURATOR": "shed", "OTEL_CONFIG_FILE": "otel.yaml"}


def test_set_if_unset() -> None:
    """A variable that is empty or white space is one that is not set."""
    environ = {"A": "", "B": " ", "C": "kept"}
    for name in "ABCD":
        set_if_unset(environ, name, "set")
    assert environ == {"A": "set", "B": "set", "C": "kept", "D": "set"}


def test_replaced() -> None:
    """A variable is changed for a block only, also when that raises, and unset again if it was."""
    environ = {"A": "before"}
    with replaced(environ, "A", "within"):
        assert environ == {"A": "within"}

    def fail() -> None:
        with replaced(environ, "B", "within"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert environ == {"A": "before"}


def test_a_name_that_can_mean_nothing_else() -> None:
    """Case and the package's full name do not matter to us; the launcher, which wants the name, is given it."""
    assert is_named({"D": "other", "C": "shed"}, "D", "C")
    assert not is_named({"D": "sched", "C": ""}, "D", "C")
    environ = {"OTEL_PYTHON_DISTRO": " OTEL_SHED ", "OTEL_PYTHON_CONFIGURATOR": "other"}
    assert is_named(environ, "OTEL_PYTHON_DISTRO")
    spell_name(environ)
    assert environ == {"OTEL_PYTHON_DISTRO": "shed", "OTEL_PYTHON_CONFIGURATOR": "other"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(
    environ=st.dictionaries(
        st.sampled_from([*sdk_environment._LIMITS, *sdk_environment._COMPONENTS, *sdk_environment._PROTOCOL_VARIABLES]),
        st.text() | st.sampled_from(["otlp", "always_on", "traceidratio"]),
    )
)
def test_no_text_raises(environ: dict[str, str]) -> None:
    """Whatever stands in the variables, repairing them does not raise, and repairing them again changes nothing."""
    repair_limits(environ)
    repair_components(environ)
    once = dict(environ)
    repair_limits(environ)
    repair_components(environ)
    assert environ == once


def test_nothing_of_the_sdk_is_imported() -> None:
    """The repair can run ahead of the SDK: neither it nor what it imports brings the SDK in."""
    code = "import sys, otel_shed.sdk_environment; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    environ = {**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "abc"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
