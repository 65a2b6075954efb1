"""The ledger as metrics: every span that ended once, nothing that goes down, whichever provider comes when."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable

import pytest
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_shed import LoadShedder, Phase, ShedConfig, SheddingSpanExporter, SheddingSpanProcessor, Stats
from otel_shed.metrics.pipeline import observe_pipeline
from otel_shed.outcome import DropReason
from otel_shed.testing.exporters import RecordingExporter
from tests.conftest import ended_span
from tests.launched import until
from tests.metrics.readings import COMPONENT_NAME, collected, in_a_child, values

SPANS = "otel_shed.spans"
OUTCOME = "otel_shed.outcome"
STATE = "otel_shed.state"

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def outcomes(reader: InMemoryMetricReader) -> dict[str, int]:
    """Spans by outcome, where there is one pipeline; those that are not 0."""
    return {outcome: count for outcome, count in values(reader, SPANS, OUTCOME).items() if count}


def of(stats: Stats) -> dict[str, int]:
    """The same of stats."""
    named = {"exported": stats.exported, "unsampled": stats.unsampled, "summarized": stats.summarized, **stats.dropped}
    return {outcome: count for outcome, count in named.items() if count}


def test_are_the_ledger(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """By outcome what stats() says, and with what is held all spans that ended."""
    gate = threading.Event()
    exporter = RecordingExporter(gate=gate)
    processor = SheddingSpanProcessor(exporter, max_queue_size=2, max_export_batch_size=1, meter_provider=provider)
    processor.on_end(ended_span())
    exporter.wait_until_called()
    for _ in range(5):
        processor.on_end(ended_span())
    processor.on_end(ended_span(sampled=False))
    assert outcomes(reader) == of(processor.stats()) == {"queue_full": 3, "unsampled": 1}
    assert values(reader, "otel_shed.held", STATE) == {"queued": 2, "in_flight": 1}
    gate.set()
    assert processor.force_flush()
    assert outcomes(reader) == of(processor.stats()) == {"exported": 3, "queue_full": 3, "unsampled": 1}
    assert values(reader, "otel_shed.held", STATE) == {"queued": 0, "in_flight": 0}


def test_every_outcome_is_there_from_the_beginning(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A count that is new would be no increase to whoever makes rates of it."""
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    expected = {"exported", "unsampled", "summarized", *(reason.value for reason in DropReason)}
    assert values(reader, SPANS, OUTCOME) == dict.fromkeys(expected, 0)
    processor.shutdown()


def test_stay_readable_after_shutdown(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """The last values, and what comes too late."""
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    processor.on_end(ended_span())
    processor.shutdown()
    processor.on_end(ended_span())
    assert outcomes(reader) == of(processor.stats()) == {"exported": 1, "already_shutdown": 1}


def test_do_not_go_down_when_what_was_given_up_gets_through(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    """What a shutdown left behind stays so here, although the ledger counts it as exported in the end."""
    shedder, gate = given_up(provider)
    assert outcomes(reader) == of(shedder.stats()) == {"shutdown": 2}
    gate.set()
    until(lambda: of(shedder.stats()) == {"exported": 1, "shutdown": 1})
    assert outcomes(reader) == {"shutdown": 2}


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_was_given_up_is_not_the_child_s(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A fork after such a shutdown begins at nothing too."""
    _, gate = given_up(provider)
    assert outcomes(reader) == {"shutdown": 2}
    assert in_a_child(lambda: outcomes(reader)) == {}
    gate.set()


def given_up(provider: MeterProvider) -> tuple[LoadShedder, threading.Event]:
    """A shedder whose shutdown has left two spans behind, and what lets the one that is in flight through."""
    gate = threading.Event()
    exporter = StuckExporter(gate=gate)
    shedder = LoadShedder(ShedConfig(shutdown_grace_millis=20, max_export_batch_size=1), meter_provider=provider)
    processor = shedder.span_processor(exporter)
    processor.on_end(ended_span())
    exporter.wait_until_called()
    processor.on_end(ended_span())
    processor.shutdown()
    return shedder, gate


class StuckExporter(RecordingExporter):
    """One that its shutdown does not interrupt."""

    def shutdown(self) -> None:
        """Nothing."""


def test_a_provider_that_is_set_late_sees_all(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """As the SDK's configurator has it: tracing first, spans at once, metrics after that."""
    processor = SheddingSpanProcessor(RecordingExporter())
    processor.on_end(ended_span())
    assert processor.force_flush()
    set_meter_provider(provider)
    assert outcomes(reader) == {"exported": 1}
    later = SheddingSpanProcessor(RecordingExporter())
    assert len(collected(reader)["otel_shed.held"]) == 4
    later.shutdown()


@pytest.mark.parametrize("first", ["given", "global", "stand-in"])
def test_one_provider_by_two_names(first: str, reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Given and global, in whichever order they come: each pipeline is there once, and none is missing."""
    made: dict[str, Callable[[], SheddingSpanProcessor]] = {
        "given": lambda: SheddingSpanProcessor(RecordingExporter(), meter_provider=provider),
        "global": lambda: SheddingSpanProcessor(RecordingExporter()),
    }
    if first == "stand-in":
        processors = [made["global"](), made["given"]()]
        set_meter_provider(provider)
        processors.append(made["global"]())
    elif first == "given":
        processors = [made["given"]()]
        set_meter_provider(provider)
        processors += [made["global"](), made["given"]()]
    else:
        set_meter_provider(provider)
        processors = [made["global"](), made["given"](), made["global"]()]
    for processor in processors:
        processor.on_end(ended_span())
        assert processor.force_flush()
    points = [point for point in collected(reader)[SPANS] if point.attributes[OUTCOME] == "exported"]
    assert [point.value for point in points] == [1, 1, 1]
    assert len({point.attributes[COMPONENT_NAME] for point in points}) == 3


def test_asked_for_twice_are_there_once(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """Parity D12: joining again, by either name of the provider, changes nothing."""
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    set_meter_provider(provider)
    for again in (provider, None):
        observe_pipeline(processor._pipeline, again)
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert outcomes(reader) == {"exported": 1}


def test_two_providers_have_a_set_each(provider: MeterProvider, reader: InMemoryMetricReader) -> None:
    """A pipeline reports to its own provider and to no other."""
    other = InMemoryMetricReader()
    set_meter_provider(MeterProvider([other], shutdown_on_exit=False))
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    assert SPANS in collected(reader)
    assert SPANS not in collected(other)
    processor.shutdown()


def test_keep_no_pipeline_alive(
    reader: InMemoryMetricReader, provider: MeterProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is gone has no points any more: there is nothing to read them from."""
    monkeypatch.undo()  # of what the other tests keep, to see that it balances
    shedder = LoadShedder(ShedConfig(), meter_provider=provider)
    face = shedder.span_exporter(RecordingExporter())
    assert isinstance(face, SheddingSpanExporter)
    face.shutdown()
    assert len(collected(reader)["otel_shed.held"]) == 2
    del face
    for thread in threading.enumerate():  # which hold it until they have ended
        if thread.name.startswith("otel-shed-"):
            thread.join(10)
    gc.collect()
    assert "otel_shed.held" not in collected(reader)
    assert "otel_shed.phase" in collected(reader)


def test_in_observe_mode_tell_what_would_have_been_shed(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """It went on, so it is beside the account."""
    shedder = LoadShedder(ShedConfig(mode="observe"), meter_provider=provider)
    processor = shedder.span_processor(RecordingExporter())
    shedder.force_phase(Phase.SHED_OPTIONAL, "test")
    for _ in range(3):
        processor.on_end(ended_span())
    assert processor.force_flush()
    assert outcomes(reader) == {"exported": 3}
    assert list(values(reader, "otel_shed.would_have_shed").values()) == [shedder.stats().would_have_shed] == [3]


@needs_fork
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_counts_its_own(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """The child's counts begin at nothing, and what the parent's shutdown left behind is not the child's."""
    processor = SheddingSpanProcessor(RecordingExporter(), meter_provider=provider)
    processor.on_end(ended_span())
    assert processor.force_flush()
    assert outcomes(reader) == {"exported": 1}

    def child() -> tuple[dict[str, int], dict[str, int]]:
        began = outcomes(reader)
        processor.on_end(ended_span(sampled=False))
        return began, outcomes(reader)

    assert in_a_child(child) == ({}, {"unsampled": 1})
    assert outcomes(reader) == {"exported": 1}


def test_read_while_spans_end(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """No count goes down, no reading has more than ended, the last one has all."""
    processor = SheddingSpanProcessor(RecordingExporter(), max_queue_size=64, meter_provider=provider)

    def end_spans() -> None:
        for _ in range(500):
            processor.on_end(ended_span())

    threads = [threading.Thread(target=end_spans) for _ in range(4)]
    for thread in threads:
        thread.start()
    before: dict[str, int] = {}
    while any(thread.is_alive() for thread in threads):
        now = outcomes(reader)
        assert all(now.get(outcome, 0) >= count for outcome, count in before.items())
        assert sum(now.values()) <= 2000
        before = now
    processor.force_flush()
    assert outcomes(reader) == of(processor.stats())
    assert sum(outcomes(reader).values()) == 2000
