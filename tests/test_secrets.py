"""A canary in every variable and argument that may carry a secret, and every way of output searched for it."""

from __future__ import annotations

import base64
import io
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanProcessor
from otel_shed.cli import main
from otel_shed.command.doctor import run_doctor
from otel_shed.command.outage import OutageOptions, run_outage
from otel_shed.distro import ShedConfigurator
from otel_shed.environment import forget_warnings
from otel_shed.otlp.endpoint import grpc_endpoint, http_endpoint
from otel_shed.otlp.operations import server_of
from otel_shed.otlp.secrets import Secrets, secrets_of, without_secrets
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings
from otel_shed.testing.answers import Answer, Request, partial_success
from otel_shed.testing.receiver import Receiver

CANARY = "canary-4f7d1c9e"
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"
GENERIC = "OTEL_EXPORTER_OTLP_"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_"
# {} is a host and its port, which the receiver listens at.
ENDPOINTS = [
    f"http://{{}}/v1/traces?api-key={CANARY}",
    f"http://{{}}/v1/traces?{CANARY}",
    f"http://{{}}/v1/traces?mail=a@b&key={CANARY}#x",
    f"http://{{}}/v1/traces#{CANARY}",
    f"http://user:{CANARY}@{{}}/v1/traces",
    f"http://{CANARY}:x@{{}}/v1/traces",
    f"http://{CANARY}@{{}}/v1/traces?a={CANARY}",
    f"http://{{}}/receiver/{CANARY}-0123456789/v1/traces",
    f"http://{{}}/v1;key={CANARY};a=b/traces",
    f"http://user:{CANARY}@{{}}:port",
    f"http://user:{CANARY}/x@{{}}",
    f"http://user:pass?{CANARY}@{{}}",
    f"http://user:{CANARY}#@{{}}",
    f"htp://{{}}/v1/traces?api-key={CANARY}",
    f"//user:{CANARY}@{{}}",
    f"user:{CANARY}@{{}}",
    f"grpc://user:{CANARY}@{{}}",
    f"grpc://{{}}?key={CANARY}",
    f"{{}}?key={CANARY}",
    f"{{}}/v1/traces?key={CANARY} and more",
    f"http://[{{}}?key={CANARY}",
    f"http://user:{CANARY}@[{{}}",
    f"dns:///{{}}?key={CANARY}",
]
HEADERS = [
    f"api-key={CANARY}",
    f"authorization=Bearer {CANARY}",
    f"authorization=Basic {base64.b64encode(f'user:{CANARY}'.encode()).decode()}",
    CANARY,
    f"api key={CANARY}",
    f"authorization: Bearer {CANARY}",
    f"a=1,x-bin={CANARY}",
    f"a={CANARY}é",
]
PROXIES = [f"http://user:{CANARY}@{{}}", f"http://{CANARY}@{{}}", f"socks5://u:{CANARY}@h", f"http://u:{CANARY}@h:port"]
FILES = [PEM, f"/nowhere?{CANARY}"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is configured, everything is logged, and every warning is new."""
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower().endswith(("_proxy", "_ca_bundle")):
            monkeypatch.delenv(name)
    caplog.set_level(logging.DEBUG)
    forget_warnings()
    yield
    forget_warnings()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def span() -> ReadableSpan:
    started = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("span")
    started.end()
    assert isinstance(started, ReadableSpan)
    return started


def is_hidden(*texts: str, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether neither these texts nor the log have the canary, nor its longest part, nor what it is in base64."""
    logged = logging.Formatter()
    texts = (*texts, *(logged.format(record) for record in caplog.records))
    for text in texts:
        for words in (CANARY, CANARY[:10], CANARY[-10:], base64.b64encode(f"user:{CANARY}".encode()).decode()):
            assert words not in text, text
    return True


def echo(status: int, code: str) -> Callable[[Request], Answer]:
    """An answer that repeats what was asked, wherever an answer has room for it."""

    def answer(request: Request) -> Answer:
        sent = f"{request.path} {dict(request.headers)}"
        return Answer(
            status=status,
            headers={"Location": f"https://elsewhere{request.path}", "Content-Type": "text/plain"},
            body=sent.encode() if status >= 300 else partial_success(1, sent),
            code=code,
            details=sent,
        )

    return answer


ECHOES = [echo(200, "OK"), echo(400, "INVALID_ARGUMENT"), echo(401, "UNAUTHENTICATED"), echo(308, "UNKNOWN")]


def told_by_an_exporter(span: ReadableSpan, **given: Any) -> str:
    """All that can be had from an exporter that is made with this, and from its failures."""
    try:
        exporter = OTLPSpanExporter(**given)
    except (ValueError, TypeError):
        return traceback.format_exc()
    exporter.hurry()  # one attempt
    outcome = exporter.send_records([], budget=2.0)
    exporter.export([span])
    texts = [repr(exporter), repr(exporter.settings), str(server_of(exporter.settings)), repr(outcome)]
    texts += [repr(exporter.last_attempt), repr(exporter.settings.secrets)]
    exporter.shutdown(0)
    return "\n".join(texts)


def at(form: str, receiver: Receiver, protocol: str) -> str:
    return form.replace("{}", f"127.0.0.1:{receiver.grpc_port if protocol == GRPC else receiver.http_port}")


# -- exporters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
@pytest.mark.parametrize("form", ENDPOINTS)
def test_endpoints(
    form: str, protocol: str, receiver: Receiver, span: ReadableSpan, caplog: pytest.LogCaptureFixture
) -> None:
    """In variables and in code, whether it can be used or not, and whatever the server says."""
    endpoint = at(form, receiver, protocol)
    for answer in ECHOES:
        receiver.answer = answer
        code = told_by_an_exporter(span, protocol=protocol, endpoint=endpoint, environ={}, insecure=True)
        assert is_hidden(code, caplog=caplog)
    for name in (GENERIC, TRACES):
        environ = {f"{name}ENDPOINT": endpoint, f"{GENERIC}PROTOCOL": protocol, f"{GENERIC}INSECURE": "true"}
        # The one for all signals is what is used where the one for traces will not do, and is named then.
        for more in ({}, {f"{TRACES}ENDPOINT": "http://"}):
            forget_warnings()
            assert is_hidden(told_by_an_exporter(span, environ=environ | more), caplog=caplog)


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
@pytest.mark.parametrize("headers", HEADERS)
def test_headers(
    headers: str, protocol: str, receiver: Receiver, span: ReadableSpan, caplog: pytest.LogCaptureFixture
) -> None:
    """As text, as a mapping and as pairs, whether they can be sent or not, and whatever the server says."""
    endpoint = at("http://{}", receiver, protocol)
    name, _, value = headers.partition("=")
    for answer in ECHOES:
        receiver.answer = answer
        for variable in (GENERIC, TRACES):
            environ = {f"{variable}HEADERS": headers}
            told = told_by_an_exporter(span, protocol=protocol, endpoint=endpoint, environ=environ)
            assert is_hidden(told, caplog=caplog)
    pairs = [{name: value}, [(name, value)], {name: value.encode()}]
    for given in (headers, [headers], *(pairs if name != CANARY else [])):  # the name of a header is no secret
        told = told_by_an_exporter(span, protocol=protocol, endpoint=endpoint, headers=given, environ={})
        assert is_hidden(told, caplog=caplog)


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
@pytest.mark.parametrize("proxy", PROXIES)
def test_proxies(
    proxy: str, protocol: str, receiver: Receiver, span: ReadableSpan, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that answers with what it was asked, one that is not there, and one that cannot be used."""
    receiver.answer = echo(400, "INVALID_ARGUMENT")
    for place in (at("{}", receiver, HTTP_PROTOBUF), "127.0.0.1:9"):
        for scheme in ("http", "https"):
            for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy"):
                forget_warnings()
                environ = {name: proxy.replace("{}", place)}
                endpoint = f"{scheme}://collector.invalid:4318"
                told = told_by_an_exporter(span, protocol=protocol, endpoint=endpoint, environ=environ, timeout=0.2)
                assert is_hidden(told, caplog=caplog)


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
@pytest.mark.parametrize("text", FILES)
@pytest.mark.parametrize("ending", ["CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"])
def test_certificates(
    ending: str, text: str, protocol: str, span: ReadableSpan, caplog: pytest.LogCaptureFixture
) -> None:
    """A key where the path of its file should be."""
    where = {"protocol": protocol, "endpoint": "https://127.0.0.1:9"}
    argument = "certificate_file" if ending == "CERTIFICATE" else f"{ending.lower()}_file"
    for name in (GENERIC, TRACES):
        assert is_hidden(told_by_an_exporter(span, environ={f"{name}{ending}": text}, **where), caplog=caplog)
    for given in (text, Path(text)):
        assert is_hidden(told_by_an_exporter(span, environ={}, **{argument: given}, **where), caplog=caplog)


def test_an_object_that_tells_all_in_its_repr(span: ReadableSpan, caplog: pytest.LogCaptureFixture) -> None:
    """Of an argument of a wrong type no more than the type is told."""

    class URL:
        def __repr__(self) -> str:
            return f"URL({CANARY})"

    for name in ("protocol", "endpoint", "headers", "timeout", "compression"):
        assert is_hidden(told_by_an_exporter(span, environ={}, **{name: URL()}), caplog=caplog)


def test_reprs() -> None:
    """What an endpoint becomes may be printed."""
    for endpoint in (http_endpoint(f"http://user:{CANARY}@c/x?key={CANARY}"), grpc_endpoint("http://c:4317")):
        assert CANARY not in repr(endpoint)
    settings = ExporterSettings.resolve(
        {}, protocol=HTTP_PROTOBUF, endpoint=f"http://c/x?key={CANARY}", headers={"api-key": CANARY}
    )
    assert CANARY not in repr(settings)
    assert "endpoint='http://c/x?<hidden>'" in repr(settings)


# -- what a message is printed as ------------------------------------------------------------------------------------


def test_a_secret_in_a_message_that_was_cut() -> None:
    """The beginning of a secret at the cut is hidden as well; what is short is left, as it could be any word."""
    secrets = secrets_of([f"http://c/x?key={CANARY}&a=b"], [("x-tenant", "eu")], [])
    assert secrets.hide(f"bad key {CANARY}, eu") == "bad key <hidden>, eu"
    assert secrets.hide(f"bad key {CANARY[:-3]}…") == "bad key <hidden>…"
    assert secrets.hide("bad key…") == "bad key…"
    assert Secrets().hide(CANARY) == CANARY


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
        ("http://collector:4318/v1/traces?key=1", "http://collector:4318/v1/traces?<hidden>"),
        ("https://user:pass@collector/x", "https://<hidden>@collector/x"),
        ("https://collector/receiver/v1/otlp/ZaVnC4dhaV1T0k3nAbCdEf==", "https://collector/receiver/v1/otlp/<hidden>"),
        ("https://collector/v1;key=1;a=b/traces", "https://collector/v1;<hidden>/traces"),
        ("http://[::1]:4317", "http://[::1]:4317"),
        ("collector:4317", "collector:4317"),
        ("unix:///run/collector.sock", "unix:///run/collector.sock"),
        ("http://user:p/ss@collector", "http://<hidden>"),
    ],
)
def test_an_endpoint_is_told_as_far_as_it_can_be(text: str, shown: str) -> None:
    """Scheme, host, port and path stay."""
    assert without_secrets(text) == shown


# -- commands, the distro, the pipeline ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
@pytest.mark.parametrize("form", [ENDPOINTS[number] for number in (0, 4, 8, 9, 13, 17)])
def test_the_doctor(
    form: str, protocol: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By variable and by argument, with headers, certificates and a proxy, whatever the server says."""
    endpoint = at(form, receiver, protocol)
    monkeypatch.setattr("otel_shed.command.survey.PORTS", {GRPC: 9, HTTP_PROTOBUF: 9})

    def report(**given: str | None) -> str:
        forget_warnings()
        out = io.StringIO()
        run_doctor(**{"endpoint": None, "protocol": protocol, **given}, timeout=1.0, out=out)  # type: ignore[arg-type]
        return out.getvalue()

    monkeypatch.setenv(f"{GENERIC}HEADERS", f"api-key={CANARY},{CANARY}")
    monkeypatch.setenv(f"{GENERIC}CLIENT_KEY", PEM)
    for answer in ECHOES:
        receiver.answer = answer
        assert is_hidden(report(endpoint=endpoint), caplog=caplog)
    monkeypatch.setenv(f"{GENERIC}ENDPOINT", endpoint)
    monkeypatch.setenv(f"{GENERIC}INSECURE", "true")
    assert is_hidden(report(), caplog=caplog)
    monkeypatch.setenv("http_proxy", at(PROXIES[0], receiver, HTTP_PROTOBUF))
    assert is_hidden(report(), caplog=caplog)


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", f"http://user:{CANARY}@collector"],
        ["outage", f"http://collector/?key={CANARY}"],
        ["doctor", "--protocol", f"http://c?{CANARY}"],
    ],
)
def test_arguments_that_cannot_be(
    arguments: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What the command does not understand it repeats without its secrets."""
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr().err
    assert "error:" in told
    assert is_hidden(told, caplog=caplog)


@pytest.mark.parametrize("fault", [f"/v1/traces?api-key={CANARY}", f"http://user:{CANARY}@collector/"])
def test_an_exporter_of_others(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises with its whole URL, in each of its calls."""

    class Failing(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ConnectionError(f"Max retries exceeded with url: {fault} (Caused by no one)")

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            raise ConnectionError(f"Max retries exceeded with url: {fault} (Caused by no one)")

        def shutdown(self) -> None:
            raise ConnectionError(f"Max retries exceeded with url: {fault} (Caused by no one)")

    processor = SheddingSpanProcessor(Failing())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("span").end()
    provider.force_flush(5000)
    provider.shutdown()
    assert "Max retries exceeded with url: " in caplog.text
    assert is_hidden(repr(processor.stats()), caplog=caplog)


def test_the_outage(receiver: Receiver, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Where it is shown at a collector of one's own, that says no; and an endpoint that is none."""
    receiver.answer = echo(400, "INVALID_ARGUMENT")
    out = io.StringIO()
    endpoint = at(ENDPOINTS[0], receiver, HTTP_PROTOBUF)
    run_outage(OutageOptions(seconds=0.5, outage=0, rate=20, endpoint=endpoint, protocol=HTTP_PROTOBUF), out)
    assert "Nothing was exported" in out.getvalue()
    assert is_hidden(out.getvalue(), caplog=caplog)
    assert main(["outage", "--endpoint", f"ftp://u:{CANARY}@c", "--protocol", HTTP_PROTOBUF]) == 2
    assert is_hidden(*capsys.readouterr(), caplog=caplog)


@pytest.mark.parametrize(
    "exporter",
    [
        f"headers: [{{name: api-key, value: [{CANARY}]}}]",
        f'timeout: "{CANARY}"',
        f'headers_list: "api-key={CANARY}, x: y',
        f"{CANARY}: [",
    ],
)
def test_a_configuration_file(
    exporter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with it is told by its place; what the SDK itself logs of it is the SDK's."""
    file = tmp_path / "otel.yaml"
    file.write_text(
        f'file_format: "1.0"\ntracer_provider:\n  processors:\n  - batch:\n      exporter:\n        otlp_http:\n'
        f"          {exporter}\n"
    )
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(file))
    monkeypatch.setattr(ShedConfigurator, "_configure_from_environment", lambda *_: None)
    ShedConfigurator().configure()
    ours = [record for record in caplog.records if record.name == "otel_shed"]
    assert any("is ignored" in record.getMessage() for record in ours)
    assert CANARY not in "".join(map(logging.Formatter().format, ours))


@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
def test_the_pipeline(protocol: str, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """A LoadShedder's lines, statistics and snapshots, of a collector that repeats what it was sent."""
    for answer in ECHOES:
        receiver.answer = answer
        exporter = OTLPSpanExporter(
            protocol, at(ENDPOINTS[0], receiver, protocol), {"api-key": CANARY}, environ={}, insecure=True
        )
        shedder = LoadShedder(ShedConfig(), exporter=exporter)
        provider = TracerProvider(sampler=shedder.sampler(), shutdown_on_exit=False)
        provider.add_span_processor(shedder.span_processor())
        provider.get_tracer("test").start_span("span").end()
        provider.force_flush(5000)
        provider.shutdown()
        assert is_hidden(repr(shedder.stats()), repr(shedder.brownout()), caplog=caplog)
