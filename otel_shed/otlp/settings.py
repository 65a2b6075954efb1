"""The exporter's settings: from code, else OTEL_EXPORTER_OTLP_TRACES_*, else OTEL_EXPORTER_OTLP_*, else the default.

Owns nothing that changes; called by the thread that makes an exporter. The rule: code that gives a bad value hears of
it (ValueError); a variable that does is warned about once, and counts as unset. Units: seconds, as the installed SDK
has OTEL_EXPORTER_OTLP_TIMEOUT (the specification has milliseconds).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from otel_shed.environment import Environment
from otel_shed.otlp.certificates import authorities_file, identity_file, readable_file
from otel_shed.otlp.endpoint import GRPC_DEFAULT, HTTP_DEFAULT, TRACES_PATH, Endpoint, grpc_endpoint, http_endpoint
from otel_shed.otlp.headers import ALLOWED, Headers, headers_from, merged, parse_headers
from otel_shed.otlp.proxy import proxy_for
from otel_shed.otlp.secrets import Secrets, given_in_code, proxies_in, secrets_of, without_secrets
from otel_shed.sdk_environment import fitting_protocol

if TYPE_CHECKING:
    from enum import Enum

T = TypeVar("T")

PREFIX = "OTEL_EXPORTER_OTLP_"
TRACES_PREFIX = "OTEL_EXPORTER_OTLP_TRACES_"
CODE = "code"
ENDPOINT_HEADERS = "ENDPOINT_HEADERS"

GRPC = "grpc"
HTTP_PROTOBUF = "http/protobuf"
PROTOCOLS = (GRPC, HTTP_PROTOBUF)
# OTLP requires none and gzip of every receiver; the stock HTTP exporter offers deflate as well.
COMPRESSIONS = {GRPC: ("none", "gzip"), HTTP_PROTOBUF: ("none", "gzip", "deflate")}
DEFAULT_TIMEOUT = 10.0
LONGEST_TIMEOUT = 2_147_483.0  # 2**31 - 1 ms, the specification's largest number

# What an OTLP exporter of requests trusts when no OTLP variable says so; an exporter that takes its place must too.
_REQUESTS_CA = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

_HOST_AND_PORT = re.compile(r"(?:\[[^\]/]+\]|[^:/]+)(?::[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """What an OTLP exporter works with; made by ``resolve``.

    protocol: ``grpc`` or ``http/protobuf``. endpoint: a gRPC target, or the URL that requests are posted to; place: the
    same, fit to be printed. headers: sent with each request, names in lower case. timeout: seconds of one request;
    infinity for no limit. compression: ``none``, ``gzip`` or, of http/protobuf, ``deflate``. insecure: no TLS.
    certificate_file (the authorities to trust; None for the system's), client_key_file, client_certificate_file: paths
    of PEM files. proxy: the URL of an HTTP proxy (http/protobuf; gRPC finds its own).
    sources: where each setting that is not the default came from, by the ending of its variable's name ("ENDPOINT"):
    the variable, or ``code``; ENDPOINT_HEADERS is where an endpoint with credentials in it came from.
    secrets: what must not be printed, wherever it turns up. The repr shows none of them.
    """

    protocol: str
    endpoint: str
    headers: Headers
    timeout: float
    compression: str
    insecure: bool
    certificate_file: str | None
    client_key_file: str | None
    client_certificate_file: str | None
    proxy: str | None
    sources: Mapping[str, str] = field(compare=False)
    secrets: Secrets = field(compare=False, default_factory=Secrets)

    @property
    def place(self) -> str:
        """The endpoint without what may be secret in it."""
        return without_secrets(self.endpoint)

    @property
    def shown_endpoint(self) -> str:
        """The place as a URL; a target of gRPC's own (``unix:...``) as it is."""
        place, scheme = self.place, "http" if self.insecure else "https"
        return f"{scheme}://{place}" if _HOST_AND_PORT.fullmatch(place) else place

    def __repr__(self) -> str:
        shown = ("timeout", "compression", "insecure", "certificate_file", "client_key_file", "client_certificate_file")
        rest = "".join(f", {name}={getattr(self, name)!r}" for name in shown)
        return f"ExporterSettings(protocol={self.protocol!r}, endpoint={self.place!r}{rest})"

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        protocol: str | None = None,
        endpoint: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | str | None = None,
        timeout: float | None = None,
        compression: str | Enum | None = None,
        insecure: bool | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
    ) -> ExporterSettings:
        """The settings in force; ValueError, naming setting, value and range, for a bad value given here."""
        read = _Reader(environ)
        protocol = read("PROTOCOL", protocol, _one_of(PROTOCOLS), _protocol_in_place(read, endpoint))
        is_grpc = protocol == GRPC
        where = _grpc_endpoint(read, endpoint, insecure) if is_grpc else _http_endpoint(read, endpoint)
        trusted, key, certificate = _certificates(
            read, certificate_file, client_key_file, client_certificate_file, is_grpc
        )
        all_headers = merged(where.headers, _headers(read, headers))
        if where.headers:
            read.sources[ENDPOINT_HEADERS] = read.sources["ENDPOINT"]
        addresses = [str(given) for given in (endpoint, *(text for _, text in read.texts("ENDPOINT"))) if given]
        return cls(
            protocol=protocol,
            endpoint=where.address,
            headers=all_headers,
            timeout=read("TIMEOUT", timeout, _seconds, DEFAULT_TIMEOUT),
            compression=read("COMPRESSION", compression, _one_of(COMPRESSIONS[protocol]), "none"),
            insecure=bool(where.insecure),
            certificate_file=trusted,
            client_key_file=key,
            client_certificate_file=certificate,
            proxy=None if is_grpc else proxy_for(where.address, environ),
            sources=read.sources,
            secrets=secrets_of(addresses, all_headers, proxies_in(environ)),
        )


class _Reader:
    """Looks a setting up in the order of precedence, and remembers where it was found."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environment = Environment(environ)
        self.sources: dict[str, str] = {}

    def __call__(
        self, suffix: str, given: Any, parse: Callable[[Any], T], default: T, *, argument: str | None = None
    ) -> T:
        """What code gave (``argument`` is what it calls it), else what a variable has, else the default."""
        if is_set(given):
            return self.code(suffix, argument or suffix.lower(), given, parse)
        return self.variables(suffix, parse, default)

    def code(self, suffix: str, argument: str, given: Any, parse: Callable[[Any], T]) -> T:
        """What code gave; ValueError if that will not do."""
        try:
            value = parse(given)
        except ValueError as error:
            raise ValueError(f"{argument} must be {error}, not {given_in_code(given)}") from None
        self.sources[suffix] = CODE
        return value

    def variables(
        self, suffix: str, parse: Callable[[str], T], default: T, *, names: tuple[str, ...] | None = None
    ) -> T:
        """The first variable that can be used; those before it that cannot are warned about."""
        bad: list[tuple[str, str, str]] = []
        value = default
        for name, text in self.texts(suffix, names):
            try:
                value = parse(text)
            except ValueError as error:
                bad.append((name, text, str(error)))
                continue
            self.sources[suffix] = name
            break
        for name, text, allowed in bad:
            used = without_secrets(value.address) if isinstance(value, Endpoint) else value
            self.environment.warn(name, without_secrets(text), allowed, used)
        return value

    def texts(self, suffix: str, names: tuple[str, ...] | None = None) -> Iterator[tuple[str, str]]:
        """The variables for traces and for all signals, as far as they are set, and what they are set to."""
        for name in names or (f"{TRACES_PREFIX}{suffix}", f"{PREFIX}{suffix}"):
            if (text := self.environment.text(name)) is not None:
                yield name, text


def is_set(given: object) -> bool:
    """Whether code gave a value; the stock exporters take empty text for none."""
    return given is not None and given != ""


def _protocol_in_place(read: _Reader, endpoint: Any) -> str:
    """What stands for a protocol that is not set, or cannot be used (``http``, ``http/json``)."""
    texts = [text for _, text in read.texts("PROTOCOL")]
    if not texts:
        return GRPC
    if not is_set(endpoint):
        endpoint = next((text for _, text in read.texts("ENDPOINT")), None)
    return fitting_protocol(texts[0], endpoint if isinstance(endpoint, str) else None)


def _headers(read: _Reader, given: Any) -> Headers:
    """The variables' and, over them, the code's: as the stock HTTP exporter, which merges them."""
    in_variables: Headers = ()
    for name, text in read.texts("HEADERS"):
        in_variables, bad = parse_headers(text)
        if bad:
            read.environment.warn(name, text, ALLOWED, "its other entries" if in_variables else None, secret=True)
        if in_variables:
            read.sources["HEADERS"] = name
            break
    if not is_set(given):
        return in_variables
    try:
        in_code = headers_from(given)
    except (TypeError, ValueError) as error:  # without the value, which may be a credential
        raise ValueError(f"headers must be {error}") from None
    read.sources["HEADERS"] = CODE
    return merged(in_variables, in_code)


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(given: Any) -> str:
        # grpc.Compression.Gzip and the stock HTTP exporter's Compression are enumerations of these names.
        name = (given if isinstance(given, str) else str(getattr(given, "name", ""))).strip().lower()
        name = {"nocompression": "none"}.get(name, name)
        if name not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return name

    return parse


def _seconds(given: Any) -> float:
    """Zero is no limit: the specification has it so for every time-out."""
    try:
        seconds = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds <= LONGEST_TIMEOUT:
        raise ValueError(f"a number of seconds from 0 (no limit) to {LONGEST_TIMEOUT:.0f}")
    return seconds or math.inf


def _true_or_false(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("true or false")
    return text.lower() == "true"


def _http_endpoint(read: _Reader, given: Any) -> Endpoint:
    if is_set(given):
        return read.code("ENDPOINT", "endpoint", given, lambda url: http_endpoint(url, default_path=TRACES_PATH))
    # The variable for traces is used as it is; the one for all signals is a base that the signal's path is added to.
    specific = read.variables("ENDPOINT", http_endpoint, None, names=(f"{TRACES_PREFIX}ENDPOINT",))
    if specific is not None:
        return specific

    def base(url: str) -> Endpoint:
        return http_endpoint(url, append=True)

    return read.variables("ENDPOINT", base, base(HTTP_DEFAULT), names=(f"{PREFIX}ENDPOINT",))


def _grpc_endpoint(read: _Reader, given: Any, insecure: bool | None) -> Endpoint:
    found = read("ENDPOINT", given, grpc_endpoint, grpc_endpoint(GRPC_DEFAULT))
    if insecure is not None and found.insecure is not False:
        # What code says outweighs http://, but not https://: the stock exporter has it so.
        return found._replace(insecure=bool(insecure))
    if found.insecure is None:
        return found._replace(insecure=read.variables("INSECURE", _true_or_false, False))
    return found


def _certificates(
    read: _Reader, authorities: Any, key: Any, certificate: Any, is_grpc: bool
) -> tuple[str | None, str | None, str | None]:
    """Three paths of files that can be read and, as far as that can be told without connecting, used."""
    trusted = read("CERTIFICATE", authorities, authorities_file, None, argument="certificate_file")
    if trusted is None and not is_grpc:
        trusted = read.variables("CERTIFICATE", authorities_file, None, names=_REQUESTS_CA)
    client_key = read("CLIENT_KEY", key, readable_file, None, argument="client_key_file")

    def identity(path: Any) -> str:
        return identity_file(path, client_key)

    client = read("CLIENT_CERTIFICATE", certificate, identity, None, argument="client_certificate_file")
    if client_key is not None and client is None:
        if key:
            raise ValueError("client_key_file must come with a client certificate, not alone")
        read.environment.warn(read.sources["CLIENT_KEY"], client_key, "of use without a client certificate", None)
    return trusted, client_key if client else None, client
