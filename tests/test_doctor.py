"""The doctor against receivers and sockets on loopback: what it says, what it exits with, and that it is soon done."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
import ipaddress
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import otel_shed
from otel_shed import compiled_parts
from otel_shed.command.doctor import run_doctor
from otel_shed.command.setup import launcher_findings
from otel_shed.environment import forget_warnings
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF
from otel_shed.testing.answers import Answer, Request, partial_success
from otel_shed.testing.receiver import Receiver
from tests.launched import Launched, free_port

PROTOCOLS = (GRPC, HTTP_PROTOBUF)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is configured, and every warning is new."""
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower().endswith(("_proxy", "_ca_bundle")):
            monkeypatch.delenv(name)
    forget_warnings()
    yield
    forget_warnings()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@dataclass(frozen=True)
class Report:
    status: int
    text: str

    def says(self, *words: str) -> bool:
        """Whether all of the words are there, wherever the lines were broken."""
        flowing = " ".join(self.text.split())
        missing = [word for word in words if word not in flowing]
        assert not missing, f"{missing} not in:\n{self.text}"
        return True


def report(endpoint: str | None = None, protocol: str | None = None, *, timeout: float = 3.0) -> Report:
    out = io.StringIO()
    status = run_doctor(endpoint=endpoint, protocol=protocol, timeout=timeout, out=out)
    return Report(status, out.getvalue())


def endpoint_of(receiver: Receiver, protocol: str) -> str:
    return receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint


# -- spans arrive ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_span_that_arrives(receiver: Receiver, protocol: str) -> None:
    """Status 0, and the collector has exactly one span."""
    found = report(endpoint_of(receiver, protocol), protocol)
    assert found.status == 0
    assert found.says("takes connections", "it answers", "the collector accepted it after", "Spans arrive.")
    assert receiver.counts.spans == 1


def test_what_runs_here(receiver: Receiver) -> None:
    """The first line has the versions."""
    first = report(receiver.grpc_endpoint).text.splitlines()[0]
    assert f"otel-shed {importlib.metadata.version('otel-shed')}" in first
    assert f"SDK {importlib.metadata.version('opentelemetry-sdk')}" in first


def test_the_name_is_looked_up(receiver: Receiver) -> None:
    """A name is shown with its addresses."""
    assert report(f"http://localhost:{receiver.grpc_port}").says("the name localhost stands for", "127.0.0.1")


def test_the_other_protocol(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """It is told whether the collector takes the protocol that is not configured, too."""
    monkeypatch.setattr("otel_shed.command.survey.PORTS", {GRPC: free_port(), HTTP_PROTOBUF: receiver.http_port})
    assert report(receiver.grpc_endpoint).says(f"OTLP/HTTP answers too, at 127.0.0.1:{receiver.http_port}")
    with Receiver(http_port=None) as grpc_only:
        monkeypatch.setattr("otel_shed.command.survey.PORTS", {GRPC: 4317, HTTP_PROTOBUF: free_port()})
        assert report(grpc_only.grpc_endpoint).says("OTLP/HTTP does not answer on that host")


# -- spans do not arrive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_listens(protocol: str) -> None:
    """A refused connection is told as that, with status 1 and without waiting."""
    began = time.monotonic()
    found = report(f"http://127.0.0.1:{free_port()}", protocol, timeout=20.0)
    assert found.status == 1
    assert found.says("FAIL nothing listens at", "Spans do not arrive.")
    assert time.monotonic() - began < 10


def test_a_collector_at_the_default_port(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Where nothing listens, the collector at OTLP's own port is found, and how to name it."""
    ports = {GRPC: free_port(), HTTP_PROTOBUF: receiver.http_port}
    monkeypatch.setattr("otel_shed.command.survey.PORTS", ports)
    assert report(f"http://127.0.0.1:{free_port()}").says(
        f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{receiver.http_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
    )


def test_a_name_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is told, and no socket error."""

    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    found = report("http://collector.invalid:4318", HTTP_PROTOBUF)
    assert found.status == 1
    assert found.says("the name collector.invalid is not found")


def test_a_look_up_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that does not answer costs no more than the patience."""
    answered = threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        answered.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    began = time.monotonic()
    # gRPC has a resolver of its own, so that the test span does not hang with ours.
    assert report("http://collector.invalid:4317", timeout=0.3).says(
        "looking up the name collector.invalid took longer"
    )
    assert time.monotonic() - began < 5
    answered.set()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_other_protocols_port(receiver: Receiver, protocol: str) -> None:
    """A port that speaks the other protocol is recognized, and the variable for it is named."""
    other = HTTP_PROTOBUF if protocol == GRPC else GRPC
    found = report(endpoint_of(receiver, other), protocol)
    assert found.status == 1
    assert found.says("answers there", f"set OTEL_EXPORTER_OTLP_PROTOCOL={other}")


def test_the_port_of_the_protocol_is_named(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Where both protocols answer on their own ports, the other port is offered as well."""
    monkeypatch.setattr("otel_shed.command.survey.PORTS", {GRPC: receiver.grpc_port, HTTP_PROTOBUF: 4318})
    assert report(receiver.http_endpoint, GRPC).says(f"or use port {receiver.grpc_port}, where OTLP/gRPC answers")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refused_credentials(receiver: Receiver, protocol: str) -> None:
    """It is the credentials, not the connection."""
    receiver.answer = lambda _: Answer(code="UNAUTHENTICATED", details="no token", status=401)
    found = report(endpoint_of(receiver, protocol), protocol)
    assert found.status == 1
    assert found.says("it wants other credentials", "the collector refuses it", "it is not to be sent again")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_silent_server(protocol: str) -> None:
    """What takes connections and says nothing is given up on in time."""
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = report(f"http://127.0.0.1:{silent.getsockname()[1]}", protocol, timeout=0.5)
    assert found.status == 1
    assert found.says("it takes the connection, and then no answer comes")
    assert time.monotonic() - began < 5


def test_a_collector_that_asks_for_a_wait(receiver: Receiver) -> None:
    """The doctor tells of it and does not wait."""
    receiver.answer = lambda _: Answer(status=503, headers={"Retry-After": "30"})
    began = time.monotonic()
    found = report(receiver.http_endpoint, HTTP_PROTOBUF)
    assert found.status == 1
    assert found.says("it is too busy: 503", "the collector asks for a wait of 30 s")
    assert time.monotonic() - began < 10


def test_a_rejected_span(receiver: Receiver) -> None:
    """A request that is taken and a span that is not: status 1, in the collector's words."""

    def reject(request: Request) -> Answer:
        return Answer(body=partial_success(1, "unknown tenant")) if request.spans else Answer()

    receiver.answer = reject
    found = report(receiver.grpc_endpoint)
    assert found.status == 1
    assert found.says("rejected the span: unknown tenant")


def test_another_web_server(receiver: Receiver) -> None:
    """A page is not shown, and a missing path is named."""
    receiver.answer = lambda _: Answer(status=404, body=b"<html>nope", headers={"Content-Type": "text/html"})
    found = report(f"{receiver.http_endpoint}/otlp/v1/traces", HTTP_PROTOBUF)
    assert found.status == 1
    assert found.says("a web server answers, but it has nothing at /otlp/v1/traces")
    assert "html" not in found.text


@pytest.mark.parametrize("content_type", ["text/html", ""])
def test_a_web_page_is_no_collector(receiver: Receiver, content_type: str) -> None:
    """A page that answers 200 is a failure, told with what was found at which URL; no span is said to arrive."""
    page = b"<!doctype html><title>Welcome to nginx!</title>"
    receiver.answer = lambda _: Answer(body=page, headers={"Content-Type": content_type})
    found = report(receiver.http_endpoint, HTTP_PROTOBUF)
    assert found.status == 1
    where = f'an HTML page, "Welcome to nginx!", at {receiver.http_endpoint}/v1/traces'
    assert found.says(f"a web server answers: 200: {where}", "no collector took it, for the reason above")
    assert found.says("Spans do not arrive.")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told(receiver: Receiver, status: int) -> None:
    """From where to where, and that it is not followed, once."""
    there = "https://a-collector-with-a-long-name.example.com:4318/some/other/path/that/is/long/v1/traces"
    receiver.answer = lambda _: Answer(status=status, headers={"Location": there})
    found = report(receiver.http_endpoint, HTTP_PROTOBUF)
    assert found.status == 1
    words = f"{status}: a redirect, which is not followed, from {receiver.http_endpoint}/v1/traces to {there}"
    assert found.says(f"it answers {words}: if that is where the collector is", "no collector took it, for")


def test_an_endpoint_without_a_port() -> None:
    """The port that stands for none is told."""
    assert report("http://127.0.0.1", timeout=0.5).says("443 is the port of an endpoint that names none")


def test_a_proxy(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """The variable that leads through a proxy is named, its value is not; NO_PROXY is kept to."""
    monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{free_port()}")
    for protocol in PROTOCOLS:
        found = report(f"http://collector.invalid:{receiver.http_port}", protocol, timeout=1.0)
        assert found.status == 1
        assert found.says("leads through the proxy that http_proxy names")
        assert "hunter2" not in found.text
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert report(endpoint_of(receiver, protocol), protocol).status == 0
        monkeypatch.delenv("no_proxy")


def test_a_target_of_grpcs_own(tmp_path: Path) -> None:
    """A Unix socket is tried as a whole."""
    assert report(f"unix:{tmp_path}/none.sock", timeout=1.0).says("is a target that gRPC looks up by itself", "FAIL")


def test_an_endpoint_that_is_none() -> None:
    """A bad argument is a line of the report, and status 1."""
    found = report("http://")
    assert found.status == 1
    assert found.says("FAIL endpoint must be a URL", "No span was sent.")


# -- TLS ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    certificate: Path
    key: Path


class Authority:
    """Issues certificates, into files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' authority")])
        self.file = folder / "authority.pem"
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        built = (
            self._builder(self._name, self._key, days=9)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(key_id, critical=False)
        )
        self.file.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=9))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def issue(self, name: str, *others: x509.GeneralName, days: int = 9) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = (
            self._builder(subject, key, days=days)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *others]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        identity = Identity(self._folder / f"{name}.{days}.pem", self._folder / f"{name}.{days}.key")
        signed = built.sign(self._key, hashes.SHA256())
        identity.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return identity

    def receiver(self, identity: Identity, *, wants_client: bool = False) -> Receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        pair = (identity.key.read_bytes(), identity.certificate.read_bytes())
        trusted = self.file.read_bytes() if wants_client else None
        credentials = grpc.ssl_server_credentials([pair], trusted, wants_client)
        return Receiver(ssl_context=context, grpc_credentials=credentials)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls(monkeypatch: pytest.MonkeyPatch, authority: Authority, protocol: str) -> None:
    """Trusted with its authority's file, and told what to do without it; plain text to a TLS port is recognized."""
    with authority.receiver(authority.issue("localhost", LOOPBACK)) as running:
        endpoint = endpoint_of(running, protocol)
        found = report(endpoint, protocol)
        assert found.status == 1
        assert found.says("is not trusted", "OTEL_EXPORTER_OTLP_CERTIFICATE")
        found = report(endpoint.replace("https://", "http://"), protocol)
        assert found.status == 1
        assert found.says("speaks TLS, not plain text: the endpoint has to begin with https://")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
        found = report(endpoint, protocol)
        assert found.status == 0
        assert found.says("TLS works", "the certificate is trusted", str(authority.file))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_where_plain_text_is_spoken(receiver: Receiver, protocol: str) -> None:
    """https:// to a port without TLS is recognized."""
    found = report(endpoint_of(receiver, protocol).replace("http://", "https://"), protocol)
    assert found.status == 1
    assert found.says("does not speak TLS, but plain text: the endpoint has to begin with http://")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_certificates_that_are_not_good_enough(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, protocol: str
) -> None:
    """A certificate for another host and one that has expired are told apart."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
    for identity, words in (
        (authority.issue("collector.example"), "is for another host"),
        (authority.issue("localhost", LOOPBACK, days=-1), "has expired"),
    ):
        with authority.receiver(identity) as running:
            found = report(endpoint_of(running, protocol), protocol)
            assert found.status == 1
            assert found.says(words)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_wants_a_client_certificate(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, protocol: str
) -> None:
    """The variables for one are named; with them, spans arrive."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
    with authority.receiver(authority.issue("localhost", LOOPBACK), wants_client=True) as running:
        found = report(endpoint_of(running, protocol), protocol)
        assert found.status == 1
        assert found.says("client certificate", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
        client = authority.issue("client")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(client.certificate))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(client.key))
        assert report(endpoint_of(running, protocol), protocol).status == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_other_protocols_port_with_tls(
    monkeypatch: pytest.MonkeyPatch, authority: Authority, protocol: str
) -> None:
    """The wrong protocol for the port is recognized behind TLS too."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
    other = HTTP_PROTOBUF if protocol == GRPC else GRPC
    with authority.receiver(authority.issue("localhost", LOOPBACK)) as running:
        found = report(endpoint_of(running, other), protocol)
        assert found.status == 1
        assert found.says(f"OTEL_EXPORTER_OTLP_PROTOCOL={other}")


# -- what is configured ------------------------------------------------------------------------------------------


def test_settings_with_their_sources(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """What is not at its default is shown with its variable, what is at its default is not; no header's value."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint,
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer hunter2,x-tenant=a",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
        "OTEL_SHED_SHUTDOWN_GRACE": "1000",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = report()
    assert found.status == 0
    assert found.says(
        "max_queue_size 4096 (OTEL_BSP_MAX_QUEUE_SIZE; default unset)",
        "shutdown_grace_millis 1000 (OTEL_SHED_SHUTDOWN_GRACE; default 3000)",
        "protocol grpc (default)",
        f"endpoint {receiver.grpc_endpoint} (OTEL_EXPORTER_OTLP_ENDPOINT)",
        "headers authorization, x-tenant (OTEL_EXPORTER_OTLP_TRACES_HEADERS; the values are not shown)",
        "timeout 3 s (OTEL_EXPORTER_OTLP_TIMEOUT)",
        "compression gzip (OTEL_EXPORTER_OTLP_COMPRESSION)",
    )
    assert "hunter2" not in found.text
    assert "max_held_bytes" not in found.text


def test_a_setting_that_follows_from_another(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """A batch that is no larger than a small queue is told as that."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
    assert report(receiver.grpc_endpoint).says("max_export_batch_size 100 (follows from max_queue_size; default 512)")


def test_bad_variables(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Each is one warning, the span is sent all the same, and the environment stays as it is."""
    variables = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "many",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "some",
        "OTEL_TRACES_SAMPLER": "bogus",
        "OTEL_SHED_MAX_HELD_BYTE": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    found = report(receiver.grpc_endpoint)
    assert found.status == 0
    assert found.says(
        "OTEL_BSP_MAX_QUEUE_SIZE='many' is not",
        "OTEL_EXPORTER_OTLP_TIMEOUT='soon' is not",
        "OTEL_SPAN_EVENT_COUNT_LIMIT='some' is not",
        "OTEL_TRACES_SAMPLER='bogus' is not",
        "OTEL_SHED_MAX_HELD_BYTE is set, but there is no such variable; is OTEL_SHED_MAX_HELD_BYTES meant?",
    )
    assert dict(os.environ) == before


def test_without_the_compiled_parts(receiver: Receiver) -> None:
    """The report says that plain Python is used, and why."""
    command = [sys.executable, "-m", "otel_shed", "doctor", "--endpoint", receiver.grpc_endpoint]
    with Launched(command, {"OTEL_SHED_PURE_PYTHON": "true"}) as process:
        assert process.wait(30) == 0
        assert process.wait_for_line("the compiled parts are not in use: OTEL_SHED_PURE_PYTHON=true")


def test_a_variable_that_the_sdk_dies_of(receiver: Receiver) -> None:
    """In a process of its own, where the SDK is not imported yet, it is a warning too."""
    command = [sys.executable, "-m", "otel_shed", "doctor", "--endpoint", receiver.grpc_endpoint]
    with Launched(command, {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}) as process:
        assert process.wait(30) == 0
        assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT='many' is not" in process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "note opentelemetry-instrument does not use otel-shed: that takes OTEL_PYTHON_DISTRO=shed"),
        ({"OTEL_PYTHON_DISTRO": "shed"}, "ok opentelemetry-instrument uses otel-shed (OTEL_PYTHON_DISTRO=shed)"),
        ({"OTEL_PYTHON_DISTRO": "shed"}, "sets what is unset here: OTEL_TRACES_EXPORTER=otlp"),
        ({"OTEL_PYTHON_CONFIGURATOR": "shed"}, "ok opentelemetry-instrument uses otel-shed"),
        ({"OTEL_PYTHON_CONFIGURATOR": "shed"}, "sets what is unset here: OTEL_TRACES_EXPORTER=otlp"),
        (
            {"OTEL_PYTHON_DISTRO": "otel-shed"},
            "ok opentelemetry-instrument uses otel-shed (OTEL_PYTHON_DISTRO=otel-shed)",
        ),
        ({"OTEL_PYTHON_DISTRO": "Otel Shed"}, "exports nothing; OTEL_PYTHON_DISTRO=shed is meant?"),
        ({"OTEL_PYTHON_DISTRO": "bogus"}, "warn OTEL_PYTHON_DISTRO='bogus': none of that name is installed"),
        ({"OTEL_PYTHON_CONFIGURATOR": "otel-shed"}, "exports nothing; OTEL_PYTHON_CONFIGURATOR=shed is meant?"),
        ({"OTEL_PYTHON_DISTRO": "shed", "OTEL_SHED_ENABLED": "false"}, "the stock SDK runs in its place"),
        ({"OTEL_SDK_DISABLED": "true"}, "warn OTEL_SDK_DISABLED=true: nothing is traced"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "warn OTEL_TRACES_EXPORTER=console: no span goes to the collector"),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "warn OTEL_TRACES_SAMPLER=always_off"),
        (
            {"OTEL_PYTHON_DISTRO": "shed", "OTEL_TRACES_SAMPLER_ARG": "rate=100"},
            "note OTEL_TRACES_SAMPLER_ARG: at most 100 traces a second begin here",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "shed", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
            "note OTEL_TRACES_SAMPLER_ARG: at most 0.25 of the traces are recorded",
        ),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_shed", "OTEL_TRACES_SAMPLER_ARG": "rate=-7"},
            "warn OTEL_TRACES_SAMPLER_ARG='rate=-7' is not a number from 0 to 1, or rate= and a number above 0",
        ),
        ({"OTEL_CONFIG_FILE": "otel.yaml"}, "note OTEL_CONFIG_FILE=otel.yaml"),
        ({}, "note this environment gives the program no name: that is OTEL_SERVICE_NAME"),
        ({"OTEL_SERVICE_NAME": "shop"}, "(service shop, trace"),
        ({}, f"the compiled parts are {compiled_parts()}"),
    ],
)
def test_the_set_up(monkeypatch: pytest.MonkeyPatch, receiver: Receiver, variables: dict[str, str], words: str) -> None:
    """What the launcher would make of this environment; the span is sent whatever that is."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = report(receiver.grpc_endpoint)
    assert found.status == 0
    assert found.says(words)


@pytest.mark.parametrize(
    "variables", [{"OTEL_TRACES_SAMPLER": "parentbased_shed", "OTEL_SHED_ENABLED": "false"}, {}], ids=str
)
def test_a_ceiling_that_is_not_in_force(variables: dict[str, str]) -> None:
    """Nothing is said of a ceiling where none of our samplers is at work."""
    findings = launcher_findings(variables | {"OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert not [finding for finding in findings if "OTEL_TRACES_SAMPLER_ARG" in finding.text]


# -- how it is printed -------------------------------------------------------------------------------------------


def printed(endpoint: str, protocol: str, **how: bool) -> str:
    out = io.StringIO()
    run_doctor(endpoint=endpoint, protocol=protocol, timeout=2.0, out=out, **how)
    return out.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, tmp_path: Path, columns: int
) -> None:
    """No line is wider than the terminal, but for a word that is; what is wide is as wide as is good to read."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("OTEL_PYTHON_DISTRO", "shed")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2,x-tenant=a,x-another-one=b")
    monkeypatch.setenv("OTEL_SHED_HIGH_PRIORITY_NAMES", ",".join(f"checkout-{number}*" for number in range(12)))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    for endpoint in (receiver.grpc_endpoint, f"http://127.0.0.1:{free_port()}"):
        for line in printed(endpoint, GRPC).splitlines():
            assert len(line) <= columns or len(line.split()) <= 2, line


def test_a_table_is_of_one_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources stand below one another, or, where one row is too wide for that, beside their values in all of them."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("COLUMNS", "80")
    wide = printed(endpoint, GRPC)
    assert "  traces go to     otlp                   (set by the stock distro)\n" in wide
    monkeypatch.setenv("COLUMNS", "60")
    narrow = printed(endpoint, GRPC)
    assert "  sampler          parentbased_always_on (the SDK's default)\n" in narrow
    assert "  SIGTERM flushes  no (default)\n" in narrow


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_failure_is_told_once(receiver: Receiver, protocol: str) -> None:
    """In words, the libraries' own only where they are asked for, and of the test span no more than is new."""
    endpoint = endpoint_of(receiver, protocol).replace("http://", "https://")
    text, verbose = printed(endpoint, protocol), printed(endpoint, protocol, verbose=True)
    for raw in ("WRONG_VERSION_NUMBER", "SSL_ERROR", "_ssl.c", "error:", "UNAVAILABLE", "wrong version number"):
        assert raw not in text
    assert text.count("does not speak TLS, but plain text") == 1
    assert "it does not arrive, for the reason above" in text
    assert "--verbose adds the libraries' own words." in text
    assert "in the library's words: " in verbose
    assert "WRONG_VERSION_NUMBER" in verbose
    refused = printed(f"http://127.0.0.1:{free_port()}", protocol)
    assert refused.lower().count("refused") == 1
    assert "Errno" not in refused


def test_another_server_in_words() -> None:
    """What HTTP/2 says of a web server is not shown."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        text = printed(f"http://127.0.0.1:{listening.getsockname()[1]}", GRPC)
    assert "SETTINGS" not in text
    assert "frame" not in text


def test_json(receiver: Receiver) -> None:
    """One object with the same findings, and the libraries' own words beside them."""
    found = json.loads(printed(receiver.grpc_endpoint, GRPC, as_json=True))
    assert found["arrived"] is True
    assert found["result"] == "Spans arrive."
    assert {"name": "protocol", "value": "grpc", "source": "--protocol"} in found["exporter"]
    assert {finding["mark"] for finding in found["test_span"]} == {"ok"}
    assert {"versions", "set_up", "program", "settings", "collector"} <= set(found)
    failed = json.loads(printed(f"http://127.0.0.1:{free_port()}", GRPC, as_json=True))
    assert failed["arrived"] is False
    assert failed["test_span"][0]["mark"] == "fail"
    assert "refused" in failed["test_span"][0]["raw"].lower()
    assert json.loads(printed("http://", GRPC, as_json=True))["result"] == "No span was sent."


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ("sampler parentbased_always_on (the SDK's default)", "SIGTERM flushes no")),
        (
            {"OTEL_PYTHON_DISTRO": "shed"},
            (
                "sampler parentbased_shed (set by otel-shed)",
                "traces go to otlp (set by otel-shed)",
                "metrics go to otlp (set by otel-shed)",
                "logs go to otlp (set by otel-shed)",
                "SIGTERM flushes yes (set by otel-shed)",
            ),
        ),
        (
            {
                "OTEL_PYTHON_CONFIGURATOR": "shed",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.25",
                "OTEL_METRICS_EXPORTER": "console",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_SHED_FLUSH_ON_SIGTERM": "false",
            },
            (
                "sampler parentbased_traceidratio, '0.25' (OTEL_TRACES_SAMPLER)",
                "metrics go to console (OTEL_METRICS_EXPORTER)",
                "logs go to none (OTEL_LOGS_EXPORTER)",
                "SIGTERM flushes no (OTEL_SHED_FLUSH_ON_SIGTERM)",
            ),
        ),
        ({"OTEL_CONFIG_FILE": "otel.yaml"}, ("sampler as the file says (OTEL_CONFIG_FILE)",)),
    ],
)
def test_what_a_program_gets(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    """Its sampler, the exporters of its three signals, and whether SIGTERM flushes, each with where it comes from."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert report(receiver.grpc_endpoint).says(*words, "the compiled parts are")


def test_where_the_headers_come_from(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """From the endpoint where it has credentials, from their own variable, or from both."""
    endpoint = receiver.http_endpoint.replace("http://", "http://user:hunter2@")
    assert report(endpoint, HTTP_PROTOBUF).says("headers authorization (--endpoint; the values are not shown)")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a")
    found = report(None, HTTP_PROTOBUF)
    sources = "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS"
    assert found.says(f"headers authorization, x-tenant ({sources}; the values are not shown)")
    assert "hunter2" not in found.text


def test_a_time_limit_in_milliseconds(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Milliseconds, as the specification has them, are warned about; a long time that can be meant is not."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    assert report(receiver.grpc_endpoint).says(
        "warn OTEL_EXPORTER_OTLP_TIMEOUT is in seconds: 10,000 s is 2.8 hours for one request. "
        "If milliseconds are meant, 10 says it"
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    assert "is in seconds" not in report(receiver.grpc_endpoint).text


def test_every_variable_that_is_read_is_known(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """Each OTEL_SHED_ variable that the library's code names is one that the doctor knows, and the README has."""
    folder = Path(otel_shed.__file__).parent
    code = "".join(path.read_text() for path in folder.rglob("*.py"))
    read = set(re.findall(r"\bOTEL_SHED_[A-Z_]*[A-Z]\b", code))
    assert "OTEL_SHED_PURE_PYTHON" in read
    readme = (folder.parent / "README.md").read_text()
    assert [name for name in sorted(read) if name not in readme] == []
    found = [finding.text for finding in launcher_findings(dict.fromkeys(read, "true"))]
    assert [text for text in found if "no such variable" in text] == []
    monkeypatch.setenv("OTEL_SHED_PURE_PYTHON", "true")
    assert report(receiver.grpc_endpoint).says("pure_python true (OTEL_SHED_PURE_PYTHON; default false)")
