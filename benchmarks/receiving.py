"""A receiver in another process, and the processors that export to it."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from benchmarks.side_by_side import NONE, ROOT, STOCK
from otel_shed import OTLPSpanExporter, SheddingSpanProcessor

PROTOCOLS = ("grpc", "http/protobuf")
PORTS = ("--grpc-port", "0", "--http-port", "0")


class ReceiverProcess:
    """The package's own receiver in a process of its own; a context manager that ends it.

    It does not look into the spans that it counts: what it computes, and writes into the caches, meanwhile costs the
    program that is measured, stock's and ours, CPU time too (seen: some 0.5 us a span).
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "otel_shed.testing.receiver", "--unread", *PORTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        ports = self._line()
        self.endpoints = {
            "grpc": f"http://127.0.0.1:{ports['grpc_port']}",
            "http/protobuf": f"http://127.0.0.1:{ports['http_port']}/v1/traces",
        }

    def _line(self) -> dict[str, int]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def spans(self) -> int:
        """How many it has taken so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line()["spans"]

    def __enter__(self) -> ReceiverProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


def stock_exporter(protocol: str, endpoint: str, compression: str) -> SpanExporter:
    """The SDK's OTLP exporter."""
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as StockGrpc

        chosen = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        return StockGrpc(endpoint, insecure=True, compression=chosen)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockHttp

    return StockHttp(endpoint, compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression)


def provider_of(
    who: str, receiver: ReceiverProcess, protocol: str = "grpc", compression: str = "none", **settings: Any
) -> TracerProvider:
    """A tracer provider with the processor of a candidate, or with none; ``settings`` are the processor's."""
    provider = TracerProvider(shutdown_on_exit=False)
    endpoint = receiver.endpoints[protocol]
    if who == STOCK:
        processor: SpanProcessor = BatchSpanProcessor(stock_exporter(protocol, endpoint, compression), **settings)
    elif who != NONE:
        processor = SheddingSpanProcessor(OTLPSpanExporter(protocol, endpoint, compression=compression), **settings)
    if who != NONE:
        provider.add_span_processor(processor)
    return provider
