"""A sender that does what a test tells it to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.otlp.encode import EncodeError
from otel_shed.outcome import Outcome
from otel_shed.pipeline.store import Change
from otel_shed.record import Priority, SpanRecord


class ScriptedSender:
    """Answers each batch with the next outcome of ``script``, then accepts; remembers what it was asked."""

    def __init__(self, script: Sequence[Outcome | Callable[[Sequence[SpanRecord]], Outcome]] = ()) -> None:
        self.script = list(script)
        self.sent: list[list[str]] = []
        self.calls: list[str] = []
        self.pieces = 1
        self.at_once, self.where = 1, "the collector"
        self.flushed: bool | Exception = True
        self.limit = 1_000_000

    def record(self, span: ReadableSpan, limit: int | None = None, /) -> SpanRecord:
        if span.name == "bad":
            raise EncodeError("bad span")
        length = int(span.name.partition(":")[2] or 10)
        return SpanRecord(1, 1, 0, 1, span.name, 0, 0, Priority.NORMAL, length, None, b"", None)

    def fits(self, record: SpanRecord) -> bool:
        return record.length <= self.limit

    def most_bytes(self) -> int:
        return sys.maxsize

    def split(self, records: list[SpanRecord]) -> list[list[SpanRecord]]:
        if self.pieces == 1:
            return [records]
        size = -(-len(records) // self.pieces)
        return [list(records[start : start + size]) for start in range(0, len(records), size)]

    def amend(self, record: SpanRecord, change: Change) -> int:
        self.calls.append("amend")
        record.length += 1
        return 1

    def send(self, records: Sequence[SpanRecord]) -> Outcome:
        self.sent.append([record.name for record in records])
        answer = self.script.pop(0) if self.script else Outcome(accepted=len(records))
        return answer(records) if callable(answer) else answer

    def send_all(self, pieces: Sequence[Sequence[SpanRecord]]) -> Iterator[Outcome]:
        return map(self.send, pieces)

    def flush(self, timeout: float) -> bool:
        self.calls.append("flush")
        if isinstance(self.flushed, Exception):
            raise self.flushed
        return self.flushed

    def hurry(self, patience: float) -> None:
        self.calls.append("hurry")

    def abort(self) -> None:
        self.calls.append("abort")

    def shutdown(self, timeout: float) -> None:
        self.calls.append("shutdown")

    def after_fork_in_child(self) -> None:
        self.calls.append("after_fork_in_child")
