"""A whole pipeline that makes several requests at once: flush, shutdown and fork keep what they promise."""

from __future__ import annotations

import threading

from otel_shed import LoadShedder, OTLPSpanExporter, ShedConfig, SheddingSpanProcessor
from otel_shed.testing.answers import Answer, Request
from otel_shed.testing.receiver import Receiver
from tests.conftest import ended_span
from tests.faults.delivered import run, value_of
from tests.faults.sending import GRPC, PROTOCOLS
from tests.faults.test_concurrent_requests import Meeting

AT_ONCE = 4
BATCH = 50


def processor_to(receiver: Receiver, protocol: str, **settings: int) -> SheddingSpanProcessor:
    endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
    config = ShedConfig(
        max_export_batch_size=BATCH,
        max_queue_size=4000,
        schedule_delay_millis=60_000,
        concurrent_requests=AT_ONCE,
        **settings,
    )
    return LoadShedder(config, exporter=OTLPSpanExporter(protocol, endpoint, environ={})).span_processor()


@PROTOCOLS
def test_a_flush_waits_for_all_of_them(protocol: str) -> None:
    """Every span that ended before it has been taken when it is over, in requests of a batch's size."""
    meeting = Meeting(AT_ONCE)
    entered, ended = threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        if request.number > 0:
            return meeting(request)
        entered.set()
        ended.wait(30)
        return Answer()

    with Receiver(answer=answer, keep=100) as receiver:
        processor = processor_to(receiver, protocol)
        processor.on_end(ended_span())
        first = threading.Thread(target=processor.force_flush)
        first.start()
        assert entered.wait(30)
        for _ in range(1010):  # while one request is on its way, so that there is enough for several
            processor.on_end(ended_span())
        ended.set()
        assert processor.force_flush()
        first.join(30)
        stats = processor.stats()
        assert (stats.exported, stats.queued, stats.in_flight, stats.unaccounted) == (1011, 0, 0, 0)
        assert receiver.counts.spans == 1011
        assert max(request.spans or 0 for request in receiver.requests) <= BATCH
        assert meeting.most == AT_ONCE
        processor.shutdown()


@PROTOCOLS
def test_a_loss_in_one_of_them_fails_the_flush(protocol: str) -> None:
    """A request that the collector refuses is counted, for what it was, and those beside it are not."""
    numbers = iter(range(100))

    def answer(_: Request) -> Answer:
        return Answer(code="INVALID_ARGUMENT", status=400) if next(numbers) == 5 else Answer()

    with Receiver(answer=answer) as receiver:
        processor = processor_to(receiver, protocol)
        for _ in range(10 * BATCH):
            processor.on_end(ended_span())
        assert not processor.force_flush()
        stats = processor.stats()
        lost = stats.dropped["not_retryable"]
        assert 0 < lost <= BATCH
        assert (stats.exported, stats.unaccounted) == (10 * BATCH - lost, 0)
        assert processor.force_flush()
        processor.shutdown()


@PROTOCOLS
def test_shutdown_gives_up_all_of_them(protocol: str) -> None:
    """A collector that hangs keeps nobody: what it has not taken is counted as shutdown's, once."""
    with Receiver(answer=lambda _: Answer(hang=True)) as receiver:
        processor = processor_to(receiver, protocol, shutdown_grace_millis=500)
        for _ in range(10 * BATCH):
            processor.on_end(ended_span())
        processor.shutdown(5000)
        stats = processor.stats()
        assert (stats.exported, stats.unaccounted) == (0, 0)
        assert stats.dropped == {"shutdown": 10 * BATCH}
        assert receiver.counts.requests <= AT_ONCE


@PROTOCOLS
def test_children_that_are_forked_meanwhile_have_their_own(protocol: str) -> None:
    """Parent and children deliver what is theirs, and count it, each in as many requests at once."""
    with Receiver(answer=lambda _: Answer(delay=0.1)) as receiver:
        endpoint = receiver.grpc_endpoint if protocol == GRPC else receiver.http_endpoint
        code, output = run("forks_with_requests_at_once.py", protocol, endpoint, str(AT_ONCE))
        assert code == 0, output
        assert value_of(output, "statuses") == "{0}"
        assert value_of(output, "account") == "(400, 400, True)"
        # A request that a fork interrupted may have arrived, and is made again.
        assert receiver.counts.spans >= 5 * 400
