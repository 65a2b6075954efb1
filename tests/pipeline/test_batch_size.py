"""The size of the next batch, after requests that took too long and after some that did not."""

from __future__ import annotations

from otel_shed.outcome import DropReason, Outcome
from otel_shed.pipeline.batch_size import BatchSize

LATE = Outcome(0, reason=DropReason.EXPORT_TIMEOUT, attempts=3, duration=30.0)


def through(size: BatchSize, rate: float, batches: int) -> list[int]:
    """The sizes of so many batches, sent to a collector that takes so many spans a second and has ten for each."""
    sizes = []
    for _ in range(batches):
        sizes.append(size.spans)
        took = size.spans / rate
        size.sent(size.spans, LATE if took > 10.0 else Outcome(size.spans, duration=took))
    return sizes


def test_a_slow_collector_gets_batches_that_it_can_take() -> None:
    """And from then on always: none is tried that would take too long again."""
    assert through(BatchSize(512), 20.0, 6) == [512, 256, 128, 128, 128, 128]


def test_a_collector_that_is_quick_again_gets_whole_ones() -> None:
    """One after the other twice as large."""
    size = BatchSize(512)
    through(size, 20.0, 6)
    assert through(size, 10_000.0, 4) == [128, 256, 512, 512]


def test_it_does_not_get_lost_in_small_ones() -> None:
    """A collector that answers nothing at all is asked with a sixteenth; one span is always possible."""
    assert through(BatchSize(512), 1e-6, 8)[-3:] == [32, 32, 32]
    assert through(BatchSize(1), 1e-6, 3) == [1, 1, 1]


def test_of_a_batch_that_was_not_full() -> None:
    """What was too much is what was sent, not what might have been."""
    size = BatchSize(512)
    size.sent(100, LATE)
    assert size.spans == 50


def test_other_losses_say_nothing_of_the_size() -> None:
    """Nor does an answer that took nobody's spans."""
    size = BatchSize(512)
    size.sent(512, LATE)
    for reason in (DropReason.RETRY_EXHAUSTED, DropReason.NOT_RETRYABLE, DropReason.EXPORTER_ERROR):
        size.sent(256, Outcome(0, reason=reason, duration=30.0))
    size.sent(256, Outcome(0, rejected=256))
    assert size.spans == 256


def test_what_was_not_tried_says_nothing() -> None:
    """There was no time for a request: nobody knows how long one would have taken."""
    size = BatchSize(512)
    size.sent(512, Outcome(0, reason=DropReason.EXPORT_TIMEOUT, attempts=0))
    assert size.spans == 512
