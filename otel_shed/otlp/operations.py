"""What an exporter's operations came to, as metrics by OpenTelemetry's semantic conventions (docs/otel/sdk-metrics.md).

Written, once they are published, by the threads that export, under a lock of their own; read by the meter provider's
collection thread: every value is replaced as a whole. An operation is one call of the exporter, all its attempts and
waits included, or one of the requests that a call makes at once. The rules: each span that the exporter was given is
counted once, with the cause of its last attempt if it was lost, and a fault in whatever listens is not the batch's.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from urllib.parse import urlsplit

from opentelemetry.metrics import Histogram, MeterProvider, get_meter_provider

from otel_shed.instruments import COMPONENT, SDK_SCOPE, Instrument, Instruments, Kind, Points
from otel_shed.log_limit import LogLimit
from otel_shed.native import allocate_lock
from otel_shed.otlp.retry import Attempt
from otel_shed.otlp.settings import GRPC, ExporterSettings
from otel_shed.outcome import DropReason, Outcome

SERVER = ("server.address", "server.port")
ERROR = "error.type"
HTTP_STATUS = "http.response.status_code"
RPC_STATUS = "rpc.response.status_code"

# A histogram, hence synchronous: what ends before there is a MeterProvider is not in it.
DURATION = "otel.sdk.exporter.operation.duration"

_COMPONENT_TYPES = {True: "otlp_grpc_span_exporter", False: "otlp_http_span_exporter"}
# Counted apart from the stock exporters', hence the word before the number.
_numbers = itertools.count()
# gRPC's name resolver has it so, with TLS and without.
_GRPC_PORT = 443
_HTTP_PORTS = {"http": 80, "https": 443}

_log = LogLimit(logging.getLogger("otel_shed"))


class Operations:
    """The operations of one exporter."""

    def __init__(self, settings: ExporterSettings, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        component_type = _COMPONENT_TYPES[settings.protocol == GRPC]
        self.attributes: Mapping[str, str | int] = {
            "otel.component.type": component_type,
            "otel.component.name": f"{component_type}/shed-{next(_numbers)}",
            **server_of(settings),
        }
        self._duration: Histogram | None = None
        self._is_published = False
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin anew: what was exported, or is under way, is the parent's."""
        self._lock = allocate_lock()
        self.in_flight = 0
        # Spans by error.type; None for those that the collector took.
        self.exported: Mapping[str | None, int] = {}

    def publish(self, meter_provider: MeterProvider | None) -> None:
        """Have them reported through ``meter_provider``, the global one if None."""
        self._is_published = True
        EXPORTER.join(self, self.attributes, meter_provider)
        meter = (meter_provider or get_meter_provider()).get_meter(SDK_SCOPE)
        description = "The duration of exporting a batch of telemetry records."
        self._duration = meter.create_histogram(DURATION, unit="s", description=description)

    def begin(self, count: int) -> Operation:
        """The exporter has been given so many spans; to be entered for as long as it is at them."""
        return Operation(self, count, self._clock) if self._is_published else _UNREAD

    def add(self, error_type: str | None, count: int) -> None:
        """So many spans have been exported, or lost for that."""
        if count:
            with self._lock:
                self.exported = {**self.exported, error_type: self.exported.get(error_type, 0) + count}

    def hold(self, count: int) -> None:
        """So many spans more are under way; of a negative number, fewer."""
        with self._lock:
            # Not below 0: a signal handler may have forked on this very thread, and then what is under way is not
            # counted.
            self.in_flight = max(0, self.in_flight + count)

    def took(self, seconds: float, attributes: Mapping[str, str | int]) -> None:
        """An operation has ended."""
        if self._duration is None:
            return
        try:
            self._duration.record(max(0.0, seconds), {**self.attributes, **attributes})
        except Exception as error:  # a MeterProvider's
            _log.warning("duration", "an operation's duration was not recorded: %s: %s", type(error).__name__, error)


class Operation:
    """One call of the exporter."""

    __slots__ = ("_began", "_clock", "_count", "_ending", "_operations", "_unsettled")

    def __init__(self, operations: Operations, count: int, clock: Callable[[], float]) -> None:
        self._operations = operations
        self._clock = clock
        self._count = self._unsettled = count
        self._ending: dict[str, str | int] = {}

    def __enter__(self) -> Operation:
        self._began = self._clock()
        self._operations.hold(self._count)
        return self

    def came_to(self, count: int, outcome: Outcome, attempt: Attempt | None) -> None:
        """A request of ``count`` of the spans came to ``outcome``, with ``attempt`` the exporter's last."""
        accepted = max(0, min(outcome.accepted, count))
        rejected = max(0, min(outcome.rejected, count - accepted))
        self._operations.add(None, accepted)
        self._operations.add(DropReason.REJECTED.value, rejected)
        self._unsettled -= accepted + rejected
        if outcome.attempts and attempt is not None:
            self._ending.update(_status(attempt))
        if rejected:
            self._ending[ERROR] = DropReason.REJECTED.value
        self.lost(count - accepted - rejected, error_type(outcome, attempt))

    def lost(self, count: int, cause: str) -> None:
        """So many of the spans were lost for that."""
        if count:
            self._operations.add(cause, count)
            self._unsettled -= count
            self._ending[ERROR] = cause

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lost(self._unsettled, DropReason.EXPORTER_ERROR.value)
        self._operations.hold(-self._count)
        self._operations.took(self._clock() - self._began, self._ending)


class _Unread(Operation):
    """Of an exporter whose operations nobody reads, which they are not counted for."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def __enter__(self) -> Operation:
        return self

    def came_to(self, count: int, outcome: Outcome, attempt: Attempt | None) -> None:
        pass

    def lost(self, count: int, cause: str) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_UNREAD = _Unread()


def error_type(outcome: Outcome, attempt: Attempt | None) -> str:
    """Why spans were lost: the status that the collector gave last, what came instead of one, or what is ours.

    A closed set: the codes of HTTP and gRPC, ``timeout``, the transports' words for a connection that failed, and drop
    reasons.
    """
    reason = outcome.reason or DropReason.EXPORTER_ERROR
    if attempt is None or not outcome.attempts or reason is DropReason.EXPORTER_ERROR:
        return str(reason)
    if attempt.timed_out:
        return "timeout"
    if attempt.code.startswith("2") or attempt.accepted:  # an answer that was too large to be read
        return str(reason)
    return attempt.code.replace(" ", "_")


def _status(attempt: Attempt) -> dict[str, str | int]:
    if attempt.code.isdecimal():
        return {HTTP_STATUS: int(attempt.code)}
    # What the transports say where there is no status is in lower case.
    return {RPC_STATUS: attempt.code} if attempt.code.isupper() else {}


def server_of(settings: ExporterSettings) -> dict[str, str | int]:
    """The convention's server.address and server.port, as far as the endpoint tells."""
    if settings.protocol != GRPC:
        url = urlsplit(settings.endpoint)
        return _server(url.hostname, url.port or _HTTP_PORTS.get(url.scheme))
    scheme, _, rest = settings.endpoint.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return _server(rest.removeprefix("//"), None)
    # host:port, dns:host:port, dns://authority/host:port, ipv4:address:port,address:port
    target = rest if scheme in ("dns", "ipv4", "ipv6", "xds") else settings.endpoint
    try:
        url = urlsplit("//" + target.rpartition("/")[2].partition(",")[0])
        return _server(url.hostname, url.port or _GRPC_PORT)
    except ValueError:  # a target of a kind that is not known here
        return _server(settings.place, None)


def _server(address: str | None, port: int | None) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    if address:
        found["server.address"] = address
        if port is not None:
            found["server.port"] = port
    return found


def _exported(operations: Operations) -> Points:
    return [(count, {ERROR: cause} if cause else {}) for cause, count in operations.exported.items()]


EXPORTER: Instruments[Operations] = Instruments(
    SDK_SCOPE,
    Instrument(
        name="otel.sdk.exporter.span.exported",
        kind=Kind.COUNTER,
        unit="{span}",
        description="The number of spans for which the export has finished, either successful or failed.",
        attributes=(ERROR,),
        read=_exported,
    ),
    Instrument(
        name="otel.sdk.exporter.span.inflight",
        kind=Kind.UP_DOWN_COUNTER,
        unit="{span}",
        description=(
            "The number of spans which were passed to the exporter, "
            "but that have not been exported yet (neither successful, nor failed)."
        ),
        read=lambda operations: [(operations.in_flight, {})],
    ),
    common=(*COMPONENT, *SERVER),
)
