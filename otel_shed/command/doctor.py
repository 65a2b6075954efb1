"""The doctor: what is configured, how far one gets to the collector, and what becomes of one test span.

Called by the command on its main thread. The rule: whatever is wrong with the environment or the network is a line of
the report, never an exception, and the report is at its end after about three times the patience.
"""

from __future__ import annotations

import logging
import os
import textwrap
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, TextIO

from otel_shed.command.reach import in_short, within
from otel_shed.command.setup import (
    Row,
    compiled_findings,
    exporter_rows,
    launcher_findings,
    name_findings,
    shed_rows,
    versions,
)
from otel_shed.command.surroundings import as_before, logs_to
from otel_shed.command.survey import Finding, Mark, Survey
from otel_shed.config import ShedConfig
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import Outcome
from otel_shed.sdk_environment import repair_components, repair_limits, repair_set_up

if TYPE_CHECKING:  # the SDK reads the environment when it is imported, so that comes after the repairs
    from otel_shed.otlp.exporter import OTLPSpanExporter

_WIDTH = 110
_MARK = 6


def run_doctor(*, endpoint: str | None, protocol: str | None, timeout: float, out: TextIO) -> int:
    """Report; 0 if the collector accepted the test span, else 1. ``timeout``: seconds to wait for any one answer."""
    # gRPC's own lines on standard error say nothing that the report does not.
    quiet = {} if "GRPC_VERBOSITY" in os.environ else {"GRPC_VERBOSITY": "NONE"}
    warnings = _Warnings()
    misnamed = list(name_findings(os.environ))
    with as_before(os.environ), logs_to(warnings):
        repair_limits(os.environ)
        repair_set_up(os.environ)
        repair_components(os.environ)
        os.environ.update(quiet)
        return _Doctor(out, warnings, timeout).examine(endpoint, protocol, misnamed)


class _Doctor:
    def __init__(self, out: TextIO, warnings: _Warnings, patience: float) -> None:
        self._out = out
        self._warnings = warnings
        self._patience = patience

    def examine(self, endpoint: str | None, protocol: str | None, misnamed: Iterable[Finding]) -> int:
        self._out.write(f"{versions()}\n")
        self._section("Set-up", chain(misnamed, launcher_findings(os.environ), compiled_findings()))
        config = ShedConfig.from_env()
        rows = list(shed_rows(config, os.environ))
        self._table("Settings", rows or [Row("all at their defaults", "")])
        try:
            exporter = self._exporter(endpoint, protocol)
        except ValueError as error:
            self._section("Exporter", [Finding(Mark.FAIL, str(error))])
            self._out.write("\nNo span was sent.\n")
            return 1
        self._table("Exporter", exporter_rows(exporter.settings, os.environ))
        self._section("Warnings", [Finding(Mark.WARN, text) for text in self._warnings.take()])
        survey = Survey(exporter.settings, os.environ, patience=self._patience)
        self._section("Collector", survey.findings())
        self._out.write("\nTest span\n")
        finding = self._send_test_span(exporter)
        self._finding(finding)
        for text in self._warnings.take():
            self._finding(Finding(Mark.WARN, text))
        arrived = finding.mark is Mark.OK
        self._out.write(f"\n{'Spans arrive.' if arrived else 'Spans do not arrive.'}\n")
        return 0 if arrived else 1

    def _exporter(self, endpoint: str | None, protocol: str | None) -> OTLPSpanExporter:
        from otel_shed.otlp.exporter import OTLPSpanExporter

        return OTLPSpanExporter(protocol=protocol, endpoint=endpoint)

    def _send_test_span(self, exporter: OTLPSpanExporter) -> Finding:
        from opentelemetry.sdk.resources import SERVICE_NAME
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        from otel_shed.otlp.proof import encode_span

        # The doctor tests the way to the collector, also where the program itself is not to be traced.
        os.environ.pop("OTEL_SDK_DISABLED", None)
        provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        span = provider.get_tracer("otel_shed.doctor").start_span("otel-shed doctor")
        span.end()
        assert isinstance(span, ReadableSpan)
        # One attempt, and no wait, not even one that the collector asks for.
        exporter.hurry()
        records, budget = [encode_span(span)], min(self._patience, exporter.settings.timeout)
        try:
            outcome = within(budget + 0.5, lambda: exporter.send_records(records, budget=budget))
        except TimeoutError:
            return Finding(Mark.FAIL, f"nothing came of it within {budget:g} s")
        attempt = exporter.last_attempt
        exporter.shutdown(0)
        service = provider.resource.attributes.get(SERVICE_NAME)
        return _judged(outcome, attempt, f"service {service}, trace {span.get_span_context().trace_id:032x}")

    # -- the report ----------------------------------------------------------------------------------------------

    def _section(self, title: str, findings: Iterable[Finding]) -> None:
        """Lines under a title, each as soon as it is known; no title where there is none."""
        titled = False
        for finding in findings:
            if not titled:
                self._out.write(f"\n{title}\n")
                titled = True
            self._finding(finding)

    def _finding(self, finding: Finding) -> None:
        margin = " " * (_MARK + 2)
        text = textwrap.fill(
            finding.text,
            _WIDTH,
            initial_indent=margin,
            subsequent_indent=margin,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self._out.write(f"  {finding.mark.value:<{_MARK}}{text.lstrip()}\n")
        self._out.flush()

    def _table(self, title: str, rows: Iterable[Row]) -> None:
        rows = list(rows)
        names, values = max(len(row.name) for row in rows), max(len(row.value) for row in rows)
        self._out.write(f"\n{title}\n")
        for row in rows:
            source = f"({row.source})" if row.source else ""
            self._out.write(f"  {row.name:<{names}}  {row.value:<{values}}  {source}".rstrip() + "\n")


def _judged(outcome: Outcome, attempt: Attempt | None, what: str) -> Finding:
    took = f"{outcome.duration * 1000:,.0f} ms"
    if outcome.accepted:
        said = f"; it says: {outcome.message}" if outcome.message else ""
        return Finding(Mark.OK, f"the collector accepted it after {took} ({what}){said}")
    if outcome.rejected:
        return Finding(Mark.FAIL, f"the collector took the request and rejected the span: {outcome.message}")
    if attempt is None:
        return Finding(Mark.FAIL, f"it could not be sent: {outcome.message}")
    if attempt.timed_out:
        return Finding(Mark.FAIL, f"no answer came within {took}")
    said = in_short(attempt)
    if attempt.retry_after is not None:
        return Finding(Mark.FAIL, f"the collector asks for a wait of {attempt.retry_after:g} s: {said}")
    if attempt.code.startswith(("2", "3")):  # an answer, but none of a collector's
        return Finding(Mark.FAIL, f"no collector took it: {said}")
    if attempt.answered:
        whether = "a program would try again" if attempt.verdict is Verdict.RETRYABLE else "it is not to be sent again"
        return Finding(Mark.FAIL, f"the collector refuses it: {said} ({whether})")
    return Finding(Mark.FAIL, f"it did not get through: {said}")


class _Warnings(logging.Handler):
    """Keeps what is logged, for the report to show at its place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())

    def take(self) -> list[str]:
        """What came since the last time."""
        texts, self._texts = self._texts, []
        return texts
