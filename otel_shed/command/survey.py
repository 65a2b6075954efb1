"""Puts the steps to the collector into an order and says what each came to, and what to do where one fails.

Called by the doctor's main thread. The rule: the first step that fails is told as the failure, and what is learnt after
it only as advice.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from otel_shed.command.handshake import shake_hands, speaks_tls
from otel_shed.command.reach import (
    NAMES,
    PORTS,
    Address,
    UnreachableError,
    ask,
    connect,
    resolve,
    with_protocol,
)
from otel_shed.environment import Environment
from otel_shed.otlp.credentials import VARIABLES as PROVIDER_VARIABLES
from otel_shed.otlp.settings import GRPC, HTTP_PROTOBUF, ExporterSettings

# A port that is only looked at for the advice's sake is on the same host: it answers at once or is not there.
_ASIDE_SECONDS = 1.0
_WEB_PORTS = {80, 443}
_GRPC_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # it does not look at the names in capitals


class Mark(str, Enum):
    """How a finding is to be taken."""

    OK = "ok"
    NOTE = "note"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. raw: the libraries' own words for a failure."""

    mark: Mark
    text: str
    raw: str = ""


class Survey:
    """The way to one collector; ``patience`` in seconds, of each step, and of all steps together twice that."""

    def __init__(
        self,
        settings: ExporterSettings,
        environ: Mapping[str, str],
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._patience = patience
        self._clock = clock
        self._deadline = clock() + 2 * patience

    def _left(self, at_most: float | None = None) -> float:
        return max(0.1, min(at_most or self._patience, self._patience, self._deadline - self._clock()))

    def findings(self) -> Iterator[Finding]:
        """Go the way, step by step."""
        settings = self._settings
        address = Address.of(settings)
        if (proxy := proxy_variable(settings, self._environ)) is not None:
            yield Finding(Mark.NOTE, f"the way leads through the proxy that {proxy} names, and is tried as a whole")
            yield self._spoken_at(settings.place, settings)
            return
        if address is None:
            yield Finding(Mark.NOTE, f"{settings.place} is a target that gRPC looks up by itself: tried as a whole")
            yield self._spoken_at(settings.place, settings)
            return
        if settings.insecure and address.port in _WEB_PORTS:
            own = PORTS[settings.protocol]
            yield Finding(Mark.NOTE, f"{address.port} is the port of an endpoint that names none; OTLP's own is {own}")
        peers: list[str] = []
        try:
            if not _is_address(address.host):
                peers = resolve(address.host, self._left())
                yield Finding(Mark.OK, f"the name {address.host} stands for {' and '.join(peers)}")
            else:
                peers = [address.host]
            address = connect(address, peers, self._left())
            yield Finding(Mark.OK, f"{address} takes connections{_at(address)}")
            if not settings.insecure and not self._has_provider:
                yield Finding(Mark.OK, shake_hands(address, settings, self._left()))
        except UnreachableError as error:
            yield Finding(Mark.FAIL, str(error), error.raw)
            if peers and not address.peer:
                yield from self._elsewhere(replace(address, peer=peers[0]))
            return
        yield from self._protocols(address)

    @property
    def _has_provider(self) -> bool:
        """Whether credentials come from a package, which cannot be asked whom it trusts."""
        environment = Environment(self._environ)
        return self._settings.protocol == GRPC and any(environment.text(name) for name in PROVIDER_VARIABLES)

    def _spoken_at(self, where: object, settings: ExporterSettings) -> Finding:
        answer = ask(settings, self._left(), self._environ)
        mark = Mark.OK if answer.ok else Mark.FAIL
        return Finding(mark, f"{NAMES[settings.protocol]} at {where}: {answer.text}", answer.raw)

    # -- both protocols ------------------------------------------------------------------------------------------

    def _protocols(self, address: Address) -> Iterator[Finding]:
        settings = self._settings
        chosen, other = settings.protocol, _other(settings.protocol)
        answer = ask(settings, self._left(), self._environ)
        if answer.ok:
            yield Finding(Mark.OK, f"{NAMES[chosen]} at {address}: {answer.text}")
            yield self._beside(other, address)
            return
        if answer.speaks:
            yield Finding(Mark.FAIL, f"{NAMES[chosen]} at {address}: {answer.text}", answer.raw)
            return
        if settings.insecure and speaks_tls(address, self._left(_ASIDE_SECONDS)):
            yield Finding(Mark.FAIL, f"{address} speaks TLS, not plain text: the endpoint has to begin with https://")
            return
        there = ask(with_protocol(settings, other, address), self._left(), self._environ)
        if there.speaks:
            advice = f"set OTEL_EXPORTER_OTLP_PROTOCOL={other}"
            if address.port != PORTS[chosen] and self._speaks(chosen, address, PORTS[chosen]):
                advice += f", or use port {PORTS[chosen]}, where {NAMES[chosen]} answers"
            yield Finding(
                Mark.FAIL, f"{address} does not speak {NAMES[chosen]}, but {NAMES[other]} answers there: {advice}"
            )
            return
        yield Finding(Mark.FAIL, f"{NAMES[chosen]} at {address}: {answer.text}", answer.raw)
        yield from self._elsewhere(address)

    def _beside(self, other: str, address: Address) -> Finding:
        """Whether the collector takes the other protocol too, for the record."""
        for port in dict.fromkeys((address.port, PORTS[other])):
            if self._speaks(other, address, port):
                return Finding(Mark.NOTE, f"{NAMES[other]} answers too, at {replace(address, port=port)}")
        where = " and ".join(str(port) for port in dict.fromkeys((address.port, PORTS[other])))
        return Finding(Mark.NOTE, f"{NAMES[other]} does not answer on that host (ports {where}), nor is it configured")

    def _elsewhere(self, address: Address) -> Iterator[Finding]:
        """Where else on that host there is a collector: at the ports that OTLP has by default."""
        for protocol in (self._settings.protocol, _other(self._settings.protocol)):
            port = PORTS[protocol]
            if port != address.port and self._speaks(protocol, address, port):
                scheme = "http" if self._settings.insecure else "https"
                yield Finding(
                    Mark.NOTE,
                    f"{NAMES[protocol]} answers at {replace(address, port=port)}: set "
                    f"OTEL_EXPORTER_OTLP_ENDPOINT={scheme}://{replace(address, port=port)}"
                    + (f" and OTEL_EXPORTER_OTLP_PROTOCOL={protocol}" if protocol != self._settings.protocol else ""),
                )

    def _speaks(self, protocol: str, address: Address, port: int) -> bool:
        if self._clock() >= self._deadline:
            return False
        try:
            aside = connect(replace(address, port=port), [address.peer], self._left(_ASIDE_SECONDS))
        except UnreachableError:
            return False
        settings = with_protocol(self._settings, protocol, aside)
        return ask(settings, self._left(_ASIDE_SECONDS), self._environ).speaks


def _other(protocol: str) -> str:
    return HTTP_PROTOBUF if protocol == GRPC else GRPC


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
        return True
    except ValueError:
        return False


def _at(address: Address) -> str:
    return f" (at {address.peer})" if address.peer != address.host else ""


def proxy_variable(settings: ExporterSettings, environ: Mapping[str, str]) -> str | None:
    """The variable that names the proxy on the way to the endpoint; None where the way is direct."""
    environment = Environment(environ)
    if settings.protocol == HTTP_PROTOBUF:
        scheme = settings.endpoint.partition(":")[0]
        names = [spelling for name in (f"{scheme}_proxy", "all_proxy") for spelling in (name, name.upper())]
        return next(filter(environment.text, names), None) if settings.proxy else None
    address = Address.of(settings)
    excepted = environment.text("no_grpc_proxy") or environment.text("no_proxy") or ""
    if address is None or any(address.host.endswith(name) for entry in excepted.split(",") if (name := entry.strip())):
        return None
    return next(filter(environment.text, _GRPC_PROXIES), None)
