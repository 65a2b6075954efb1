"""The doctor: what is configured, how far one gets to the collector, and what becomes of one test span.

Called by the command on its main thread. The rule: whatever is wrong with the environment or the network is a line of
the report, never an exception, and the report is at its end after about three times the patience.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, TextIO

from otel_shed.command.doctor_report import DoctorReport, JSONReport, TextReport, has_failed, terminal_width
from otel_shed.command.reach import in_short, within
from otel_shed.command.setup import (
    Row,
    compiled_findings,
    exporter_rows,
    launcher_findings,
    name_findings,
    program_rows,
    shed_rows,
    timeout_findings,
    versions,
)
from otel_shed.command.surroundings import as_before, logs_to
from otel_shed.command.survey import Finding, Mark, Survey
from otel_shed.config import ShedConfig
from otel_shed.log_limit import PREFIX
from otel_shed.otlp.retry import Attempt, Verdict
from otel_shed.outcome import Outcome
from otel_shed.sdk_environment import repair_components, repair_limits, repair_set_up

if TYPE_CHECKING:  # the SDK reads the environment when it is imported, so that comes after the repairs
    from otel_shed.otlp.exporter import OTLPSpanExporter

_TOLD = "for the reason above"


def run_doctor(
    *,
    endpoint: str | None,
    protocol: str | None,
    timeout: float,
    out: TextIO,
    verbose: bool = False,
    as_json: bool = False,
) -> int:
    """Report; 0 if the collector accepted the test span, else 1. ``timeout``: seconds to wait for any one answer.

    ``verbose``: with the libraries' own words for a failure. ``as_json``: for programs.
    """
    # gRPC's own lines on standard error say nothing that the report does not.
    quiet = {} if "GRPC_VERBOSITY" in os.environ else {"GRPC_VERBOSITY": "NONE"}
    warnings = _Warnings()
    misnamed = list(name_findings(os.environ))
    with as_before(os.environ), logs_to(warnings):
        repair_limits(os.environ)
        repair_set_up(os.environ)
        repair_components(os.environ)
        os.environ.update(quiet)
        report = JSONReport(out) if as_json else TextReport(out, width=terminal_width(), verbose=verbose)
        return _Doctor(report, warnings, timeout).examine(endpoint, protocol, misnamed)


class _Doctor:
    def __init__(self, report: DoctorReport, warnings: _Warnings, patience: float) -> None:
        self._report = report
        self._warnings = warnings
        self._patience = patience

    def examine(self, endpoint: str | None, protocol: str | None, misnamed: Iterable[Finding]) -> int:
        report = self._report
        report.line("versions", versions())
        report.section("Set-up", chain(misnamed, launcher_findings(os.environ), compiled_findings()))
        report.table("Program", program_rows(os.environ))
        config = ShedConfig.from_env()
        rows = list(shed_rows(config, os.environ))
        report.table("Settings", rows or [Row("all at their defaults", "")])
        try:
            exporter = self._exporter(endpoint, protocol)
        except ValueError as error:
            report.section("Exporter", [Finding(Mark.FAIL, str(error))])
            report.end(False, "No span was sent.")
            return 1
        report.table("Exporter", exporter_rows(exporter.settings, os.environ))
        report.section("Warnings", chain(self._warnings.take(), timeout_findings(exporter.settings)))
        survey = Survey(exporter.settings, os.environ, patience=self._patience)
        is_told = has_failed(report.section("Collector", survey.findings()))
        arrived = not has_failed(report.section("Test span", self._test_span(exporter, is_told=is_told)))
        report.end(arrived, "Spans arrive." if arrived else "Spans do not arrive.")
        return 0 if arrived else 1

    def _test_span(self, exporter: OTLPSpanExporter, *, is_told: bool) -> Iterator[Finding]:
        yield self._send_test_span(exporter, is_told=is_told)
        yield from self._warnings.take()

    def _exporter(self, endpoint: str | None, protocol: str | None) -> OTLPSpanExporter:
        from otel_shed.otlp.exporter import OTLPSpanExporter

        return OTLPSpanExporter(protocol=protocol, endpoint=endpoint)

    def _send_test_span(self, exporter: OTLPSpanExporter, *, is_told: bool) -> Finding:
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
            return Finding(
                Mark.FAIL, f"it does not arrive, {_TOLD}" if is_told else f"nothing came within {budget:g} s"
            )
        attempt = exporter.last_attempt
        exporter.shutdown(0)
        service = provider.resource.attributes.get(SERVICE_NAME)
        sent = f"service {service}, trace {span.get_span_context().trace_id:032x}"
        return _judged(outcome, attempt, sent, is_told=is_told)


def _judged(outcome: Outcome, attempt: Attempt | None, what: str, *, is_told: bool) -> Finding:
    """What became of the test span; ``is_told``: the way there has failed already, and the report has said why."""
    took = f"{outcome.duration * 1000:,.0f} ms"
    if outcome.accepted:
        said = f"; it says: {outcome.message}" if outcome.message else ""
        return Finding(Mark.OK, f"the collector accepted it after {took} ({what}){said}")
    if outcome.rejected:
        return Finding(Mark.FAIL, f"the collector took the request and rejected the span: {outcome.message}")
    if attempt is None:
        return Finding(Mark.FAIL, f"it could not be sent: {outcome.message}")
    why = _TOLD if is_told else in_short(attempt)
    if attempt.retry_after is not None:
        text = f"the collector asks for a wait of {attempt.retry_after:g} s, {why}"
    elif attempt.timed_out and not is_told:
        text = f"no answer came within {took}"
    elif attempt.code.startswith(("2", "3")):  # an answer, but none of a collector's
        text = f"no collector took it, {why}"
    elif attempt.answered and attempt.verdict is Verdict.RETRYABLE:
        text = f"the collector refuses it, {why} (a program would try again)"
    elif attempt.answered:
        text = f"the collector refuses it, {why} (it is not to be sent again)"
    else:
        text = f"it does not arrive, {why}"
    return Finding(Mark.FAIL, text, raw=attempt.words)


class _Warnings(logging.Handler):
    """Keeps what is logged, for the report to show at its place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage().removeprefix(PREFIX))

    def take(self) -> list[Finding]:
        """What came since the last time, each line once."""
        texts, self._texts = self._texts, []
        return [Finding(Mark.WARN, text) for text in dict.fromkeys(texts)]
