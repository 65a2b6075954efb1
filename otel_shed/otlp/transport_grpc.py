"""OTLP over gRPC: one unary call that takes and gives bytes.

Owns the channel, which the sending thread makes with its first call and drops when it is of no use any more; ``cancel``
and a fork only close it, from their own threads. The rule: no fork happens while a call of ours is inside gRPC, because
the child of such a fork crashes in gRPC sooner or later.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from otel_shed.native import Mutex, give_way
from otel_shed.otlp.certificates import grpc_files
from otel_shed.otlp.retry import Attempt, accepted_answer, grpc_failure, no_answer
from otel_shed.otlp.settings import ExporterSettings
from otel_shed.otlp.transport import MAX_RESPONSE_BYTES, bounded, user_agent
from otel_shed.otlp.wrong_endpoint import grpc_redirect

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
STATUS_DETAILS = "grpc-status-details-bin"
# What the stock Python exporter reads, and so what servers written for it send: a RetryInfo alone, not in a Status.
RETRY_INFO = "google.rpc.retryinfo-bin"
_TRAILERS = STATUS_DETAILS, RETRY_INFO

# gRPC does not tell whether a status came from the server or from itself; its own words for having reached none do. A
# server that uses the same words costs a new connection. Seen with grpcio 1.63 to 1.85.
_NOT_REACHED = (
    "failed to connect to",
    "connections to all backends failing",
    "errors resolving",
    "dns resolution failed",
    "connection refused",
    "connection reset",
    "recvmsg",
    "sendmsg",
    "socket closed",
    "broken pipe",
    "stream removed",
    "empty update",
)

# Seconds that a fork waits for a call to end by itself, for one that it has interrupted, and then for gRPC's threads to
# be done with that one. Measured with grpcio 1.85: of children forked while a call was inside gRPC, one in thirty
# crashed and one in seven could not send; of those forked right after an interruption, one in twenty hung; of those
# forked 10 ms or more after it, or after a call that had ended by itself, none in 500.
_FORK_PATIENCE = 0.05
_FORK_LIMIT = 0.5
_FORK_SETTLE = 0.02

Options = Sequence[tuple[str, Any]]


class GRPCTransport:
    """One channel to one collector.

    credentials: instead of those that the settings' files make. options: gRPC channel arguments, over our own.
    """

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Options = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._options = {
            "grpc.primary_user_agent": user_agent(),
            "grpc.max_receive_message_length": MAX_RESPONSE_BYTES,
            # Retrying is the client's, by OTLP's rules; gRPC's own would hide attempts from it.
            "grpc.enable_retries": 0,
            # A new channel is to make a connection of its own: after a fork, the shared one is the parent's.
            "grpc.use_local_subchannel_pool": 1,
            # A connection that failed is dropped with its channel. Where that was not noticed, gRPC would let up to two
            # minutes pass before it looks again (its connection back-off); the client's own is 30 s at most.
            "grpc.initial_reconnect_backoff_ms": 500,
            "grpc.max_reconnect_backoff_ms": 5000,
            # Despite its name the least time that gRPC gives to connecting, TLS and HTTP/2's greeting included (its
            # connection-backoff.md: MIN_CONNECT_TIMEOUT). With less than a slow line takes it would never connect.
            "grpc.min_reconnect_backoff_ms": 10_000,
            **dict(options),
        }
        self._compression = {"gzip": grpc.Compression.Gzip}.get(settings.compression, grpc.Compression.NoCompression)
        self._clock = clock
        self._renew()
        _live.append(weakref.ref(self, _live.remove))

    def _renew(self) -> None:
        self._channel: grpc.Channel | None = None
        self._call: Any = None
        self._inside = Mutex()  # held by the sending thread while it is in gRPC, and by a fork
        self._entrance = Mutex()  # held by a fork that wants in next: a lock alone is not fair
        self._held_for_fork: list[Mutex] = []
        self._interruptions = 0  # of the request in hand: each fork waits twice as long, or it would never get through
        self._closed_by_fork: grpc.Channel | None = None
        self._cancelled = False

    def send(self, payload: bytes, timeout: float) -> Attempt:
        deadline = self._clock() + bounded(timeout)
        while True:
            with self._entrance:
                self._inside.acquire()
            try:
                attempt = self._exchange(payload, deadline - self._clock())
            finally:
                self._inside.release()
            if attempt.accepted or not self._interrupted_by_fork() or self._clock() >= deadline:
                self._interruptions = 0
                return attempt

    def _interrupted_by_fork(self) -> bool:
        """Whether the failure just now was a fork's doing; said once for each."""
        interrupted, self._closed_by_fork = self._closed_by_fork is not None, None
        return interrupted and not self._cancelled

    def _exchange(self, payload: bytes, timeout: float) -> Attempt:
        began = self._clock()
        try:
            if self._call is None:
                self._connect()
            if self._cancelled:
                return no_answer("CANCELLED", "the exporter was shut down")
            answer = self._call(
                payload, timeout=timeout, metadata=self._settings.headers or None, compression=self._compression
            )
            return accepted_answer("OK", answer).hiding(self._settings.secrets.hide)
        except grpc.RpcError as error:
            late = self._clock() - began >= timeout * 0.9
            return self._failed(error, late).hiding(self._settings.secrets.hide)
        except (OSError, ValueError) as error:
            # A certificate's file is gone, or the channel was closed between two lines of ours.
            self._drop()
            code = "CANCELLED" if self._cancelled else "not connected"
            return no_answer(code, error).hiding(self._settings.secrets.hide)

    def _failed(self, error: Any, late: bool) -> Attempt:
        code = error.code().name
        details = error.details() or ""
        reached = not any(words in details.lower() for words in _NOT_REACHED)
        timed_out = code == "DEADLINE_EXCEEDED" and late
        if timed_out or not reached or code == "CANCELLED":
            # A time-out too: the connection may be dead, which gRPC by itself takes minutes to find out.
            self._drop()
        trailers = dict(error.trailing_metadata() or ())
        status, retry_info = (each if isinstance(each, bytes) else None for each in map(trailers.get, _TRAILERS))
        return grpc_failure(
            code,
            grpc_redirect(details, self._settings.place) or details,
            status,
            retry_info,
            answered=reached and not timed_out and not self._cancelled,
            timed_out=timed_out,
        )

    def _connect(self) -> None:
        settings = self._settings
        options = tuple(self._options.items())
        if settings.insecure:
            channel = grpc.insecure_channel(settings.endpoint, options=options)
        else:
            files = (settings.certificate_file, settings.client_certificate_file, settings.client_key_file)
            credentials = self._credentials or grpc.ssl_channel_credentials(**grpc_files(*files))
            channel = grpc.secure_channel(settings.endpoint, credentials, options=options)
        self._channel = channel
        # No serializers: bytes go in and come out as they are.
        self._call = channel.unary_unary(METHOD)

    def _drop(self) -> None:
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            channel.close()

    def cancel(self) -> None:
        self._cancelled = True
        self._interrupt()

    def close(self) -> None:
        self.cancel()

    def _interrupt(self) -> None:
        if (channel := self._channel) is not None:
            channel.close()  # ends the call in flight at once, with CANCELLED

    # -- forks: on the thread that forks -------------------------------------------------------------------------

    def close_entrance(self) -> None:
        """Let no further call begin."""
        # With a limit: a signal handler may fork on the sending thread itself, in the middle of its entering.
        self._held_for_fork = [self._entrance] if self._entrance.acquire(_FORK_LIMIT) else []

    def is_out(self, waited: float) -> bool:
        """Whether the call in flight ends by itself, for which ``waited`` seconds have been given to others."""
        return self._keep_out(max(0.0, min(_FORK_PATIENCE * 2**self._interruptions, _FORK_LIMIT) - waited))

    def interrupt_for_fork(self) -> None:
        """End the call in flight; it is made again once the fork is done."""
        self._interruptions += 1
        self._closed_by_fork = self._channel
        self._interrupt()

    def _keep_out(self, timeout: float) -> bool:
        is_out = self._inside.acquire(timeout)
        if is_out:
            self._held_for_fork.append(self._inside)
        return is_out

    def await_interruption(self, waited: float) -> None:
        self._keep_out(max(0.0, _FORK_LIMIT - waited))

    def after_fork_in_parent(self) -> None:
        """Let the sending thread go on."""
        while self._held_for_fork:
            self._held_for_fork.pop().release()

    def after_fork_in_child(self) -> None:
        if self._channel is not None:
            # Kept for ever, untouched: closing it, which its deletion does, would say goodbye on the parent's socket.
            _inherited.append(self._channel)
        self._renew()


_live: list[weakref.ref[GRPCTransport]] = []
_inherited: list[grpc.Channel] = []


def _each() -> list[GRPCTransport]:
    return [transport for reference in list(_live) if (transport := reference()) is not None]


def _before_fork() -> None:
    """Have no call inside gRPC; what lasts is interrupted. Of many calls each waits while the others do."""
    transports = _each()
    for transport in transports:
        transport.close_entrance()
    began = time.monotonic()
    lasting = [transport for transport in transports if not transport.is_out(time.monotonic() - began)]
    for transport in lasting:
        transport.interrupt_for_fork()
    began = time.monotonic()
    for transport in lasting:
        transport.await_interruption(time.monotonic() - began)
    if lasting:
        give_way(_FORK_SETTLE)


def _after_fork_in_parent() -> None:
    for transport in _each():
        transport.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for transport in _each():
        transport.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
