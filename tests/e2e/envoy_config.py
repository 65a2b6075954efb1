"""Envoy's configuration as an OTLP gateway: one listener for each way in which an ingest edge turns requests away.

limited: one request a second; the others get RESOURCE_EXHAUSTED without RetryInfo, over HTTP 429 with Retry-After.
limited_retry_info: the same rate, RESOURCE_EXHAUSTED with a google.rpc.RetryInfo where servers put it.
limited_unavailable: the same rate, UNAVAILABLE, which is what Envoy makes of 429 by itself.
breaker: one request at a time reaches the collector; the others get UNAVAILABLE, over HTTP 503.
delayed: every request waits for DELAY_SECONDS.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

LISTENERS = ("limited", "limited_retry_info", "limited_unavailable", "breaker", "delayed")
RETRY_SECONDS = 2
DELAY_SECONDS = 1

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_EXTENSIONS}.filters.http"
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def envoy_config(ports: Mapping[str, int], *, grpc: int, http: int) -> dict[str, Any]:
    """The configuration for listeners on ``ports`` in front of a collector that listens on ``grpc`` and ``http``."""
    retry_after = {"retry-after": str(RETRY_SECONDS)}
    filters: dict[str, list[dict[str, Any]]] = {
        "limited": [_rate_limit(retry_after, resource_exhausted=True)],
        "limited_retry_info": [_rate_limit({"grpc-status-details-bin": _retry_info()}, resource_exhausted=True)],
        "limited_unavailable": [_rate_limit(retry_after, resource_exhausted=False)],
        "breaker": [],
        "delayed": [_delay()],
    }
    return {
        "static_resources": {
            "listeners": [_listener(name, ports[name], filters[name]) for name in LISTENERS],
            "clusters": [
                _cluster("grpc", grpc, http2=True),
                _cluster("http", http, http2=False),
                _cluster("grpc_breaker", grpc, http2=True, one_at_a_time=True),
                _cluster("http_breaker", http, http2=False, one_at_a_time=True),
            ],
        }
    }


def _retry_info() -> str:
    info = RetryInfo()
    info.retry_delay.seconds = RETRY_SECONDS
    details = AnyMessage()
    details.Pack(info)
    status = Status(code=8, message="local_rate_limited", details=[details])
    return base64.b64encode(status.SerializeToString()).decode().rstrip("=")


def _rate_limit(headers: Mapping[str, str], *, resource_exhausted: bool) -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"},
            "filter_enabled": _ALWAYS,
            "filter_enforced": _ALWAYS,
            "rate_limited_as_resource_exhausted": resource_exhausted,
            "response_headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in headers.items()
            ],
        },
    }


def _delay() -> dict[str, Any]:
    delay = {"fixed_delay": f"{DELAY_SECONDS}s", "percentage": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "name": "envoy.filters.http.fault",
        "typed_config": {"@type": f"{_HTTP}.fault.v3.HTTPFault", "delay": delay},
    }


def _listener(name: str, port: int, filters: list[dict[str, Any]]) -> dict[str, Any]:
    suffix = "_breaker" if name == "breaker" else ""
    routes = [
        {"match": {"prefix": prefix}, "route": {"cluster": cluster + suffix, "timeout": "30s"}}
        for prefix, cluster in (("/v1/", "http"), ("/", "grpc"))
    ]
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "access_log": [_access_log(name)],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            *filters,
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}},
        ],
    }
    return {
        "name": name,
        "address": _loopback(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _access_log(listener: str) -> dict[str, Any]:
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {
                "json_format": {
                    "listener": listener,
                    "at": "%START_TIME(%s.%3f)%",
                    "http": "%RESPONSE_CODE%",
                    "grpc": "%GRPC_STATUS%",
                }
            },
        },
    }


def _cluster(name: str, port: int, *, http2: bool, one_at_a_time: bool = False) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _loopback(port)}}]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if one_at_a_time:
        cluster["circuit_breakers"] = {"thresholds": [{"max_requests": 1, "max_pending_requests": 1}]}
    return cluster


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
