"""ShedConfig: what code may set, what the environment may, and what gives way to what."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_shed import environment_variables
from otel_shed.config import SETTING, SETTINGS, ShedConfig
from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.setting import Kind, Setting

NUMERIC = [setting for setting in SETTINGS if setting.is_number]
BOOLEAN = [setting for setting in SETTINGS if setting.kind is Kind.BOOLEAN]
CHOICES = [setting for setting in SETTINGS if setting.kind is Kind.CHOICE]
LISTS = [setting for setting in SETTINGS if setting.kind is Kind.NAMES]
KINDS = [setting for setting in LISTS if setting.choices]
OPTIONAL = [setting for setting in SETTINGS if setting.optional]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    forget_warnings()
    yield
    forget_warnings()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removeprefix(PREFIX) for record in caplog.records if record.name == "otel_shed"]


def named(settings: list[Setting]) -> Any:
    return pytest.mark.parametrize("setting", settings, ids=lambda setting: setting.name)


def test_defaults_are_the_specifications() -> None:
    """Without a word of code or environment, the standard settings are OpenTelemetry's and the rest is documented."""
    assert dataclasses.asdict(ShedConfig()) == {
        "enabled": True,
        "mode": "enforce",
        "shutdown_grace_millis": 3000,
        "max_queue_size": None,
        "max_export_batch_size": 512,
        "schedule_delay_millis": 5000,
        "export_timeout_millis": 30000,
        "max_held_spans": 16384,
        "max_held_bytes": 33554432,
        "max_request_bytes": 4000000,
        "concurrent_requests": 1,
        "flush_on_sigterm": False,
        "enter_pressure": 0.75,
        "leave_pressure": 0.5,
        "enter_drops_per_second": 5,
        "calm_millis": 3000,
        "min_probability": 0.01,
        "keep_share": 0.5,
        "slow_trace_millis": None,
        "trace_timeout_millis": 30000,
        "priority_attributes": ("otlp.priority", "observability.priority"),
        "low_priority_names": (),
        "high_priority_names": (),
        "critical_priority_names": (),
        "low_priority_kinds": (),
        "high_priority_kinds": (),
        "critical_priority_kinds": (),
        "attribute_length": None,
        "degraded_attribute_length": 255,
        "memory_limit_bytes": None,
        "report": True,
        "cpu_share": None,
    }
    assert ShedConfig.from_env({}) == ShedConfig()


def test_a_config_is_frozen_and_keyword_only() -> None:
    """A config cannot be changed, nor made from positions."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ShedConfig().max_queue_size = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        ShedConfig(True)  # type: ignore[misc]


def test_a_config_copies_and_pickles_as_plain_values() -> None:
    """No marker of a default is left in the values: a config survives replace() and pickle."""
    config = ShedConfig(max_queue_size=100)
    assert dataclasses.replace(config, max_held_bytes=5_000_000).max_export_batch_size == 100
    assert pickle.loads(pickle.dumps(config)) == config
    plain = {bool, int, float, str, tuple, type(None)}
    assert {type(getattr(config, setting.name)) for setting in SETTINGS} == plain


@named(NUMERIC)
@pytest.mark.parametrize(
    "value", ["5", True, math.nan, math.inf, -math.inf, -1, 10**30, Decimal(5), b"5", [5]], ids=repr
)
def test_code_hears_of_a_bad_number(setting: Setting, value: object) -> None:
    """A bad value in code raises ValueError with the setting, the value and the range."""
    with pytest.raises(ValueError) as caught:
        ShedConfig(**{setting.name: value})
    assert str(caught.value) == f"{setting.name} must be {setting.allowed}, not {value!r}"


@named(SETTINGS)
def test_only_what_may_be_unset_is_none(setting: Setting) -> None:
    """None is a value of the optional settings, and a wrong one for all others."""
    if setting.optional:
        assert getattr(ShedConfig(**{setting.name: None}), setting.name) is None  # type: ignore[arg-type]
        assert setting.allowed.endswith(", or None")
    else:
        with pytest.raises(ValueError, match=f"{setting.name} must be .*, not None"):
            ShedConfig(**{setting.name: None})  # type: ignore[arg-type]


@named(OPTIONAL)
def test_none_in_code_counts_before_the_environment(setting: Setting) -> None:
    """What code unsets stays unset, whatever its variable says."""
    config = ShedConfig.from_env({setting.variable: setting.in_words(setting.high)}, **{setting.name: None})
    assert getattr(config, setting.name) is None


@named(CHOICES)
@pytest.mark.parametrize("value", [5, "", "enforced", b"observe", ["observe"], True], ids=repr)
def test_code_hears_of_a_bad_choice(setting: Setting, value: object) -> None:
    """A choice is one of the words that there are."""
    with pytest.raises(ValueError) as caught:
        ShedConfig(**{setting.name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{setting.name} must be one of {', '.join(setting.choices)}, not {value!r}"


@named(LISTS)
@pytest.mark.parametrize("value", ["client", b"client", b"", 5, [5], ["client", None], {"client"}], ids=repr)
def test_code_hears_of_a_bad_list(setting: Setting, value: object) -> None:
    """A list is a sequence of texts: one text alone is none, though it is a sequence."""
    with pytest.raises(ValueError) as caught:
        ShedConfig(**{setting.name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{setting.name} must be {setting.allowed}, not {value!r}"


@named(KINDS)
@pytest.mark.parametrize("value", [["nobody"], ["client", ""], ("client,server",)], ids=repr)
def test_code_hears_of_an_unknown_kind(setting: Setting, value: object) -> None:
    """A kind that OpenTelemetry does not have raises, with all those that it has in the message."""
    message = "must be a sequence of names out of internal, server, client, producer, consumer, not"
    with pytest.raises(ValueError, match=f"{setting.name} {message}"):
        ShedConfig(**{setting.name: value})  # type: ignore[arg-type]


def test_lists_and_choices_are_stored_in_one_form() -> None:
    """A list becomes a tuple; choices and kinds may be in any case, and patterns stay as they are."""
    config = ShedConfig(
        mode="Observe",
        high_priority_kinds=["CLIENT", "server"],
        low_priority_names=["GET /Health*", " x"],
        priority_attributes=[],
    )
    assert config.mode == "observe"
    assert config.high_priority_kinds == ("client", "server")
    assert config.low_priority_names == ("GET /Health*", " x")
    assert config.priority_attributes == ()
    assert hash(config) == hash(dataclasses.replace(config))


@named(BOOLEAN)
@pytest.mark.parametrize("value", [None, 0, 1, "true"], ids=repr)
def test_code_hears_of_a_bad_switch(setting: Setting, value: object) -> None:
    """A switch takes True and False and nothing that is like them."""
    with pytest.raises(ValueError, match=f"{setting.name} must be True or False"):
        ShedConfig(**{setting.name: value})


@named([setting for setting in SETTINGS if setting.kind is Kind.INTEGER])
def test_a_count_is_no_fraction(setting: Setting) -> None:
    """Counts and bytes take integers only."""
    with pytest.raises(ValueError, match="must be an integer"):
        ShedConfig(**{setting.name: 5000.0})


@named(NUMERIC)
def test_the_ends_of_a_range_are_in_it(setting: Setting) -> None:
    """The lowest and the highest value hold, and nothing below or above."""
    for value in (setting.low, setting.high):
        values = {setting.name: value}
        if setting.at_most is not None:
            values[setting.at_most] = SETTING[setting.at_most].high
        assert getattr(ShedConfig(**values), setting.name) == value  # type: ignore[arg-type]
    for value in (setting.low - 0.5, setting.high + 1):
        with pytest.raises(ValueError):
            ShedConfig(**{setting.name: value})  # type: ignore[arg-type]


def test_an_unknown_name_is_a_type_error() -> None:
    """A misspelled setting is what a misspelled argument is everywhere."""
    with pytest.raises(TypeError):
        ShedConfig(max_queue=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ShedConfig.from_env({}, max_queue=5)


def test_seconds() -> None:
    """Times read in seconds too, and an export timeout of 0 is no limit."""
    config = ShedConfig(schedule_delay_millis=0.5, shutdown_grace_millis=0, export_timeout_millis=0, calm_millis=250)
    assert (config.schedule_delay, config.shutdown_grace, config.export_timeout) == (0.0005, 0, math.inf)
    assert config.calm == 0.25
    assert ShedConfig().export_timeout == 30


def test_code_that_contradicts_itself() -> None:
    """A batch larger than the queue raises as the stock constructor does; where no queue is said, none is too large."""
    message = "max_export_batch_size must be less than or equal to max_queue_size"
    with pytest.raises(ValueError, match=message):
        ShedConfig(max_queue_size=256, max_export_batch_size=512)
    with pytest.raises(ValueError, match=message):
        ShedConfig.from_env({}, max_queue_size=256, max_export_batch_size=512)
    assert ShedConfig(max_export_batch_size=4096).max_queue_size is None
    with pytest.raises(ValueError, match="max_request_bytes must be less than or equal to max_held_bytes"):
        ShedConfig(max_held_bytes=5000, max_request_bytes=5001)


@pytest.mark.parametrize(
    ("given_in_code", "numbers"),
    [
        ({"enter_pressure": 0.4, "leave_pressure": 0.6}, "0.6 >= 0.4"),
        ({"enter_pressure": 0.4, "leave_pressure": 0.4}, "0.4 >= 0.4"),
        ({"leave_pressure": 0.75}, "0.75 >= 0.75"),
    ],
)
def test_shedding_ends_below_where_it_begins(given_in_code: dict[str, Any], numbers: str) -> None:
    """Code that would have shedding end where it begins, or above, raises: it could not settle."""
    message = f"leave_pressure must be less than enter_pressure: {numbers}"
    for make in (ShedConfig, partial(ShedConfig.from_env, {})):
        with pytest.raises(ValueError) as caught:
            make(**given_in_code)
        assert str(caught.value) == message


def test_a_default_gives_way_to_code(caplog: pytest.LogCaptureFixture) -> None:
    """Where code sets only the bound, the default under it is lowered without a word."""
    for config in (ShedConfig(max_queue_size=100), ShedConfig.from_env({}, max_queue_size=100)):
        assert config.max_export_batch_size == 100
    assert ShedConfig(max_held_bytes=5000).max_request_bytes == 5000
    for config in (ShedConfig(enter_pressure=0.5), ShedConfig.from_env({}, enter_pressure=0.5)):
        assert config.leave_pressure == pytest.approx(1 / 3)
    assert ShedConfig(enter_pressure=0.51).leave_pressure == 0.5
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("environ", "overrides", "batch", "line"),
    [
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100"},
            {},
            100,
            "OTEL_BSP_MAX_QUEUE_SIZE='100' is not at least max_export_batch_size (512); "
            "using max_export_batch_size=100",
        ),
        (
            {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"},
            {"max_queue_size": 2048},
            2048,
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE='4096' is not at most max_queue_size (2048); using 2048",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200"},
            {},
            100,
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE='200' is not at most max_queue_size (100); using 100",
        ),
        (
            {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200"},
            {"max_queue_size": 100},
            100,
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE='200' is not at most max_queue_size (100); using 100",
        ),
        (
            {"OTEL_BSP_MAX_QUEUE_SIZE": "100"},
            {"max_export_batch_size": 200},
            100,
            "OTEL_BSP_MAX_QUEUE_SIZE='100' is not at least max_export_batch_size (200); "
            "using max_export_batch_size=100",
        ),
    ],
)
def test_an_environment_that_contradicts(
    environ: dict[str, str],
    overrides: dict[str, int],
    batch: int,
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a variable in it, a contradiction lowers the batch and logs one line, whoever else is a party."""
    for _ in range(2):
        config = ShedConfig.from_env(environ, **overrides)
        assert config.max_export_batch_size == batch
        assert config.max_queue_size >= batch
    assert lines(caplog) == [line]


@pytest.mark.parametrize(
    ("environ", "overrides", "leave", "line"),
    [
        (
            {"OTEL_SHED_ENTER_PRESSURE": "0.4"},
            {},
            0.8 / 3,
            "OTEL_SHED_ENTER_PRESSURE='0.4' is not above leave_pressure (0.5); using leave_pressure=0.266666666667",
        ),
        (
            {"OTEL_SHED_LEAVE_PRESSURE": "0.75"},
            {},
            0.5,
            "OTEL_SHED_LEAVE_PRESSURE='0.75' is not below enter_pressure (0.75); using 0.5",
        ),
        (
            {"OTEL_SHED_ENTER_PRESSURE": "0.6", "OTEL_SHED_LEAVE_PRESSURE": "0.9"},
            {},
            0.4,
            "OTEL_SHED_LEAVE_PRESSURE='0.9' is not below enter_pressure (0.6); using 0.4",
        ),
        (
            {"OTEL_SHED_LEAVE_PRESSURE": "0.9"},
            {"enter_pressure": 0.6},
            0.4,
            "OTEL_SHED_LEAVE_PRESSURE='0.9' is not below enter_pressure (0.6); using 0.4",
        ),
        (
            {"OTEL_SHED_ENTER_PRESSURE": "0.3"},
            {"leave_pressure": 0.6},
            0.2,
            "OTEL_SHED_ENTER_PRESSURE='0.3' is not above leave_pressure (0.6); using leave_pressure=0.2",
        ),
    ],
)
def test_an_environment_whose_shedding_ends_above_where_it_begins(
    environ: dict[str, str],
    overrides: dict[str, float],
    leave: float,
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a variable in it, leave_pressure becomes two thirds of enter_pressure, with one line."""
    for _ in range(2):
        config = ShedConfig.from_env(environ, **overrides)
        assert config.leave_pressure == pytest.approx(leave)
    assert lines(caplog) == [line]


@pytest.mark.parametrize(
    ("variable", "text", "ending"),
    [
        ("OTEL_SHED_MODE", "shed", "is not one of enforce, observe; using enforce"),
        ("OTEL_SHED_KEEP_SHARE", "50%", "is not a number from 0 to 1; using 0.5"),
        ("OTEL_SHED_MEMORY_LIMIT", "1024", "is not an integer from 1048576 to 1125899906842624; using none"),
        ("OTEL_SHED_CPU_SHARE", "2", "is not a number from 0.001 to 1; using none"),
        ("OTEL_SHED_LOW_PRIORITY_NAMES", ",", "is not a comma-separated list of names; using none"),
        (
            "OTEL_SHED_PRIORITY_ATTRIBUTES",
            ",",
            "is not a comma-separated list of names; using otlp.priority,observability.priority",
        ),
        (
            "OTEL_SHED_LOW_PRIORITY_KINDS",
            "client,nobody",
            "is not a comma-separated list of names out of internal, server, client, producer, consumer; using none",
        ),
    ],
)
def test_a_bad_variable_is_one_line(variable: str, text: str, ending: str, caplog: pytest.LogCaptureFixture) -> None:
    """It names the variable, what stands in it, what may, and the value used, which is the default."""
    for _ in range(2):
        assert ShedConfig.from_env({variable: text}) == ShedConfig()
    assert lines(caplog) == [f"{variable}={text!r} {ending}"]


def test_one_bad_list_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A list with an unknown kind in it is as unset, and only it."""
    environ = {"OTEL_SHED_LOW_PRIORITY_KINDS": "client,nobody", "OTEL_SHED_HIGH_PRIORITY_KINDS": "Server, CONSUMER"}
    config = ShedConfig.from_env(environ)
    assert config.low_priority_kinds == ()
    assert config.high_priority_kinds == ("server", "consumer")
    assert len(lines(caplog)) == 1


def test_code_counts_before_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    """An override is used and its variable is not even read; a bad override raises."""
    config = ShedConfig.from_env({"OTEL_BSP_MAX_QUEUE_SIZE": "abc"}, max_queue_size=4000)
    assert config.max_queue_size == 4000
    assert lines(caplog) == []
    with pytest.raises(ValueError, match="max_queue_size must be"):
        ShedConfig.from_env({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, max_queue_size=0)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """from_env() without arguments reads the process's own variables as they are then."""
    monkeypatch.setenv("OTEL_SHED_SHUTDOWN_GRACE", "1234")
    assert ShedConfig.from_env().shutdown_grace_millis == 1234


def test_the_launcher_knows_exactly_the_librarys_own_variables() -> None:
    """Each own variable is a launcher flag, those of the table and the one read at import, and nothing else is."""
    flags = {name: value for name, value in vars(environment_variables).items() if name.startswith("OTEL_")}
    own = [setting.variable for setting in SETTINGS if setting.is_own]
    assert flags == {variable: variable for variable in (*own, "OTEL_SHED_PURE_PYTHON")}


def test_the_table_is_complete() -> None:
    """Each setting has one variable, a meaning in a sentence, and a default that is itself in range."""
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        assert setting.meaning.endswith(".")
        assert setting.check(setting.default) == setting.default


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "unset"),
        (True, "true"),
        (2048, "2048"),
        (5.0, "5"),
        (0.75, "0.75"),
        (0.000001, "1e-06"),
        ("observe", "observe"),
        ((), "none"),
        (("a", "b*"), "a,b*"),
        (("\u00e4",), r"'\xe4'"),
        (("\udcff",), r"'\udcff'"),
        (("a\nb",), r"'a\nb'"),
    ],
    ids=ascii,
)
def test_values_in_words(value: object, words: str) -> None:
    """Documents and reports have one spelling for each value, and any terminal can show it."""
    assert SETTING["mode"].in_words(value) == words


# Generous, because building Hypothesis's tables of characters takes its time on a busy machine.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
VARIABLES = st.dictionaries(
    st.sampled_from([setting.variable for setting in SETTINGS]),
    st.one_of(
        st.text(),
        st.integers().map(str),
        st.floats().map(str),
        st.floats(0, 1).map(str),
        st.sampled_from(["1", "1024", "2048", str(2**31 - 1)]),
        st.sampled_from(["observe", "ENFORCE", "client", "Server, producer", "client,nobody", ",", "a*, ?,b"]),
    ),
)
PRESSURE_VARIABLES = st.dictionaries(
    st.sampled_from(["OTEL_SHED_ENTER_PRESSURE", "OTEL_SHED_LEAVE_PRESSURE"]), st.floats(0, 1).map(str)
)


@unhurried
@given(environ=VARIABLES)
def test_no_environment_raises(environ: dict[str, str]) -> None:
    """Whatever stands in the variables, a config comes of it whose every value is in range."""
    config = ShedConfig.from_env(environ)
    assert ShedConfig(**dataclasses.asdict(config)) == config


@unhurried
@given(environ=VARIABLES, queue=st.integers(1, 5000) | st.none(), batch=st.integers(1, 2048) | st.none())
def test_no_environment_makes_good_code_raise(environ: dict[str, str], queue: int | None, batch: int | None) -> None:
    """Code that holds by itself, holds in every environment."""
    if queue is not None and batch is not None and batch > queue:
        queue, batch = batch, queue
    code = {"max_queue_size": queue, "max_export_batch_size": batch}
    overrides = {name: value for name, value in code.items() if value is not None}
    config = ShedConfig.from_env(environ, **overrides)
    assert config.max_queue_size is None or config.max_export_batch_size <= config.max_queue_size
    assert queue is None or config.max_queue_size == queue


@unhurried
@given(environ=PRESSURE_VARIABLES, enter=st.floats(0.02, 1) | st.none(), leave=st.floats(0.01, 0.74) | st.none())
def test_shedding_always_ends_below_where_it_begins(
    environ: dict[str, str], enter: float | None, leave: float | None
) -> None:
    """Whatever the environment, shedding ends below where it begins, and code's word on its beginning stands."""
    if enter is not None and leave is not None and leave >= enter:
        leave = enter / 2
    code = {"enter_pressure": enter, "leave_pressure": leave}
    config = ShedConfig.from_env(environ, **{name: value for name, value in code.items() if value is not None})
    assert config.leave_pressure < config.enter_pressure
    assert enter is None or config.enter_pressure == enter
    assert ShedConfig(**dataclasses.asdict(config)) == config


def test_bytes_that_are_no_text_do_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    """A variable that is not valid UTF-8 is one more that cannot be parsed."""
    value = os.fsdecode(b"\xff\xfe")
    assert ShedConfig.from_env({"OTEL_BSP_MAX_QUEUE_SIZE": value}) == ShedConfig()
    assert len(lines(caplog)) == 1
