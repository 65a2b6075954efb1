"""What a scripted receiver is asked and what it answers; values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One export request.

    number: from 0, in order of arrival. payload: the message, decompressed. encoding: the Content-Encoding that an HTTP
    request came with. headers: by lower-case name. spans: how many, None if the payload is no such message.
    """

    number: int
    protocol: str
    payload: bytes = field(repr=False)
    headers: Mapping[str, str]
    path: str = ""
    encoding: str = ""
    spans: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to do about a request; by default, take it.

    delay: seconds before anything else. hang: never answer (until the receiver is closed). disconnect: close the
    connection instead of answering (HTTP only). body: the serialized response, or anything else.
    code, details, trailers: gRPC's. status, headers: HTTP's.
    """

    delay: float = 0.0
    hang: bool = False
    disconnect: bool = False
    body: bytes = b""
    code: str = "OK"
    details: str = ""
    trailers: tuple[tuple[str, str | bytes], ...] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def accepts(self) -> bool:
        """Whether the request counts as taken."""
        return not (self.hang or self.disconnect) and self.code == "OK" and 200 <= self.status < 300


Script = Callable[[Request], Answer]


def accept(request: Request) -> Answer:
    """Take every request that is one."""
    if request.spans is None:
        return Answer(code="INVALID_ARGUMENT", details="not an ExportTraceServiceRequest", status=400)
    return Answer()


def partial_success(rejected: int, message: str = "") -> bytes:
    """The response that rejects so many spans of a request; 0 with a message is advice."""
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


def retry_info(seconds: float, *, code: int = 14, message: str = "") -> bytes:
    """What a gRPC server puts into the trailer grpc-status-details-bin to ask for a wait; ``code`` is gRPC's number."""
    detail = AnyMessage()
    detail.Pack(_retry_info(seconds))
    return bytes(Status(code=code, message=message, details=[detail]).SerializeToString())


def retry_info_alone(seconds: float) -> bytes:
    """What a server written for the stock Python exporter puts into the trailer google.rpc.retryinfo-bin."""
    return bytes(_retry_info(seconds).SerializeToString())


def _retry_info(seconds: float) -> RetryInfo:
    whole = int(seconds)
    return RetryInfo(retry_delay=Duration(seconds=whole, nanos=round((seconds - whole) * 1e9)))


def count_spans(payload: bytes) -> int | None:
    """How many spans an ExportTraceServiceRequest has; None if it is none."""
    return _count(ExportTraceServiceRequest, payload)


def count_unread(payload: bytes) -> int | None:
    """As ``count_spans``, without looking into spans, resources and scopes, which takes a fraction of the time."""
    return _count(_Unread, payload)


def _count(kind: Any, payload: bytes) -> int | None:
    try:
        message = kind.FromString(payload)
    except DecodeError:
        return None
    return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)


def _unread() -> Any:
    """The class of an ExportTraceServiceRequest of which only what leads to the spans is known; these are bytes."""
    field, messages = FieldDescriptorProto, FileDescriptorProto(name="unread.proto", package="unread", syntax="proto3")
    scope, resource, request = (messages.message_type.add(name=name) for name in ("Scope", "Resource", "Request"))
    # The names and numbers of trace.proto and trace_service.proto.
    scope.field.add(name="spans", number=2, label=field.LABEL_REPEATED, type=field.TYPE_BYTES)
    for outer, name, number, inner in ((resource, "scope_spans", 2, scope), (request, "resource_spans", 1, resource)):
        kind = f".unread.{inner.name}"
        outer.field.add(name=name, number=number, label=field.LABEL_REPEATED, type=field.TYPE_MESSAGE, type_name=kind)
    pool = DescriptorPool()
    pool.Add(messages)
    return GetMessageClass(pool.FindMessageTypeByName("unread.Request"))


_Unread = _unread()
