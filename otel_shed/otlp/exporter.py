"""OTLPSpanExporter: the settings, a transport for the protocol and the client put together, behind two interfaces.

The pipeline's worker calls ``send_requests``; under a processor of the SDK's its thread calls ``export``. One of either
is under way at a time; a second caller waits. Requests that are made at once have a thread each, a connection each, and
what is known of the collector together. The rule: nothing here raises once the exporter is made, and nothing is sent
after shutdown.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_shed.arguments import check_clock, check_instance, check_integer, check_meter_provider
from otel_shed.fork import begin_anew_after_fork
from otel_shed.instruments import sdk_metrics_enabled
from otel_shed.log_limit import LogLimit, counted
from otel_shed.otlp.client import OTLPClient
from otel_shed.otlp.credentials import check_channel, credentials_from_provider
from otel_shed.otlp.encode import EncodeError
from otel_shed.otlp.lanes import Lanes
from otel_shed.otlp.operations import Operation, Operations
from otel_shed.otlp.proof import encode_span
from otel_shed.otlp.request import split_by_size
from otel_shed.otlp.request_limit import RequestLimit
from otel_shed.otlp.retry import Attempt
from otel_shed.otlp.settings import GRPC, ExporterSettings
from otel_shed.otlp.transport import MAX_REQUEST_BYTES, Transport
from otel_shed.otlp.turns import Turns
from otel_shed.outcome import DropReason, Outcome
from otel_shed.record import SpanRecord

if TYPE_CHECKING:
    from enum import Enum

    import grpc

_logger = logging.getLogger("otel_shed")

# gRPC receivers commonly take 4 MiB (the specification, "OTLP/gRPC Request"); a batch over it is refused as a whole.
DEFAULT_REQUEST_BYTES = 4_000_000
LEAST_REQUEST_BYTES = 1024
# What export() may take if the time-out is set to none: it MUST NOT block indefinitely (SDK specification, "Export").
_LONGEST_EXPORT = 30.0
# What a lane may take to end, once its request is interrupted.
_LAST_STEPS_SECONDS = 1.0


class OTLPSpanExporter(SpanExporter):
    """Exports spans by OTLP, over gRPC or HTTP, and tells exactly what became of them.

    What is not given comes from OTEL_EXPORTER_OTLP_TRACES_*, then OTEL_EXPORTER_OTLP_*, then the default.

    protocol: ``grpc`` (default) or ``http/protobuf``. endpoint: for grpc a URL of any scheme or a target, for HTTP the
    whole URL (without any path: /v1/traces is added). headers: a mapping, pairs or ``name=value,...``; added to the
    variables'. timeout: seconds of one request, 0 for no limit. compression: ``none``, ``gzip``, for HTTP ``deflate``.
    insecure: no TLS, for grpc (in HTTP the scheme says so). certificate_file, client_key_file,
    client_certificate_file: PEM files. credentials, channel_options: for grpc, as the stock exporter takes them.
    max_request_bytes: bytes, before compression, at which ``export`` splits a batch, 1024 to 64 Mi; default 4,000,000.
    meter_provider: for the metrics about itself, where OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED is ``true``; the global
    one if None. environ: the variables. clock: seconds, monotonic.

    Connects with the first request, not before. Raises ValueError, or TypeError for a part that is none, naming the
    argument, for what is wrong here; a variable that is logs a warning and is as unset.
    """

    def __init__(
        self,
        protocol: str | None = None,
        endpoint: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | str | None = None,
        timeout: float | None = None,
        compression: str | Enum | None = None,
        *,
        insecure: bool | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        channel_options: Sequence[tuple[str, Any]] | None = None,
        max_request_bytes: int | None = None,
        meter_provider: MeterProvider | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_instance("environ", environ, Mapping, "a mapping of variables")
        check_clock(clock)
        check_meter_provider(meter_provider)
        check_instance("insecure", insecure, bool, "True or False", optional=True)
        check_channel(credentials, channel_options)
        self.settings = ExporterSettings.resolve(
            environ,
            protocol=protocol,
            endpoint=endpoint,
            headers=headers,
            timeout=timeout,
            compression=compression,
            insecure=insecure,
            certificate_file=certificate_file,
            client_key_file=client_key_file,
            client_certificate_file=client_certificate_file,
        )
        if max_request_bytes is not None:
            check_integer("max_request_bytes", max_request_bytes, LEAST_REQUEST_BYTES, MAX_REQUEST_BYTES)
        self.max_request_bytes = max_request_bytes or DEFAULT_REQUEST_BYTES
        # One to a lane; none connects before it is used.
        self._new_transport = partial(_transport, self.settings, credentials, channel_options or (), environ)
        self._lanes: Lanes[Outcome] = Lanes()
        self._client = OTLPClient(
            self._new_transport(),
            timeout=self.settings.timeout,
            clock=clock,
            hide=self.settings.secrets.hide,
        )
        self._limit = RequestLimit(place=self.settings.shown_endpoint, clock=clock)
        self._clock = clock
        self._log = LogLimit(_logger, clock=clock)
        self._closed = False
        self._sending = Turns()
        self._operations = Operations(self.settings, clock=clock)
        if sdk_metrics_enabled(environ):
            self._operations.publish(meter_provider)
        begin_anew_after_fork(self)

    # -- the pipeline's way in -----------------------------------------------------------------------------------

    def send_records(self, records: Sequence[SpanRecord], *, budget: float) -> Outcome:
        """Send one request of these records, or smaller ones if the collector refuses that for its size.

        ``budget``: seconds of trying; a wait that the collector asks for comes on top (see OTLPClient.send).
        """
        with self._sending, self._operations.begin(len(records)) as operation:
            return self._send(records, budget, operation, park=True)

    def send_requests(
        self, requests: Sequence[Sequence[SpanRecord]], *, budget: Callable[[], float], at_once: int = 1
    ) -> Iterator[Outcome]:
        """Send a request of each of these, ``at_once`` at a time; what becomes of each, in their order.

        ``budget``: asked as each of them begins; otherwise as for send_records. A wait that the collector asks for
        holds all of them back.
        """
        if at_once == 1 or len(requests) == 1:
            for records in requests:
                yield self.send_records(records, budget=budget())
            return
        with self._sending:
            while self._client.lanes < at_once:
                self._client.add_lane(self._new_transport())
            yield from self._lanes.run([partial(self._send_in_lane, each, budget) for each in requests], at_once)

    def _send_in_lane(self, records: Sequence[SpanRecord], budget: Callable[[], float], lane: int) -> Outcome:
        try:
            with self._operations.begin(len(records)) as operation:
                return self._send(records, budget(), operation, park=True, lane=lane)
        except BaseException as error:  # memory is short: these are lost, those in the other lanes are not
            words = f"{type(error).__name__}: {error}"
            return Outcome(0, reason=DropReason.EXPORTER_ERROR, message=words, attempts=0)

    def hurry(self, patience: float = 0.0) -> None:
        """Shutdown has begun: end any wait, and try a collector that does not answer no more than once again.

        A wait that the collector asked for is kept to, if it ends within ``patience`` seconds.
        """
        self._client.hurry(patience)

    def abort(self) -> None:
        """Shutdown has given up: interrupt the request under way; whatever follows fails at once."""
        self._client.abort()

    @property
    def last_attempt(self) -> Attempt | None:
        """What the last request came to; None before the first."""
        return self._client.last_attempt

    @property
    def throttled_until(self) -> float | None:
        """Until when, on the exporter's clock, the collector asked to be left alone; None if it did not."""
        return self._client.throttled_until

    def on_attempt(self, listener: Callable[[Attempt], None] | None) -> None:
        """Have ``listener`` told of each request, on the thread that made it, of one at a time; it must not raise."""
        self._client.on_attempt = listener

    def request_bytes(self, most: int) -> int:
        """The bytes that a request may have: ``most``, or fewer for a while after the collector has refused so many."""
        return self._limit.within(most)

    def _send(
        self, records: Sequence[SpanRecord], budget: float, operation: Operation, *, park: bool, lane: int = 0
    ) -> Outcome:
        if self._closed:
            outcome = Outcome(0, reason=DropReason.ALREADY_SHUTDOWN, message="the exporter is shut down", attempts=0)
            operation.came_to(len(records), outcome, None)
        else:
            outcome = self._limit.deliver(self._client, records, operation, budget=budget, park=park, lane=lane)
        if outcome.message and outcome.reason is None and not outcome.rejected:
            self._log.warning("advice", "the collector took the spans, and says: %s", outcome.message)
        return outcome

    # -- SpanExporter: under a processor of the SDK's ------------------------------------------------------------

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Encode and send, within the time-out as a whole; SUCCESS if the collector took the request with all spans.

        Spans that it rejected of those are its own business (SUCCESS), one that cannot be encoded is a loss (FAILURE).
        In the middle of itself, in a signal handler or a finalizer, it leaves them to the call that it has interrupted.
        """
        return self._sending.take(partial(self._export, spans), meanwhile=SpanExportResult.SUCCESS)

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._operations.begin(len(spans)) as operation:
            records, unencodable = self._encoded(spans)
            operation.lost(unencodable, DropReason.ENCODE_FAILED.value)
            budget = self.settings.timeout if math.isfinite(self.settings.timeout) else _LONGEST_EXPORT
            deadline = self._clock() + budget
            lost = 0
            for piece in split_by_size(records, self.request_bytes(self.max_request_bytes)):
                outcome = self._send(piece, deadline - self._clock(), operation, park=False)
                lost += len(piece) - outcome.accepted - outcome.rejected
                self._report(outcome, len(piece))
        return SpanExportResult.FAILURE if lost or unencodable else SpanExportResult.SUCCESS

    def _encoded(self, spans: Sequence[ReadableSpan]) -> tuple[list[SpanRecord], int]:
        records = []
        for span in spans:
            try:
                records.append(encode_span(span))
            except EncodeError as error:
                self._log.warning("encode", "a span could not be encoded and was dropped: %s", error)
        return records, len(spans) - len(records)

    def _report(self, outcome: Outcome, count: int) -> None:
        if outcome.rejected:
            self._lost(outcome.rejected, "took the request and rejected them", outcome.message)
        if outcome.reason is not None:
            what = "refuses them" if outcome.reason is DropReason.NOT_RETRYABLE else "did not take them in time"
            self._lost(count, what, outcome.message)

    def _lost(self, count: int, what: str, message: str) -> None:
        self._log.warning(
            what,
            "%s lost: the collector at %s %s (%s). The program goes on and is not affected "
            "(to see why, run: otel-shed doctor)",
            counted(count, "span"),
            self.settings.shown_endpoint,
            what,
            message,
        )

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """True: nothing is held here between two calls."""
        return True

    def shutdown(self, timeout_millis: float = 30000) -> None:
        """Let the request under way end, for at most so long, and close the connection; once."""
        if self._closed:
            return
        self._closed = True
        self._client.hurry()
        limit = max(0.0, timeout_millis / 1000)
        self._sending.take(self._close, meanwhile=None, timeout=limit, late=self._client.abort)

    def _close(self) -> None:
        self._client.close()
        self._lanes.end(_LAST_STEPS_SECONDS)

    def after_fork_in_child(self) -> None:
        """Leave lock and connection to the parent; called by itself in every forked child."""
        self._sending = Turns()
        self._lanes.after_fork_in_child()
        self._operations.after_fork_in_child()
        self._client.after_fork_in_child()


def _transport(
    settings: ExporterSettings,
    credentials: grpc.ChannelCredentials | None,
    options: Sequence[tuple[str, Any]],
    environ: Mapping[str, str],
) -> Transport:
    # Each protocol's library takes a while to import, and most programs use one of them.
    if settings.protocol == GRPC:
        from otel_shed.otlp.transport_grpc import GRPCTransport

        if credentials is None and not settings.insecure:
            credentials = credentials_from_provider(environ)
        return GRPCTransport(settings, credentials=credentials, options=options)
    from otel_shed.otlp.transport_http import HTTPTransport

    return HTTPTransport(settings)
