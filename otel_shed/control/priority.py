"""What a span is worth: by an attribute that says so, by its status, by rules, by a callable of the application's.

Owns the rules, compiled once, and a bounded memory of the names that they were tried on. Called by every thread that
ends a span, without a lock. The rule: it never raises; what cannot be told is NORMAL.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otel_shed.config import ShedConfig
from otel_shed.interruption import is_applications
from otel_shed.log_limit import LogLimit
from otel_shed.record import Priority

_logger = logging.getLogger("otel_shed")

# The names that asupersync's exporter reads (parity L9).
PRIORITY_ATTRIBUTES: Final = ("otlp.priority", "observability.priority")
# Span names are few where instrumentation is right; where it is not, the rules are tried again each time.
_MAX_NAMES: Final = 1024
_VALUES: Final[Mapping[str, Priority]] = {priority.name.lower(): priority for priority in Priority}
# An enum's members are not cheap to look up in their class.
_NORMAL: Final = Priority.NORMAL
_HIGH: Final = Priority.HIGH
_ERROR: Final = StatusCode.ERROR

# What an application's own says a span is worth; None where it has no word.
ChoosePriority = Callable[[ReadableSpan], Priority | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityRule:
    """Spans of one of these names, and of one of these kinds, have this priority; either may be left open.

    names: patterns for the whole name, in which ``*`` stands for any text and ``?`` for any one character; case
    matters. kinds: of OpenTelemetry. ValueError for a rule that says neither.
    """

    priority: Priority
    names: Sequence[str] = ()
    kinds: Sequence[SpanKind] = ()

    def __post_init__(self) -> None:
        if not self.names and not self.kinds:
            raise ValueError("a priority rule needs names or kinds, or it would hold for every span")


class Classifier:
    """Says what a span is worth.

    The first that has a word counts: the first of ``attributes`` that the span has with a value of low, normal, high or
    critical; an ERROR status, which is HIGH; the first of ``rules`` that fits; ``choose``, if what it returns is a
    Priority and not None.
    """

    def __init__(
        self,
        *,
        attributes: Iterable[str] = PRIORITY_ATTRIBUTES,
        rules: Iterable[PriorityRule] = (),
        choose: ChoosePriority | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attributes = tuple(attributes)
        self._wanted = frozenset(self._attributes)
        self._rules = tuple(
            (_compiled(rule.names) if rule.names else None, frozenset(kind.value for kind in rule.kinds), rule.priority)
            for rule in rules
        )
        self._choose = choose
        self._log = LogLimit(_logger, clock=clock)
        self._known: dict[tuple[str, int], Priority | None] = {}

    @property
    def names(self) -> tuple[str, ...] | None:
        """The attributes that say a priority, where but for them only the status does; None where more does."""
        return None if self._rules or self._choose is not None else self._attributes

    def classify(self, span: ReadableSpan, attributes: Mapping[str, Any] | None = None) -> Priority:
        """The priority of a span that has ended.

        ``attributes``: the span's, where the caller has them at hand: a plain dict is read five times as fast as what
        the span's own property returns.
        """
        try:
            said = self._said(span.attributes if attributes is None else attributes)
            if said is not None:
                return said
            if span.status.status_code is _ERROR:
                return _HIGH
            if self._rules and (ruled := self._ruled(span.name, span.kind.value)) is not None:
                return ruled
        except Exception as error:  # a span that is not the SDK's
            if is_applications(error):
                raise
            self._log.warning("span", "a span's priority could not be told: %s: %s", type(error).__name__, error)
            return _NORMAL
        return _NORMAL if self._choose is None else self._chosen(span, self._choose)

    def _said(self, attributes: Mapping[str, Any] | None) -> Priority | None:
        if not attributes or self._wanted.isdisjoint(attributes):
            return None
        for name in self._attributes:
            value = attributes.get(name)
            if isinstance(value, str) and (said := _VALUES.get(value.strip().lower())) is not None:
                return said
        return None

    def _ruled(self, name: str, kind: int) -> Priority | None:
        known = self._known
        key = (name, kind)
        if key in known:
            return known[key]
        ruled = None
        for matches, kinds, priority in self._rules:
            if (matches is None or matches(name)) and (not kinds or kind in kinds):
                ruled = priority
                break
        if len(known) < _MAX_NAMES:
            known[key] = ruled
        return ruled

    def _chosen(self, span: ReadableSpan, choose: ChoosePriority) -> Priority:
        try:
            chosen = choose(span)
            return _NORMAL if chosen is None else Priority(chosen)
        except Exception as error:
            if is_applications(error):
                raise
            self._log.warning("choose", "the priority callable failed: %s: %s", type(error).__name__, error)
            return _NORMAL


def _compiled(patterns: Iterable[str]) -> Callable[[str], object]:
    """One regular expression for all of them; a run of stars is one star, or matching could take forever."""
    alternatives = "|".join("".join(map(_expression, re.split(r"(\*+|\?)", pattern))) for pattern in patterns)
    return re.compile(f"(?:{alternatives})", re.DOTALL).fullmatch


def _expression(piece: str) -> str:
    """The regular expression for a run of stars, a question mark, or text between such."""
    return ".*" if piece.startswith("*") else "." if piece == "?" else re.escape(piece)


def rules_from_settings(
    names: Mapping[Priority, Sequence[str]], kinds: Mapping[Priority, Sequence[str]]
) -> tuple[PriorityRule, ...]:
    """The rules that the settings spell: name patterns and kinds (``internal``, ``client``, ...) of each priority.

    The higher priority goes first, names go before kinds. ValueError for a kind that does not exist.
    """
    rules = []
    for patterns_of in (True, False):
        for priority in sorted(Priority, reverse=True):
            if patterns_of and (patterns := [name for name in names.get(priority, ()) if name]):
                rules.append(PriorityRule(priority=priority, names=patterns))
            elif not patterns_of and (of := [_kind(text) for text in kinds.get(priority, ()) if text]):
                rules.append(PriorityRule(priority=priority, kinds=of))
    return tuple(rules)


def _kind(text: str) -> SpanKind:
    try:
        return SpanKind[text.strip().upper()]
    except KeyError:
        known = ", ".join(kind.name.lower() for kind in SpanKind)
        raise ValueError(f"there is no span kind {text!r}, only {known}") from None


def classifier_of(config: ShedConfig, choose: ChoosePriority | None, clock: Callable[[], float]) -> Classifier:
    """The classifier that a configuration asks for, and after it the user's callable."""
    return Classifier(
        attributes=config.priority_attributes,
        rules=rules_from_settings(
            {
                Priority.LOW: config.low_priority_names,
                Priority.HIGH: config.high_priority_names,
                Priority.CRITICAL: config.critical_priority_names,
            },
            {
                Priority.LOW: config.low_priority_kinds,
                Priority.HIGH: config.high_priority_kinds,
                Priority.CRITICAL: config.critical_priority_kinds,
            },
        ),
        choose=choose,
        clock=clock,
    )
