"""Collectors that hang, that are killed in a storm and come back, and names that nobody knows for a while."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_shed import LoadShedder, OTLPSpanExporter, Phase, ShedConfig
from otel_shed.testing.receiver import Receiver
from tests.faults.sending import GRPC, HTTP
from tests.faults.storms import Storm, collector, ended, program
from tests.launched import free_port

CASES = [(protocol, how) for protocol in (GRPC, HTTP) for how in ("killed", "hung")]
# Spans a second, and for how many seconds. Nothing of what is tried lasts longer than the time-out of a request.
LOADS = {"killed": ((2_000, 6.0), (100, 9.5)), "hung": ((100, 15.5),)}
VARIABLES = {"OTEL_SHED_CALM": "1000", "OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
BEGINS, LASTS = 2.0, 3.5


@pytest.fixture(scope="module")
def outages() -> Iterator[dict[tuple[str, str], tuple[Storm, float]]]:
    """An outage each, all at the same time; and when it was over, by the program's clock."""
    with ExitStack() as stack:
        ports = [free_port() for _ in CASES]
        collectors = [
            stack.enter_context(collector(protocol, "slow", 1e6, port))
            for (protocol, _), port in zip(CASES, ports, strict=True)
        ]
        runs = [
            stack.enter_context(program(protocol, endpoint, *LOADS[how], **VARIABLES))
            for (protocol, how), (_, endpoint) in zip(CASES, collectors, strict=True)
        ]
        for run in runs:
            run.wait_for_line("stats ")
        time.sleep(BEGINS)
        for (_, how), (collecting, _) in zip(CASES, collectors, strict=True):
            # One that is stopped has its connections accepted by the kernel, and never answers.
            collecting.stop() if how == "killed" else collecting.send(signal.SIGSTOP)
        time.sleep(LASTS)
        over = []
        for number, ((protocol, how), port) in enumerate(zip(CASES, ports, strict=True)):
            if how == "killed":
                collectors[number] = stack.enter_context(collector(protocol, "slow", 1e6, port))
            else:
                collectors[number][0].send(signal.SIGCONT)
            over.append(max(float(line.split(" ", 3)[2].rstrip(",")) for line in runs[number].lines if '"at"' in line))
        storms = ended(runs, [collecting for collecting, _ in collectors], timeout=60.0)
        yield dict(zip(CASES, zip(storms, over, strict=True), strict=True))


def _phases(storm: Storm) -> list[str]:
    return [phase for _, phase, _ in storm.changes if phase != "observe"]


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_collector_that_is_killed_in_a_storm(
    protocol: str, outages: dict[tuple[str, str], tuple[Storm, float]]
) -> None:
    """Shedding begins for `export_failures` among others, and ends within 10 s of the storm; the account balances."""
    storm, _ = outages[protocol, "killed"]
    assert _phases(storm)[0] == "degrade"
    assert _phases(storm)[-2:] == ["recovery", "normal"], storm.log
    assert any("export_failures" in line for _, phase, line in storm.changes if phase in ("degrade", "shed_optional"))
    assert storm.full_again_after is not None
    print(f"\nfull fidelity {storm.full_again_after:.1f} s after the storm")
    assert storm.full_again_after <= 10.0
    assert {reading.unaccounted for reading in storm.readings} == {0}
    last = storm.readings[-1]
    assert last.ended == last.exported + last.summarized + sum(last.dropped.values())
    assert set(last.dropped) <= {"queue_full", "over_budget"}


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_collector_that_hangs(protocol: str, outages: dict[tuple[str, str], tuple[Storm, float]]) -> None:
    """DEGRADE for `export_latency`, held for `export_timeouts`, over with the first answer; no span is lost."""
    storm, over = outages[protocol, "hung"]
    assert _phases(storm) == ["degrade", "recovery", "normal"], storm.log
    began = next(line for _, phase, line in storm.changes if phase == "degrade")
    assert "export_latency" in began
    assert "export_timeouts" in {reason for reading in storm.readings for reason in reading.reasons}
    normal_at = storm.changes[-1][0]
    print(f"\nnormal {normal_at - over:.1f} s after the collector")
    assert normal_at - over <= 10.0
    last = storm.readings[-1]
    assert (last.exported, dict(last.dropped), last.summarized) == (last.ended, {}, 0)
    assert {reading.unaccounted for reading in storm.readings} == {0}
    assert {reading.probability for reading in storm.readings} == {1.0}, "100 spans a second were never too much"


class Program:
    """One with little to tell, to a collector at ``endpoint``."""

    def __init__(self, protocol: str, endpoint: str) -> None:
        exporter = OTLPSpanExporter(protocol, endpoint, environ={})
        self.shedder = LoadShedder(ShedConfig(calm_millis=300, schedule_delay_millis=50), exporter=exporter)
        self.provider = TracerProvider(sampler=self.shedder.sampler(), shutdown_on_exit=False)
        self.provider.add_span_processor(self.shedder.span_processor())
        self._tracer = self.provider.get_tracer(__name__)
        self.reasons: dict[Phase, set[str]] = {}

    def work_until(self, phase: Phase) -> None:
        """End spans until it is in this phase; remembers the reasons of each on the way there."""
        deadline = time.monotonic() + 30.0
        while (now := self.shedder.brownout()).phase is not phase:
            assert time.monotonic() < deadline, now
            self._tracer.start_span("work").end()
            self.reasons.setdefault(now.phase, set()).update(now.reasons)
            time.sleep(0.02)
        self.reasons.setdefault(phase, set()).update(now.reasons)


def test_a_name_that_is_not_known_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEGRADE for `export_failures` while the name does not resolve; once it does, all is delivered, and NORMAL."""
    resolve, known = socket.getaddrinfo, False

    def getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
        if host != "collector.example":
            return resolve(host, *arguments, **named)
        if not known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Receiver(grpc_port=None) as receiver:
        program = Program(HTTP, f"http://collector.example:{receiver.http_port}/v1/traces")
        program.work_until(Phase.DEGRADE)
        known = True
        program.work_until(Phase.NORMAL)
        assert "export_failures" in program.reasons[Phase.DEGRADE]
        assert Phase.RECOVERY in program.reasons
        program.provider.shutdown()
        stats = program.shedder.stats()
        assert (stats.exported, dict(stats.dropped), stats.unaccounted) == (stats.ended, {}, 0)
        assert receiver.counts.spans == stats.ended


def test_a_name_that_nobody_knows_over_grpc() -> None:
    """The same for gRPC, which has a resolver of its own: DEGRADE, and what is left behind is accounted for."""
    program = Program(GRPC, "http://collector.invalid:4317")
    program.work_until(Phase.DEGRADE)
    assert program.reasons[Phase.DEGRADE] & {"export_failures", "export_timeouts", "export_latency"}
    program.provider.shutdown()
    stats = program.shedder.stats()
    assert set(stats.dropped) <= {"shutdown", "retry_exhausted", "export_timeout"}
    assert (sum(stats.dropped.values()), stats.unaccounted) == (stats.ended, 0)
