"""The two ways from the spans of a storm to its collector: the stock SDK's, and ours.

Each owns its TracerProvider. Called by the storm's main thread. The same settings hold for both, OTEL_BSP_* included.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from otel_shed.command.storm.testimony import Teller
from otel_shed.config import ShedConfig
from otel_shed.otlp.exporter import OTLPSpanExporter
from otel_shed.otlp.settings import GRPC
from otel_shed.shedder import LoadShedder

_SCOPE = "otel_shed.command.storm"


class Stock:
    """BatchSpanProcessor and the stock OTLP exporter."""

    def __init__(self, *, protocol: str, endpoint: str, service: str) -> None:
        self._provider = _provider(service)
        self._provider.add_span_processor(BatchSpanProcessor(_stock_exporter(protocol, endpoint)))
        self.tracer = self._provider.get_tracer(_SCOPE)

    def state(self) -> dict[str, Any]:
        """Of what a Reading has: nothing, it tells nothing."""
        return {}

    def shut_down(self, timeout_millis: int) -> None:
        """Deliver what is held."""
        self._provider.shutdown()


class Shed:
    """SheddingSpanProcessor and our exporter; with ``head_sampler`` the shedder's sampler too."""

    def __init__(self, *, protocol: str, endpoint: str, service: str, head_sampler: bool) -> None:
        path = "" if protocol == GRPC else "/v1/traces"
        exporter = OTLPSpanExporter(protocol, endpoint + path, environ={})
        # The report is a span that the program did not end: it would be one too many in the comparison.
        self._shedder = LoadShedder(ShedConfig.from_env(enabled=True, report=False), exporter=exporter)
        self._provider = _provider(service, **({"sampler": self._shedder.sampler()} if head_sampler else {}))
        self._processor = self._shedder.span_processor()
        self._provider.add_span_processor(self._processor)
        self.tracer = self._provider.get_tracer(_SCOPE)

    def state(self) -> dict[str, Any]:
        """What its account says."""
        stats = self._shedder.stats()
        return {
            "phase": stats.phase.value,
            "reasons": stats.reasons,
            "pressure": stats.pressure,
            "probability": stats.sample_probability,
            "budget": stats.budget_spans_per_second,
            "ended": stats.ended,
            "exported": stats.exported,
            "held": stats.queued + stats.in_flight,
            "dropped": dict(stats.dropped) | ({"summarized": stats.summarized} if stats.summarized else {}),
            "unaccounted": stats.unaccounted,
        }

    def shut_down(self, timeout_millis: int) -> None:
        """Deliver what is held."""
        self._processor.force_flush(timeout_millis)
        self._provider.shutdown()


def _provider(service: str, **arguments: Any) -> TracerProvider:
    return TracerProvider(resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False, **arguments)


def _stock_exporter(protocol: str, endpoint: str) -> SpanExporter:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as StockGRPC

        return StockGRPC(endpoint, insecure=True)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockHTTP

    return StockHTTP(f"{endpoint}/v1/traces")


@contextmanager
def logs_told(teller: Teller) -> Iterator[None]:
    """What anybody logs is told, instead of being printed between the lines."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            teller.log(f"{record.levelname.lower()}: {record.getMessage()}")

    root, handler = logging.getLogger(), Handler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
