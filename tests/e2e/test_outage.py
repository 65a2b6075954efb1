"""The outage as a user runs it, only shorter: a collector is stopped and comes back, and the account agrees."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Mapping

import psutil
import pytest

from otel_shed.command import collector
from otel_shed.command.collector import Collector, OwnReceiver, Rotel, start_collector
from otel_shed.command.companion import StartError
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF
from otel_shed.testing.receiver import Receiver
from tests.launched import Launched, answers, until


def outage(*arguments: str, variables: Mapping[str, str] = {}) -> Launched:
    return Launched([sys.executable, "-m", "otel_shed", "outage", *arguments], variables)


def number(output: str, label: str) -> int:
    """The number in a row of the account."""
    found = re.search(rf"^ +{re.escape(label)} +([\d,]+)", output, re.MULTILINE)
    assert found is not None, f"no row {label!r}:\n{output}"
    return int(found[1].replace(",", ""))


def counted(output: str) -> int:
    """What the collector says that it received."""
    found = re.search(r"the collector counted ([\d,]+)", output)
    assert found is not None, output
    return int(found[1].replace(",", ""))


def pid(process: Launched) -> int:
    """The collector's process id."""
    found = re.search(r"\(process (\d+)\)", process.wait_for_line("Collector: "))
    assert found is not None
    return int(found[1])


def needs(kind: str) -> None:
    if kind == "rotel":
        try:
            collector._rotel_binary()
        except StartError as error:
            pytest.skip(f"NOT RUN: rotel: {error} (its wheel is for x86-64 Linux with glibc >= 2.34 alone)")


@pytest.mark.parametrize("kind", ["rotel", "receiver"])
@pytest.mark.parametrize("protocol", [GRPC, HTTP_PROTOBUF])
def test_the_account_balances(kind: str, protocol: str) -> None:
    """Nothing is unaccounted for after an outage, and the collector's own count is what was exported."""
    needs(kind)
    with outage("--seconds", "3", "--stopped", "1", "--collector", kind, "--protocol", protocol) as process:
        assert process.wait(40) == 0, process.output
        output = process.output
    assert ("rotel " if kind == "rotel" else "the receiver of otel_shed.testing") in output
    assert "the collector is stopped" in output
    assert "the collector runs again" in output
    assert number(output, "unaccounted") == 0
    assert number(output, "ended") > 1000
    assert counted(output) == number(output, "exported") > 0
    assert number(output, "Span.end(), worst") >= number(output, "Span.end(), median")
    assert process.lines[-1].startswith("OK: ")


def test_an_outage_that_fills_the_queue() -> None:
    """What does not fit into the queue while the collector is stopped is shed, and nothing else is lost."""
    with outage("--seconds", "3", "--stopped", "1.5", variables={"OTEL_BSP_MAX_QUEUE_SIZE": "200"}) as process:
        assert process.wait(40) == 0, process.output
        output = process.output
    assert number(output, "dropped") > 0
    assert not any(reason in output for reason in ("retry_exhausted", "export_timeout", "exporter_error"))
    assert number(output, "ended") == number(output, "exported") + number(output, "dropped")
    assert counted(output) == number(output, "exported")


def test_what_is_set_for_another_collector() -> None:
    """Neither its endpoint, headers and time limits nor what switches the SDK off reach the command's own collector."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1",
        "OTEL_BSP_EXPORT_TIMEOUT": "100",
        "OTEL_SDK_DISABLED": "true",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "many",
        "http_proxy": "http://127.0.0.1:1",
    }
    with outage("--seconds", "2", "--stopped", "0.5", variables=variables) as process:
        assert process.wait(40) == 0, process.output
        assert counted(process.output) == number(process.output, "exported") > 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_outage(signum: signal.Signals) -> None:
    """In the middle of the outage too, the account is printed and balances, and no collector is left behind."""
    with outage("--seconds", "60", "--stopped", "59") as process:
        process.wait_for_line("what ends now has to wait")
        process.send(signum)
        assert process.wait(20) == 0, process.output
        assert "Interrupted" in process.output
        assert number(process.output, "unaccounted") == 0
        assert counted(process.output) == number(process.output, "exported")
        assert not psutil.pid_exists(pid(process))


def test_a_collector_that_dies() -> None:
    """The command says so, goes on to its end, and fails: what the collector took is not known to have been kept."""
    with outage("--seconds", "1.5", "--stopped", "0", "--collector", "receiver") as process:
        psutil.Process(pid(process)).kill()
        assert process.wait(40) == 1, process.output
        assert "gone" in process.output
        assert number(process.output, "unaccounted") == 0
        assert "FAILED: the collector did not tell what it received" in process.output


def test_a_collector_that_is_there_already() -> None:
    """With --endpoint it is used as it is: not stopped, and not asked for its count."""
    with Receiver() as receiver, outage("--seconds", "1", "--endpoint", receiver.grpc_endpoint) as process:
        assert process.wait(40) == 0, process.output
        assert "STOPPED" not in process.output
        assert "the collector counted" not in process.output
        assert number(process.output, "exported") == receiver.counts.spans > 0


def test_an_endpoint_where_nobody_is() -> None:
    """Everything is counted as dropped, what the library logs is shown, and the doctor is recommended."""
    with outage("--seconds", "1", "--endpoint", "http://127.0.0.1:1") as process:
        assert process.wait(40) == 0, process.output
        assert number(process.output, "dropped") == number(process.output, "ended")
        assert "  log: warning: " in process.output
        assert "otel-shed doctor --endpoint http://127.0.0.1:1 --protocol grpc tells why" in process.output


# -- the collector's process -------------------------------------------------------------------------------------


def test_the_receiver_where_there_is_no_rotel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes rotel's place, and why is told; who insists on rotel hears why not."""

    def missing() -> object:
        raise StartError("it is not installed")

    monkeypatch.setattr(collector, "_rotel_binary", missing)
    running, why = start_collector()
    with running:
        assert isinstance(running, OwnReceiver)
        assert why == "rotel cannot be used here: it is not installed"
    with pytest.raises(StartError, match="it is not installed"):
        start_collector("rotel")


@pytest.mark.parametrize("kind", [Rotel, OwnReceiver])
def test_both_protocols(kind: type[Collector]) -> None:
    """Each collector listens for both, and is gone after ``close``, also when it was stopped."""
    needs("rotel" if kind is Rotel else "receiver")
    running = kind()
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in running.endpoints.values()]
    try:
        assert set(running.endpoints) == {GRPC, HTTP_PROTOBUF}
        assert all(answers(port) for port in ports)
        running.stop()
        until(lambda: psutil.Process(running.pid).status() == psutil.STATUS_STOPPED)
    finally:
        running.close()
    assert not running.running
    assert not any(answers(port) for port in ports)
    running.close()


class _Failing(Collector):
    """Ends before it is ready."""

    def __init__(self) -> None:
        super().__init__([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"], {})
        self._wait_until(lambda: False)

    def _take(self, line: str) -> None:
        pass


def test_a_collector_that_does_not_start() -> None:
    """Its own last words are the error's."""
    with pytest.raises(StartError, match="status 3 and said: no such luck"):
        _Failing()


def test_the_outage_without_a_collector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If none can be started, that is one line and status 1."""
    from otel_shed.cli import main

    def missing(*_: object, **__: object) -> object:
        raise OSError("no processes left")

    monkeypatch.setattr(subprocess, "Popen", missing)
    assert main(["outage"]) == 1
    assert "no collector could be started: no processes left" in capsys.readouterr().err
