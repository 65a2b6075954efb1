"""What happens to settings that will not do: a variable is warned about and as unset, an argument is an error."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_shed.environment import forget_warnings
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.settings import ExporterSettings
from tests.otlp.certificates import authority

GENERIC = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
HTTP = "http/protobuf"


@pytest.fixture(autouse=True)
def every_warning_is_the_first() -> Iterator[None]:
    """A bad variable is warned about once a process; here once a test."""
    forget_warnings()
    yield
    forget_warnings()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings on the package's logger; nothing else may be logged there."""
    records = [record for record in caplog.records if record.name == "otel_shed"]
    assert {record.levelno for record in records} <= {logging.WARNING}
    return [record.getMessage().removeprefix(PREFIX) for record in records]


def resolved(environ: dict[str, str], **given: Any) -> ExporterSettings:
    return ExporterSettings.resolve(environ, **given)


@pytest.mark.parametrize(
    ("suffix", "texts"),
    [
        ("PROTOCOL", ("json", "grpcs")),
        ("ENDPOINT", ("http://", "http://c:99999", "http://c:x", "two words")),
        ("TIMEOUT", ("soon", "-1", "nan", "inf", "1e99")),
        ("COMPRESSION", ("zip", "deflate")),
        ("INSECURE", ("yes", "1")),
    ],
)
def test_a_bad_variable_is_one_warning_and_as_unset(
    suffix: str, texts: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names variable, value and what is used; the same again says nothing more."""
    rest = {GENERIC + "ENDPOINT": "collector:1"} if suffix == "INSECURE" else {}
    for text in texts:
        for name in (GENERIC + suffix, TRACES + suffix):
            caplog.clear()
            environ = rest | {name: text}
            assert resolved(environ) == resolved(environ) == resolved(rest)
            (line,) = said(caplog)
            assert line.startswith(f"{name}={text!r} is not ")
            assert "; using " in line


@pytest.mark.parametrize(
    ("text", "endpoint", "protocol"),
    [
        ("http", "http://collector:4318", HTTP),
        ("http/json", "http://collector:4318", HTTP),
        ("HTTP", "https://collector/otlp", HTTP),
        ("bogus", "http://collector:4318", HTTP),
        ("bogus", "http://collector/v1/traces", HTTP),
        ("http", "http://collector:4317", "grpc"),
        ("http/json", "grpc://collector:4318", "grpc"),
        ("http", "dns:///collector:4317", "grpc"),
        ("http", "https://collector", HTTP),
        ("grpcs", "https://collector", "grpc"),
        ("http/json", "", HTTP),
        ("grpcs", "", "grpc"),
        ("http", "collector:4317", "grpc"),
    ],
)
def test_a_protocol_that_is_none_becomes_the_one_that_fits(
    text: str, endpoint: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Port 4318 or a path is HTTP, whatever was meant; where the endpoint does not tell, http is; the line names it."""
    settings = resolved({GENERIC + "PROTOCOL": text, GENERIC + "ENDPOINT": endpoint})
    assert settings.protocol == protocol
    (line,) = said(caplog)
    assert line == f"{GENERIC}PROTOCOL={text!r} is not one of grpc, http/protobuf; using {protocol}"
    if endpoint:
        assert resolved({TRACES + "PROTOCOL": text}, endpoint=endpoint).protocol == protocol


def test_a_bad_variable_for_traces_leaves_it_to_the_generic_one(caplog: pytest.LogCaptureFixture) -> None:
    """The next source in the order of precedence is used, and the warning says which value that was."""
    settings = resolved({TRACES + "TIMEOUT": "soon", GENERIC + "TIMEOUT": "4"})
    assert (settings.timeout, settings.sources["TIMEOUT"]) == (4.0, GENERIC + "TIMEOUT")
    (line,) = said(caplog)
    assert line.endswith("; using 4.0")


@pytest.mark.parametrize("name", [GENERIC + "ENDPOINT", TRACES + "ENDPOINT"])
@pytest.mark.parametrize("text", ["collector:4318", "ftp://collector", "http://c c", "http://user:secret@c:x"])
def test_a_bad_http_endpoint_is_one_warning_and_as_unset(
    name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP needs an http or https URL; a password in one that is none is not logged."""
    assert resolved({name: text}, protocol=HTTP) == resolved({}, protocol=HTTP)
    (line,) = said(caplog)
    assert line.startswith(f"{name}=")
    assert "secret" not in line


@pytest.mark.parametrize(
    "given",
    [
        {"protocol": "http/json"},
        {"endpoint": "http://"},
        {"endpoint": 4317},
        {"endpoint": "collector:4318", "protocol": HTTP},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": True},
        {"timeout": "soon"},
        {"compression": "zip"},
        {"headers": "secret"},
        {"headers": {"a b": "secret"}},
        {"headers": {"a": "secr\net"}},
        {"headers": {"a": b"secret"}},
        {"headers": {"a-bin": "secret"}},
        {"headers": 7},
    ],
)
def test_a_bad_value_in_code_is_an_error(given: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """ValueError that names the argument, and never what may be a credential; nothing is logged."""
    with pytest.raises(ValueError) as raised:
        resolved({}, **given)
    assert str(raised.value).startswith(f"{next(iter(given))} must be ")
    assert "cret" not in str(raised.value)
    assert said(caplog) == []


def test_bad_headers_are_left_out_with_one_warning_that_tells_no_value(caplog: pytest.LogCaptureFixture) -> None:
    """The good entries stay, the bad go; a header may be a credential and is never logged."""
    settings = resolved({TRACES + "HEADERS": "a=1,secret,b c=secret,d=sécret,x-bin=secret"})
    assert settings.headers == (("a", "1"),)
    (line,) = said(caplog)
    assert line.startswith("OTEL_EXPORTER_OTLP_TRACES_HEADERS=<hidden> is not a comma-separated list of name=value")
    assert "cret" not in line


def test_bad_certificates_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is not there, one that is none, a key that does not fit, a key alone: one warning each, and unset."""
    one, two = authority(tmp_path / "one").client(), authority(tmp_path / "two").client()
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for environ in (
        {GENERIC + "CERTIFICATE": str(tmp_path / "nowhere")},
        {GENERIC + "CERTIFICATE": str(text)},
        {GENERIC + "CLIENT_KEY": str(two.key), GENERIC + "CLIENT_CERTIFICATE": str(text)},
        {GENERIC + "CLIENT_KEY": str(one.key)},
    ):
        caplog.clear()
        settings = resolved(environ)
        assert (settings.certificate_file, settings.client_key_file, settings.client_certificate_file) == (None,) * 3
        assert len(said(caplog)) in {1, 2}
    for given in (
        {"certificate_file": tmp_path / "nowhere"},
        {"certificate_file": text},
        {"client_certificate_file": one.certificate, "client_key_file": two.key},
        {"client_key_file": one.key},
    ):
        with pytest.raises(ValueError, match="must "):
            resolved({}, **given)
