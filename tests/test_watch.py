"""What the control sees of a pipeline."""

from __future__ import annotations

import pytest

from otel_shed.config import ShedConfig
from otel_shed.shedder import LoadShedder
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.watch import Seen
from tests.conftest import ended_span


def test_what_waits_in_the_queue_fills_it(clock: FakeClock) -> None:
    """Of the capacity, what is queued counts towards the fill; all of it is sampled, and counted as it ends."""
    shedder = LoadShedder(ShedConfig(max_queue_size=100), clock=clock)
    processor = shedder.span_processor(RecordingExporter())
    pipeline = processor._pipeline
    pipeline.intake._wake = None  # nobody takes anything
    seen = Seen()
    assert seen().fill == 0.0
    seen.pipeline = lambda: pipeline
    for count in range(1, 121):
        processor.on_end(ended_span())
        assert (seen().fill, seen().sampled) == (pytest.approx(min(count, 100) / 100), count)
    assert (seen().queued, seen().overflowed, seen().oldest) == (100, 20, 20)
    pipeline.intake._wake = pipeline._wake
    assert processor.force_flush()
    assert seen().fill == 0.0
