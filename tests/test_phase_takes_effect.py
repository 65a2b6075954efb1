"""A change of the phase takes effect at once, whatever the export thread is waiting for."""

from __future__ import annotations

import threading

import pytest

from otel_shed import LoadShedder, Phase, ShedConfig
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.launched import until

# A batch gathers for longer than the test may take.
GATHERS_MILLIS = 3_600_000.0


@pytest.mark.parametrize("is_away", [False, True])
def test_spans_that_gather_for_a_batch_are_decided_on_in_the_phase_they_ended_in(is_away: bool) -> None:
    """While a batch gathers, and while the exporter hangs: what ends in SHED_OPTIONAL is shed, later ones are not."""
    gate = threading.Event()
    inner = RecordingExporter(gate=gate)
    shedder = LoadShedder(ShedConfig(keep_share=0.0, schedule_delay_millis=GATHERS_MILLIS, memory_limit_bytes=2**50))
    processor = shedder.span_processor(inner)
    try:
        processor.on_end(ended_span("before"))
        if is_away:
            processor.force_flush(0)
            inner.wait_until_called()
        else:
            gate.set()
            assert processor.force_flush()
            processor.on_end(ended_span("gathers"))
        shedder.force_phase(Phase.SHED_OPTIONAL, "test")
        for _ in range(3):
            processor.on_end(ended_span("meanwhile"))
        shed = 3 if is_away else 4  # what gathered has not begun to go out either
        until(lambda: shedder.stats().summarized == shed, what=lambda: repr(shedder.stats()), timeout=10.0)
        shedder.force_phase(Phase.NORMAL)
        gate.set()
        processor.on_end(ended_span("after"))
        assert processor.force_flush()
        assert [span.name for span in inner.spans] == ["before", "after"]
    finally:
        gate.set()
        processor.shutdown()


def test_a_change_of_the_phase_starts_no_thread() -> None:
    """Where no span has ended, a process may fork after it as before."""
    shedder = LoadShedder(ShedConfig())
    processor = shedder.span_processor(RecordingExporter())
    before = threading.active_count()
    shedder.force_phase(Phase.SHED_OPTIONAL, "test")
    assert processor._pipeline.worker_thread is None
    assert threading.active_count() == before
    processor.shutdown()
