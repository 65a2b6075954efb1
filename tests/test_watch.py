"""What the control sees of a pipeline."""

from __future__ import annotations

import pytest

from otel_shed.config import ShedConfig
from otel_shed.shedder import LoadShedder
from otel_shed.testing.clock import FakeClock
from otel_shed.testing.exporters import RecordingExporter
from otel_shed.watch import Seen
from tests.conftest import ended_span


def test_a_batch_that_nobody_was_told_of_is_no_pressure(clock: FakeClock) -> None:
    """What is in the inbox counts towards the fill from there on; all of it is sampled."""
    shedder = LoadShedder(ShedConfig(max_queue_size=100), clock=clock)
    processor = shedder.span_processor(RecordingExporter())
    pipeline = processor._pipeline
    seen = Seen()
    assert seen().fill == 0.0
    seen.pipeline = lambda: pipeline
    span = ended_span()
    gathered = pipeline.intake.sizes.gathered
    entries = [pipeline.sender.record(span) for _ in range(gathered + 20)]
    pipeline.intake.inbox += entries[:gathered]
    assert (seen().fill, seen().sampled) == (0.0, gathered)
    pipeline.intake.inbox += entries[gathered:]
    assert (seen().fill, seen().sampled) == (pytest.approx(0.2), gathered + 20)
    assert processor.force_flush()
    assert seen().fill == 0.0
