"""Has the compiled parts do all they can, with usual spans and with odd ones, then prints what memory was kept.

    python -m tests.faults.programs.compiled_parts SPANS [overrun]

``overrun``: in the end a byte is written where none is allocated, which an allocator that checks has to notice.
"""

from __future__ import annotations

import ctypes
import logging
import sys

from benchmarks.sinks import ShedSink, StockSink
from benchmarks.spans import SpanMint
from otel_shed import LoadShedder, Phase, ShedConfig
from otel_shed.compiled import extension
from otel_shed.otlp.proof import encode_span, wrap
from otel_shed.otlp.request import build_request, split_by_size
from otel_shed.otlp.samples import sample_spans
from tests.otlp.made_spans import made_span

ODD = {
    "surrogate": "\ud800",
    "wide": "\U0001f600" * 40,
    "deep": [[{"a": [1, "b"]}]],
    "large": 1 << 80,
    "long": "x" * 5000,
}


def encode() -> None:
    """Every sample, whole and cut; records of both kinds; requests of every grouping and size."""
    spans = [*sample_spans(), *[made_span("odd", attributes={key: value}) for key, value in ODD.items()]]
    for limit in (None, 0, 1, 7):
        records = [encode_span(span, limit) for span in spans]
        for first in range(len(records)):
            build_request(records[first:])
        for piece in split_by_size(records, 4096):
            build_request(piece)
    for span in spans:
        wrap(span)


def process(spans: int) -> int:
    """End so many spans, some while the queue is full or traces are decided on; blocks kept of the second half."""
    mint, kept = SpanMint(), 0
    config = ShedConfig(max_queue_size=256, max_export_batch_size=64)
    shedders = [LoadShedder(config, exporter=sink) for sink in (ShedSink(), StockSink())]
    processors = [shedder.span_processor() for shedder in shedders]
    for half in range(2):
        for number in range(spans // 2 // 512):
            for shedder, processor in zip(shedders, processors, strict=True):
                if number % 64 == 32:
                    shedder.force_phase(Phase.SHED_OPTIONAL if number % 128 == 32 else None)
                for span in mint.make(256):
                    processor.on_end(span)
                if number % 8 == 0:
                    processor.force_flush()
        for shedder, processor in zip(shedders, processors, strict=True):
            shedder.force_phase(None)
            processor.force_flush()
            assert processor.stats().unaccounted == 0
        kept = sys.getallocatedblocks() - kept if half else sys.getallocatedblocks()
    for processor in processors:
        processor.shutdown()
    return kept


def main() -> None:
    logging.disable(logging.CRITICAL)
    assert extension is not None
    encode()
    print("kept:", process(int(sys.argv[1])))
    if "overrun" in sys.argv:
        buffer = bytes(100)
        ctypes.memset(id(buffer) + sys.getsizeof(buffer), 1, 1)
        del buffer
    print("done: 1", flush=True)


if __name__ == "__main__":
    main()
