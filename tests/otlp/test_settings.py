"""The exporter's settings: which source wins, and what an endpoint becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from typing import Any

import grpc
import pytest

from otel_shed.environment import forget_warnings
from otel_shed.otlp.settings import LONGEST_TIMEOUT, ExporterSettings
from tests.otlp.certificates import Files, authority

GENERIC = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
HTTP = "http/protobuf"


@pytest.fixture(autouse=True)
def nothing_is_warned_about(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """All that these tests set is good."""
    forget_warnings()
    yield
    assert [record for record in caplog.records if record.name == "otel_shed"] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files]:
    """Two authorities, each with a client's certificate and key."""
    folder = tmp_path_factory.mktemp("certificates")
    return authority(folder / "one").client(), authority(folder / "two").client()


def resolved(environ: dict[str, str], **given: Any) -> ExporterSettings:
    return ExporterSettings.resolve(environ, **given)


def test_defaults() -> None:
    """Without variables and arguments: gRPC to localhost:4317 without TLS, ten seconds, nothing else."""
    settings = resolved({})
    assert (settings.protocol, settings.endpoint, settings.insecure) == ("grpc", "localhost:4317", True)
    assert (settings.timeout, settings.compression, settings.headers) == (10.0, "none", ())
    assert (settings.certificate_file, settings.client_key_file, settings.client_certificate_file) == (None, None, None)
    assert settings.sources == {}
    assert resolved({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}).endpoint == "http://localhost:4318/v1/traces"


@pytest.mark.parametrize(
    ("name", "generic", "traces", "given", "expected"),
    [
        ("protocol", HTTP, "grpc", HTTP, (HTTP, "grpc", HTTP)),
        ("endpoint", "http://a:1", "http://b:2", "http://c:3", ("a:1", "b:2", "c:3")),
        ("timeout", "1", "2.5", 3, (1.0, 2.5, 3.0)),
        ("compression", "gzip", "none", "gzip", ("gzip", "none", "gzip")),
    ],
)
def test_code_outweighs_traces_outweighs_generic(
    name: str, generic: str, traces: str, given: Any, expected: tuple[Any, Any, Any]
) -> None:
    """What code gives wins over the variable for traces, and that over the one for all signals; the source is told."""
    suffix = name.upper()
    environ = {GENERIC + suffix: generic}
    found = [resolved(environ)]
    environ[TRACES + suffix] = traces
    found += [resolved(environ), resolved(environ, **{name: given})]
    assert tuple(getattr(settings, name) for settings in found) == expected
    assert [settings.sources[suffix] for settings in found] == [GENERIC + suffix, TRACES + suffix, "code"]


@pytest.mark.parametrize("suffix", ["PROTOCOL", "ENDPOINT", "TIMEOUT", "COMPRESSION", "HEADERS", "CERTIFICATE"])
def test_empty_is_unset(suffix: str) -> None:
    """A variable that is empty or only white space is as unset, for traces and for all signals."""
    for protocol in ("grpc", HTTP):
        assert resolved({TRACES + suffix: " ", GENERIC + suffix: ""}, protocol=protocol) == resolved(
            {}, protocol=protocol
        )


def test_an_empty_variable_for_traces_leaves_it_to_the_generic_one() -> None:
    """OTEL_EXPORTER_OTLP_TRACES_X="" does not hide OTEL_EXPORTER_OTLP_X."""
    assert resolved({TRACES + "TIMEOUT": "", GENERIC + "TIMEOUT": "4"}).timeout == 4.0


@pytest.mark.parametrize(
    ("endpoint", "target", "insecure"),
    [
        ("http://collector:4317", "collector:4317", True),
        ("https://collector:4317", "collector:4317", False),
        ("https://collector:4317/any/path", "collector:4317", False),
        ("HTTP://collector:4317", "collector:4317", True),
        ("http://[::1]:4317", "[::1]:4317", True),
        ("collector:4317", "collector:4317", False),
        ("collector", "collector", False),
        ("unix:/run/collector.sock", "unix:/run/collector.sock", False),
        ("dns:///collector:4317", "dns:///collector:4317", False),
        ("dns://8.8.8.8/collector:4317", "dns://8.8.8.8/collector:4317", False),
        ("dns:collector:4317", "dns:collector:4317", False),
        ("ipv4:10.0.0.1:4317,10.0.0.2:4317", "ipv4:10.0.0.1:4317,10.0.0.2:4317", False),
        ("unix:///run/collector.sock", "unix:///run/collector.sock", False),
        ("grpc://collector:4317", "collector:4317", False),
        ("grpcs://collector:4317/path?query#fragment", "collector:4317", False),
        ("tcp://collector:4317", "collector:4317", False),
        ("h2c://[::1]:4317", "[::1]:4317", False),
        ("dns://collector:4317", "collector:4317", False),
        ("//collector:4317", "collector:4317", False),
        ("collector:4317?key=1", "collector:4317", False),
        (" http://collector:4317 ", "collector:4317", True),
    ],
)
def test_grpc_endpoints(endpoint: str, target: str, insecure: bool) -> None:
    """http and https decide about TLS, only host and port count; with any other it is TLS unless told."""
    for settings in (
        resolved({}, endpoint=endpoint),
        resolved({TRACES + "ENDPOINT": endpoint}),
        resolved({GENERIC + "ENDPOINT": endpoint}),
    ):
        assert (settings.endpoint, settings.insecure) == (target, insecure)


def test_insecure_speaks_for_endpoints_without_a_scheme_only() -> None:
    """OTEL_EXPORTER_OTLP_INSECURE and its form for traces: a scheme outweighs them."""
    for form in ("grpc://collector:4317", "tcp://collector:4317", "//collector:4317"):
        assert resolved({GENERIC + "ENDPOINT": form, GENERIC + "INSECURE": "true"}).insecure
        assert resolved({}, endpoint=form, insecure=True).insecure
    bare = {GENERIC + "ENDPOINT": "collector:4317"}
    assert resolved(bare | {GENERIC + "INSECURE": "true"}).insecure
    assert resolved(bare | {GENERIC + "INSECURE": "TRUE", TRACES + "INSECURE": "False"}).insecure is False
    assert resolved({GENERIC + "INSECURE": "true"}, endpoint="https://c:1").insecure is False
    assert resolved({GENERIC + "INSECURE": "false"}, endpoint="http://c:1").insecure


def test_insecure_in_code_outweighs_http_but_never_https() -> None:
    """insecure=False has TLS for http://, insecure=True none for a bare target; https:// keeps it."""
    assert resolved({}, endpoint="http://c:1", insecure=False).insecure is False
    assert resolved({}, endpoint="c:1", insecure=True).insecure
    assert resolved({GENERIC + "INSECURE": "true"}, endpoint="c:1", insecure=False).insecure is False
    assert resolved({}, endpoint="https://c:1", insecure=True).insecure is False


@pytest.mark.parametrize(
    ("endpoint", "generic", "traces", "code"),
    [
        ("http://c:1", "http://c:1/v1/traces", "http://c:1/", "http://c:1/v1/traces"),
        ("http://c:1/", "http://c:1/v1/traces", "http://c:1/", "http://c:1/"),
        ("https://c/otlp", "https://c/otlp/v1/traces", "https://c/otlp", "https://c/otlp"),
        ("https://c/otlp/", "https://c/otlp/v1/traces", "https://c/otlp/", "https://c/otlp/"),
        ("http://c/x?key=1", "http://c/x/v1/traces?key=1", "http://c/x?key=1", "http://c/x?key=1"),
        (" http://c/a b ", "http://c/a%20b/v1/traces", "http://c/a%20b", "http://c/a%20b"),
    ],
)
def test_http_endpoints(endpoint: str, generic: str, traces: str, code: str) -> None:
    """/v1/traces is added to the variable for all signals; the one for traces is used as it is, but for a bare host."""
    environ = {GENERIC + "ENDPOINT": endpoint}
    assert resolved(environ, protocol=HTTP).endpoint == generic
    settings = resolved(environ | {TRACES + "ENDPOINT": endpoint}, protocol=HTTP)
    assert (settings.endpoint, settings.insecure) == (traces, "http:" in endpoint)
    assert resolved(environ, protocol=HTTP, endpoint=endpoint).endpoint == code


def test_credentials_in_a_url_become_a_header() -> None:
    """user:password@ leaves the URL and becomes Authorization: Basic, which a header of that name outweighs."""
    settings = resolved({}, protocol=HTTP, endpoint="http://user:p%40ss@c:1/x")
    assert settings.endpoint == "http://c:1/x"
    assert settings.headers == (("authorization", "Basic dXNlcjpwQHNz"),)
    assert "ss" not in repr(settings).replace("compression", "")
    own = resolved({}, protocol=HTTP, endpoint="http://user:p@c:1", headers={"Authorization": "Bearer x"})
    assert own.headers == (("authorization", "Bearer x"),)


def test_headers_of_variables() -> None:
    """name=value,..., names in lower case, values URL-decoded unless they cannot be encoded; traces replace generic."""
    text = "Api-Key=a%2Cb%20c , authorization=Basic dXNlcg==,empty="
    expected = (("api-key", "a,b c"), ("authorization", "Basic dXNlcg=="), ("empty", ""))
    assert resolved({GENERIC + "HEADERS": text}).headers == expected
    both = {GENERIC + "HEADERS": "a=1,b=2", TRACES + "HEADERS": "b=3"}
    assert resolved(both).headers == (("b", "3"),)


@pytest.mark.parametrize("given", [{"B": "3", "c": "4"}, [("B", "3"), ("c", "4")], "B=3,c=4"])
def test_headers_in_code_are_added_to_the_variables(given: Any) -> None:
    """A mapping, pairs or text; the names that code gives too are code's."""
    settings = resolved({GENERIC + "HEADERS": "a=1,b=2"}, headers=given)
    assert settings.headers == (("a", "1"), ("b", "3"), ("c", "4"))
    assert settings.sources["HEADERS"] == "code"


def test_timeouts_are_in_seconds() -> None:
    """Fractions count, zero is no limit, and the longest is the specification's."""
    assert [resolved({GENERIC + "TIMEOUT": text}).timeout for text in ("0.25", "7", "0", "2147483")] == [
        0.25,
        7.0,
        math.inf,
        LONGEST_TIMEOUT,
    ]
    assert resolved({}, timeout=0).timeout == math.inf


class _Compression(Enum):
    NoCompression = "none"
    Deflate = "deflate"


def test_compression() -> None:
    """Any case; the enumerations of grpc and of the stock exporter; deflate is of HTTP alone."""
    assert resolved({GENERIC + "COMPRESSION": "GZIP"}).compression == "gzip"
    assert resolved({}, compression=grpc.Compression.Gzip).compression == "gzip"
    assert resolved({GENERIC + "COMPRESSION": "gzip"}, compression=_Compression.NoCompression).compression == "none"
    assert resolved({}, protocol=HTTP, compression=_Compression.Deflate).compression == "deflate"
    with pytest.raises(ValueError, match="compression must be one of none, gzip, not "):
        resolved({}, compression="deflate")


@pytest.mark.parametrize("protocol", ["grpc", HTTP])
def test_certificates(protocol: str, files: tuple[Files, Files]) -> None:
    """CERTIFICATE, CLIENT_KEY and CLIENT_CERTIFICATE: code, then traces, then generic."""

    def environ(prefix: str, of: Files) -> dict[str, str]:
        names = {"CERTIFICATE": of.authority, "CLIENT_KEY": of.key, "CLIENT_CERTIFICATE": of.certificate}
        return {prefix + name: str(path) for name, path in names.items()}

    def paths(settings: ExporterSettings) -> tuple[Any, ...]:
        return settings.certificate_file, settings.client_certificate_file, settings.client_key_file

    one, two = files
    generic = environ(GENERIC, one)
    assert paths(resolved(generic, protocol=protocol)) == tuple(map(str, one))
    assert paths(resolved(generic | environ(TRACES, two), protocol=protocol)) == tuple(map(str, two))
    in_code = {
        "certificate_file": one.authority,
        "client_certificate_file": one.certificate,
        "client_key_file": one.key,
    }
    assert paths(resolved(environ(TRACES, two), protocol=protocol, **in_code)) == tuple(map(str, one))
