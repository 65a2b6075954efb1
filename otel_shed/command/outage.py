"""The outage: a traced workload, a collector that goes away and comes back, the account of every span at the end.

Called by the command on its main thread, which starts the threads of the workload and stops them. The rule: whatever
happens, Ctrl-C included, the collector is gone and the environment is as before when ``run_outage`` has returned, and
the account is printed if there is one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from otel_shed.command.account import Evidence, verdict, write_account
from otel_shed.command.collector import Collector, Kind, start_collector
from otel_shed.command.surroundings import as_before, interrupted_by_sigterm, logs_to
from otel_shed.command.view import LiveView
from otel_shed.command.workload import THREADS, Shop
from otel_shed.otlp.settings import GRPC
from otel_shed.sdk_environment import repair_limits

if TYPE_CHECKING:  # the SDK reads the environment when it is imported, so that comes after the repairs
    from otel_shed.stats import Stats

_HEADING = "  time  collector  ended/s  exported  queued  in flight  dropped  phase"
_RATE_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class OutageOptions:
    """seconds: how long the workload runs. outage: for how many of them the collector is stopped. rate: spans a second.

    endpoint: of a collector that is there already, which is then neither started, stopped nor asked for its count.
    protocol: grpc or http/protobuf; grpc, or with ``endpoint`` what the environment says, if None.
    """

    seconds: float = 20.0
    outage: float = 5.0
    rate: float = 700.0
    endpoint: str | None = None
    protocol: str | None = None
    collector: Kind = "auto"

    @property
    def stopped(self) -> tuple[float, float]:
        """From when to when, in seconds of the show, the collector is stopped; later there is time to recover."""
        begin = max(0.0, self.seconds - self.outage) / 3
        return begin, min(self.seconds, begin + self.outage)


def run_outage(options: OutageOptions, out: TextIO) -> int:
    """Run it; the exit status. Raises StartError if none can be started."""
    with ExitStack() as stack:
        stack.enter_context(as_before(os.environ))
        repair_limits(os.environ)
        os.environ.pop("OTEL_SDK_DISABLED", None)
        stack.enter_context(interrupted_by_sigterm())
        collector: Collector | None = None
        if options.endpoint is None:
            out.write("Starting a collector on loopback ...\n")
            collector, why = start_collector(options.collector)
            stack.enter_context(collector)
            if why:
                out.write(f"({why})\n")
        return _Outage(options, collector, out).run()


class _Outage:
    def __init__(self, options: OutageOptions, collector: Collector | None, out: TextIO) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider

        from otel_shed.config import ShedConfig
        from otel_shed.otlp.exporter import OTLPSpanExporter
        from otel_shed.shedder import LoadShedder

        self._options = options
        self._collector = collector
        self._out = out
        self._view = LiveView(out, _HEADING)
        self._is_stopped = False
        self._rate: deque[tuple[float, int]] = deque()
        # The request that the outage catches is to be answered late, not to be sent, and counted, a second time.
        patience = options.outage + 25
        protocol = options.protocol or (GRPC if collector else None)
        endpoint = collector.endpoints[protocol or GRPC] if collector else options.endpoint
        self._exporter = OTLPSpanExporter(
            protocol=protocol,
            endpoint=endpoint,
            timeout=patience if collector else None,
            # What is set for another collector (headers, certificates, proxies) is not for ours.
            environ={} if collector else os.environ,
            channel_options=(("grpc.enable_http_proxy", 0),) if collector else None,
        )
        config = ShedConfig.from_env(enabled=True)
        if collector:
            config = replace(config, export_timeout_millis=patience * 1000)
        self._shedder = LoadShedder(config, exporter=self._exporter)
        self._provider = TracerProvider(
            sampler=self._shedder.sampler(),
            resource=Resource.create({SERVICE_NAME: "otel-shed-outage"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._shedder.span_processor())
        self._shop = Shop(self._provider, spans_per_second=options.rate)

    def run(self) -> int:
        """Show it; the exit status."""
        self._introduce()
        self._view.open()
        with logs_to(self._view):
            try:
                self._shop.start()
                self._watch()
            except KeyboardInterrupt:
                self._view.say("  Interrupted: this is where it ends.")
            finally:
                self._close()
        self._view.close()
        return self._conclude()

    def _introduce(self) -> None:
        options, settings = self._options, self._exporter.settings
        begin, end = options.stopped
        endpoint = self._collector.endpoints[settings.protocol] if self._collector else settings.shown_endpoint
        whose = f"{self._collector.name} (process {self._collector.pid}), " if self._collector else ""
        lines = [
            f"Collector: {whose}{endpoint}, {settings.protocol}.",
            f"Workload:  a web shop, {THREADS} threads, {options.rate:,.0f} spans a second for {options.seconds:g} s.",
            f"Queue:     {self._shedder.stats().queue_capacity:,} spans.",
        ]
        if self._collector and end > begin:
            lines.append(f"Outage:    from {begin:.1f} s to {end:.1f} s the collector is stopped (SIGSTOP).")
        self._out.write("\n".join(lines) + "\n\n")

    def _watch(self) -> None:
        """Show what goes on, and stop the collector for a while, until the time is over."""
        options = self._options
        began = time.monotonic()
        begin, end = options.stopped
        pause = threading.Event()  # waits as sleep() does, and lets Ctrl-C through on every platform
        while (now := time.monotonic() - began) < options.seconds:
            if self._collector and begin < end:
                if not self._is_stopped and begin <= now < end:
                    self._is_stopped = True
                    self._collector.stop()
                    self._view.say(f"  {now:4.1f}  the collector is stopped; what ends now has to wait")
                elif self._is_stopped and now >= end:
                    self._let_go_on(f"  {now:4.1f}  the collector runs again")
            self._view.row(now, self._row(now))
            pause.wait(min(self._view.refresh, options.seconds - now))
        self._let_go_on(f"  {options.seconds:4.1f}  the collector runs again")
        self._shop.stop()
        self._view.row(now, self._row(now), force=True)

    def _let_go_on(self, text: str) -> None:
        if self._collector and self._is_stopped:
            self._is_stopped = False
            self._collector.go_on()
            self._view.say(text)

    def _row(self, now: float) -> str:
        stats = self._shedder.stats()
        return (
            f" {now:5.1f}  {self._state(stats):<9}  {self._ended_per_second(now, stats.ended):>7,.0f}  "
            f"{stats.exported:>8,}  {stats.queued:>6,}  {stats.in_flight:>9,}  {sum(stats.dropped.values()):>7,}  "
            f"{stats.phase.name.lower()}"
        )

    def _state(self, stats: Stats) -> str:
        if self._collector is None:
            if not stats.exporter_healthy:
                return "failing"
            return "healthy" if stats.exports_succeeded else "waiting"
        if not self._collector.running:
            return "gone"
        return "STOPPED" if self._is_stopped else "running"

    def _ended_per_second(self, now: float, ended: int) -> float:
        while self._rate and now - self._rate[0][0] > _RATE_WINDOW_SECONDS:
            self._rate.popleft()
        self._rate.append((now, ended))
        (before, ended_before), (after, ended_after) = self._rate[0], self._rate[-1]
        return (ended_after - ended_before) / (after - before) if after > before else 0.0

    def _close(self) -> None:
        """Let the collector answer, end the workload, deliver what is held."""
        if self._collector and self._is_stopped:
            self._is_stopped = False
            self._collector.go_on()
        self._shop.stop()
        self._provider.shutdown()

    def _conclude(self) -> int:
        evidence = Evidence(
            stats=self._shedder.stats(),
            recorded=self._shop.recorded,
            end_times=self._shop.end_times(),
            counted=self._collector.finish() if self._collector else None,
            counts=self._collector is not None,
            outage=self._collector is not None and self._options.outage > 0,
        )
        self._out.write("\nThe account of every span:\n\n")
        write_account(evidence, self._out)
        status, text = verdict(evidence)
        self._out.write(f"\n{text}\n")
        if self._collector is None and not evidence.stats.exported:
            settings = self._exporter.settings
            asked = f"--endpoint {settings.shown_endpoint} --protocol {settings.protocol}"
            self._out.write(f"Nothing was exported: otel-shed doctor {asked} tells why.\n")
        return status
