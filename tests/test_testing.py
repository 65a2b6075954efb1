"""What the package offers to the tests of others."""

from __future__ import annotations

import threading
import time

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span


def test_a_recording_exporter_takes_its_time() -> None:
    """Parity L17: each export takes the delay, then its batch is remembered."""
    exporter = RecordingExporter(delay=0.05)
    began = time.monotonic()
    assert exporter.export([ended_span()]) is SpanExportResult.SUCCESS
    assert time.monotonic() - began >= 0.05
    assert len(exporter.spans) == 1


def test_a_recording_exporter_that_is_shut_down_stops_waiting() -> None:
    """Shutdown interrupts the delay, and the export under way fails."""
    exporter = RecordingExporter(delay=60)
    results: list[SpanExportResult] = []
    thread = threading.Thread(target=lambda: results.append(exporter.export([ended_span()])))
    thread.start()
    exporter.wait_until_called()
    exporter.shutdown()
    thread.join(10)
    assert results == [SpanExportResult.FAILURE]
    assert exporter.spans == []


def test_a_wait_for_an_export_that_does_not_come_ends() -> None:
    """A test that waits in vain is told so."""
    with pytest.raises(AssertionError, match="no export began"):
        RecordingExporter().wait_until_called(timeout=0.01)
