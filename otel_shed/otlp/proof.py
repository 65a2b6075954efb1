"""Which encoder is used: the quickest that proves itself, at import, equal to the installed public one.

Owns the choice, of what wraps a span and of what reads its attributes too. It is made once, by the thread that imports
this module. The rule: no encoder of ours is used unless what it makes of sample spans that use every field is, parsed,
what the installed encoder makes of them; and nothing compiled unless it does with them what plain Python does.
"""

from __future__ import annotations

import importlib
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.compiled import extension, why_not
from otel_shed.interruption import is_applications
from otel_shed.otlp.encode import Encoder, encode_public, wrap_span
from otel_shed.otlp.request import build_request
from otel_shed.record import PlainSpanRecord, SpanRecord

_logger = logging.getLogger("otel_shed")

# Module and function, quickest first; imported one by one, so that what cannot be imported is passed over. One that is
# None was not built here, or is not wanted, and not missed.
CANDIDATES: Final = (
    "otel_shed.otlp.encode_compiled:encode_compiled",
    "otel_shed.otlp.slots:encode_slots",
    "otel_shed.otlp.encode:encode_public",
)
ATTRIBUTE_READERS: Final = (
    "otel_shed.otlp.encode_compiled:attributes_compiled",
    "otel_shed.otlp.slots:attributes_in_slots",
)
WRAPPERS: Final = ("otel_shed.otlp.encode_compiled:wrap_compiled",)
STOCK: Final = "otel_shed.otlp.stock:encode_stock"

Reference = Callable[[Sequence[ReadableSpan]], Any]


_LOGGERS_OF_ATTRIBUTES: Final = ("opentelemetry.attributes", "opentelemetry.exporter.otlp.proto.common._internal")
AttributeReader = Callable[[ReadableSpan], Mapping[str, Any]]


def choose_encoder(candidates: Sequence[str] = CANDIDATES, stock: str = STOCK) -> Encoder:
    """The first candidate that proves itself, or else the stock encoder; a step back is one line of warning."""
    try:
        last_resort: Encoder = _imported(stock)
        reference: Reference = _imported("opentelemetry.exporter.otlp.proto.common.trace_encoder:encode_spans")
    except Exception as error:
        if is_applications(error):
            raise
        _logger.warning("Spans are encoded without proof: there is no installed encoder to compare with (%r)", error)
        return encode_public
    refused = []
    for candidate in candidates:
        try:
            encoder: Encoder = _imported(candidate)
            if encoder is None:
                continue
            disprove(encoder, reference)
        except Exception as error:
            if is_applications(error):
                raise
            refused.append(f"{candidate} ({type(error).__name__}: {str(error)[:200]})")
        else:
            break
    else:
        encoder, candidate = last_resort, stock
    if refused:
        _logger.warning("Spans are encoded by %s, more slowly: not proved equal: %s", candidate, "; ".join(refused))
    return encoder


class DisprovedError(Exception):
    """An encoder and the installed one differ about a sample."""


def disprove(encoder: Encoder, reference: Reference) -> None:
    """Raise an Exception unless the encoder, with cold and with warm caches, agrees with the reference everywhere."""
    with _without_words():
        _disprove(encoder, reference)


def _disprove(encoder: Encoder, reference: Reference) -> None:
    spans = _samples()
    for _ in range(2):
        records = [encoder(span) for span in spans]
        for span, record in zip(spans, records, strict=True):
            _compare([record], reference([span]), span.name)
            if _header(record) != _header(wrap_span(span)) or record.body is None or record.length != len(record.body):
                raise DisprovedError(f"the header of the sample {span.name[:20]!r} is another")
        _compare(records, reference(spans), "all")


def _samples() -> Sequence[ReadableSpan]:
    # Not imported above: should the SDK change what the samples are made of, no proof is possible, and that is all.
    return importlib.import_module("otel_shed.otlp.samples").sample_spans()  # type: ignore[no-any-return]


@contextmanager
def _without_words() -> Iterator[None]:
    """Older SDKs log an attribute that they do not take, as some of the samples' are: that is no news for anybody."""
    loggers = [logging.getLogger(name) for name in _LOGGERS_OF_ATTRIBUTES]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _compare(records: Sequence[SpanRecord], expected: Any, name: str) -> None:
    if type(expected).FromString(build_request(records)) != expected:
        raise DisprovedError(f"the message of the sample {name[:20]!r} is another")


def _header(record: SpanRecord) -> tuple[object, ...]:
    return (
        record.trace_id,
        record.span_id,
        record.parent_span_id,
        record.flags,
        record.name,
        record.status,
        record.duration_ns,
        record.priority,
        record.kind,
        record.failed,
        record.trace_state,
    )


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def attributes_in_public(span: ReadableSpan) -> Mapping[str, Any]:
    """The span's attributes through its public property."""
    return span.attributes or {}


def choose_attribute_reader(candidates: Sequence[str] = ATTRIBUTE_READERS) -> AttributeReader:
    """The first reader that gives what the public property does for every sample, or else that one."""
    for candidate in candidates:
        try:
            reader: AttributeReader = _imported(candidate)
            with _without_words():
                spans = _samples()
            if reader is not None and all(dict(reader(span)) == dict(span.attributes or {}) for span in spans):
                return reader
        except Exception as error:
            if is_applications(error):
                raise
            continue
    return attributes_in_public


def wraps_alike(wrap: Encoder | None) -> bool:
    """Whether ``wrap`` makes of every sample the record that the plain one does."""
    if wrap is None:
        return False
    fields = operator.attrgetter(*PlainSpanRecord.__slots__)
    try:
        with _without_words():
            spans = _samples()
        return all(fields(wrap(span)) == fields(wrap_span(span)) for span in spans)
    except Exception as error:  # the samples cannot be made with this SDK, or not be read
        if is_applications(error):
            raise
        return False


def choose_wrapper(candidates: Sequence[str] = WRAPPERS) -> Encoder:
    """The first of them that does what the plain one does, or else that one."""
    for candidate in candidates:
        try:
            wrapper: Encoder = _imported(candidate)
        except Exception as error:
            if is_applications(error):
                raise
            continue
        if wraps_alike(wrapper):
            return wrapper
    return wrap_span


encode_span: Final[Encoder] = choose_encoder()
# For exporters that want the span itself.
wrap: Final[Encoder] = choose_wrapper()
# For whatever looks at a few attributes of every span that ends: five times as fast as the public property.
attributes_of: Final[AttributeReader] = choose_attribute_reader()


@dataclass(frozen=True)
class CompiledParts:
    """Whether the compiled parts are in use in this process.

    why_not: the reason where they are not, else "".
    """

    in_use: bool
    why_not: str

    def __bool__(self) -> bool:
        return self.in_use

    def __str__(self) -> str:
        return "in use" if self.in_use else f"not in use: {self.why_not}"


def compiled_parts(encoder: Encoder = encode_span) -> CompiledParts:
    """Whether spans are encoded in C here, and if not, why plain Python does it, which costs more CPU."""
    if extension is None:
        return CompiledParts(in_use=False, why_not=why_not)
    if not isinstance(getattr(encoder, "__self__", None), extension.Encoder):
        return CompiledParts(
            in_use=False,
            why_not="what they make of a span is not what the installed OpenTelemetry encoder makes of it",
        )
    return CompiledParts(in_use=True, why_not="")
