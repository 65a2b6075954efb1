"""The compiled parts without an interpreter lock: importing them leaves it off, and what threads share stays whole.

Each of these would hold with the lock as well, and show nothing there. The thread sanitizer is run on them too.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanContext, TraceState

from otel_shed import LoadShedder, Phase, ShedConfig, SheddingSpanProcessor
from otel_shed.compiled import extension
from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.encode_compiled import encode_compiled
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.record import Priority, ScopeGroup, SpanRecord
from otel_shed.testing.transport import ScriptedTransport
from tests.interpreter import IS_FREE_THREADED
from tests.otlp.made_spans import CONTEXT, made_span, message

pytestmark = [
    pytest.mark.skipif(not IS_FREE_THREADED, reason="the interpreter has its lock"),
    pytest.mark.skipif(extension is None, reason="the compiled parts are not built, or not wanted"),
]

THREADS = 16
ROUNDS = 300
GROUP = ScopeGroup(b"\x0a\x00", b"\x0a\x00")
OTHER_GROUP = ScopeGroup(b"\x0a\x02\x10\x01", b"\x0a\x00")


def made(number: int = 1, body: bytes = b"\x0a\x00") -> SpanRecord:
    return SpanRecord(number, 1, 0, 1, f"name {number % 7}", 0, 10, Priority.NORMAL, len(body), GROUP, body, None)


def turns() -> Callable[[], int]:
    """0, 1, ... for whatever thread asks."""
    lock, numbers = threading.Lock(), iter(range(10**9))

    def turn() -> int:
        with lock:
            return next(numbers)

    return turn


def together(*calls: Callable[[], object]) -> None:
    """Call each, time and again, in threads of its own, all at once; what one of them raises comes out of here."""
    barrier = threading.Barrier(THREADS)

    def run(call: Callable[[], object]) -> None:
        barrier.wait()
        for _ in range(ROUNDS):
            call()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, calls[number % len(calls)]) for number in range(THREADS)]:
            done.result()


def test_importing_them_leaves_the_lock_off() -> None:
    """A warning would say that it had been turned on again."""
    program = "import sys, otel_shed.compiled as c; sys.exit(sys._is_gil_enabled() or c.extension is None)"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_a_pipeline_whose_phase_changes() -> None:
    """Threads end spans, others flush, read the account and change the phase: in the end each span is in one count."""
    config = ShedConfig(memory_limit_bytes=2**50, max_queue_size=256, max_export_batch_size=64, max_held_spans=128)
    exporter = OTLPSpanExporter()
    exporter._client = OTLPClient(ScriptedTransport(), timeout=10.0)
    shedder = LoadShedder(config)
    processor = SheddingSpanProcessor(exporter, shedder=shedder)
    spans = [
        made_span("usual", attributes={"a": 1}),
        made_span("said", attributes={"otlp.priority": "low", "list": (1, 2, "three")}),
        *(made_span(f"other {number}", context=replace_trace(number)) for number in range(20)),
    ]
    phases = [Phase.NORMAL, Phase.DEGRADE, Phase.SHED_OPTIONAL, None]
    turn_of = turns()

    def end() -> None:
        for span in spans:
            processor.on_end(span)

    def change() -> None:
        shedder.force_phase(phases[turn_of() % len(phases)])
        stats = processor.stats()
        assert stats.queued <= 256

    together(end, end, end, end, end, end, end, change)
    assert processor.force_flush(30_000)
    processor.shutdown()
    stats = processor.stats()
    threads = sum(number % 8 != 7 for number in range(THREADS))
    assert stats.ended == threads * ROUNDS * len(spans)
    assert stats.ended == stats.exported + stats.summarized + sum(stats.dropped.values())


def replace_trace(number: int) -> Any:
    return type(CONTEXT)(CONTEXT.trace_id + number, CONTEXT.span_id, False, CONTEXT.trace_flags, TraceState())


def test_a_queue() -> None:
    """Pushed, popped, resized and read at once: each record comes out once, or is counted."""
    assert extension is not None
    queue = extension.Queue(kinds=4, full=0, refused=1, closed=2, failed=3)
    popped: list[int] = []

    def read() -> None:
        assert 0 <= queue.counts()[1] <= 100
        assert queue.records >= 0
        assert queue.length >= 0
        assert queue.oldest <= queue.admitted

    def resize() -> None:
        queue.resize(100, 2000)
        queue.wake_when(10)
        queue.admit_from(2)

    resize()
    together(
        *[lambda: queue.push(made(3))] * 8,
        lambda: queue.push(made(1)),
        *[lambda: popped.append(len(queue.pop(7)[0]))] * 4,
        read,
        resize,
        lambda: queue.book(3),
    )
    came_out, waiting, _, counts = queue.counts()
    assert came_out == sum(popped)
    assert came_out + waiting + counts[0] == 8 * ROUNDS
    assert counts[1:] == [ROUNDS, 0, ROUNDS]


def test_a_span_whose_attributes_are_changed() -> None:
    """Whoever changes what an ended span holds, dicts and lists in it too, costs that span attributes at most."""
    inner: dict[str, Any] = {"x": [1]}
    items: list[Any] = [1, "two", inner, [3]]
    context = SpanContext(5, 6, False, trace_state=TraceState([("a", "b")]))
    span = made_span(attributes={"first": 1}, context=context)
    values: Any = span._attributes._dict  # type: ignore[union-attr]
    values |= {"list": items, "map": inner, "text": "x" * 50}
    entries: Any = context.trace_state._dict
    turn_of = turns()

    def change() -> None:
        for _ in range(50):
            turn = turn_of()
            values["text"] = f"value {turn}"
            values["list"] = items if turn % 3 else list(items)
            items.append([str(turn)])
            del items[:1]
            inner[f"key {turn % 9}"] = [turn, {"deep": str(turn)}]
            inner.pop(f"key {(turn + 5) % 9}", None)
            if turn % 50 == 0:
                values[f"key {turn % 7}"] = turn
                values.pop(f"key {(turn + 150) % 7}", None)
                items[:] = [turn, "text", inner, [3]]
            span._name = f"name {turn}"
            entries["a"] = str(turn)

    def encode() -> None:
        for _ in range(10):
            encode_compiled(span)
            record = encode_compiled(span, 3)
        message(record)

    together(encode, change)


def test_spans_of_many_scopes() -> None:
    """Threads that encode spans of more scopes than are kept get each span's own group."""
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    spans = [made_span(instrumentation_scope=InstrumentationScope(f"scope {number}")) for number in range(90)]
    expected = [encode_compiled(span).group.scope for span in spans]

    def encode() -> None:
        assert [encode_compiled(span).group.scope for span in spans] == expected

    together(encode)


def test_a_request_whose_records_are_changed() -> None:
    """A request is whole, whatever is done to the list and the records that it is made of."""
    assert extension is not None
    records = [made(number) for number in range(20)]
    turn_of = turns()

    def change() -> None:
        turn = turn_of()
        record = records[turn % 10]
        record.body = b"\x0a" + bytes([turn % 100]) + b"x" * (turn % 100)
        record.group = OTHER_GROUP if turn % 2 else GROUP
        record.name, record.priority = str(turn), Priority(turn % 4)
        records.append(made(turn))
        del records[10]

    def build() -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(extension.build_request(records))
        assert extension.total_size(records) > 0
        assert [record.body[:1] for record in records] == [b"\x0a"] * 20 or len(records) != 20

    together(change, build, build)


def test_trace_ids() -> None:
    """A set that grows, is cleared and is asked, at once."""
    assert extension is not None
    ids = extension.TraceIds()
    records = [made(number) for number in range(2000)]
    turn_of = turns()

    def add() -> None:
        ids.add(turn_of())

    together(add, add, lambda: ids.add_of(records[:1500]), lambda: 5 in ids, lambda: len(ids), ids.clear)
    ids.clear()
    together(add)
    assert len(ids) == THREADS * ROUNDS


def test_summary_rows() -> None:
    """Every span that threads add at once is counted; whoever reads meanwhile sees rows that are whole."""
    assert extension is not None
    rows = extension.SummaryRows(5)
    records = [made(number) for number in range(20)]

    def read() -> None:
        for total in [*rows.totals(), rows.other()]:
            assert sum(total[-1].values()) == total[2]
        assert rows.count >= 0

    together(lambda: rows.add_all(records), lambda: rows.add("name", 0, True, 100), read, lambda: rows.add_all(records))
    assert rows.count == THREADS // 4 * ROUNDS * (20 + 1 + 20)
    together(lambda: rows.add_all(records), rows.clear, read)
    rows.clear()
    assert rows.count == 0
    held: Mapping[int, int] = rows.other()[-1]
    assert held == {}


def test_records_of_another_thread_are_freed_at_once() -> None:
    """What a thread made and pushed is gone when it is sent, though that thread never runs again: memory is bounded."""
    assert extension is not None
    queue = extension.Queue(kinds=4, full=0, refused=1, closed=2, failed=3)
    is_pushed, is_done = threading.Event(), threading.Event()

    def push() -> None:
        for _ in range(2000):
            queue.push(encode_compiled(span))
        is_pushed.set()
        is_done.wait(60)

    span = made_span(attributes={"text": "x" * 1000})
    group = encode_compiled(span).group
    thread = threading.Thread(target=push)
    thread.start()
    assert is_pushed.wait(60)
    before = sys.getrefcount(group)
    queue.pop(2000)
    after = sys.getrefcount(group)
    is_done.set()
    thread.join()
    assert before - after >= 2000
