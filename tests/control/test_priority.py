"""What a span is worth: attribute, then status, then rules, then a callable; never an exception."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from otel_shed.control.priority import Classifier, PriorityRule, rules_from_settings
from otel_shed.log_limit import PREFIX
from otel_shed.record import Priority
from otel_shed.testing.clock import FakeClock


def span(
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str = "work",
    kind: SpanKind = SpanKind.INTERNAL,
    status: StatusCode = StatusCode.UNSET,
) -> ReadableSpan:
    context = SpanContext(1, 2, False)
    return ReadableSpan(
        name, context, resource=Resource.get_empty(), attributes=attributes, kind=kind, status=Status(status)
    )


LOW_HEALTH = PriorityRule(priority=Priority.LOW, names=["GET /health*"])


@pytest.mark.parametrize("name", ["otlp.priority", "observability.priority"])
@pytest.mark.parametrize("priority", list(Priority))
def test_the_attribute_says_it(name: str, priority: Priority) -> None:
    """Parity L9: either attribute with low, normal, high or critical, in any case."""
    classifier = Classifier()
    assert classifier.classify(span({"http.route": "/", name: priority.name.lower()})) is priority
    assert classifier.classify(span({name: f" {priority.name} "})) is priority


def test_the_first_attribute_that_says_something_counts() -> None:
    """Where both are set the first of the settings wins, unless it says nothing that is known."""
    classifier = Classifier()
    assert classifier.classify(span({"observability.priority": "high", "otlp.priority": "low"})) is Priority.LOW
    assert classifier.classify(span({"observability.priority": "high", "otlp.priority": "?"})) is Priority.HIGH


def test_other_attribute_names() -> None:
    """The names come from the settings; none at all is possible."""
    said = span({"otlp.priority": "low", "my.worth": "critical"})
    assert Classifier(attributes=["my.worth"]).classify(said) is Priority.CRITICAL
    assert Classifier(attributes=[]).classify(said) is Priority.NORMAL


@pytest.mark.parametrize("value", ["", "urgent", 3, True, 0.5, b"low", ("low",), {"low": 1}, None])
def test_a_value_that_says_nothing(value: Any) -> None:
    """What is none of the four words is as if it were not there."""
    assert Classifier().classify(span({"otlp.priority": value}, status=StatusCode.ERROR)) is Priority.HIGH


def test_a_failed_span_is_high() -> None:
    """An ERROR status is HIGH, whatever the rules say; OK and unset are not; the attribute goes before it."""
    classifier = Classifier(rules=[LOW_HEALTH])
    assert classifier.classify(span(name="GET /health", status=StatusCode.ERROR)) is Priority.HIGH
    assert classifier.classify(span(status=StatusCode.OK)) is Priority.NORMAL
    assert classifier.classify(span({"otlp.priority": "low"}, status=StatusCode.ERROR)) is Priority.LOW


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("GET /health*", "GET /health", True),
        ("GET /health*", "GET /healthz/live", True),
        ("GET /health*", "get /health", False),
        ("GET /health*", "POST GET /health", False),
        ("*.ping", "redis.ping", True),
        ("*.ping", "redis.pings", False),
        ("a**c", "abbc", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("GET /users/[id]", "GET /users/[id]", True),
        ("GET /users/[id]", "GET /users/i", False),
        ("a.c", "abc", False),
        ("*", "anything\nat all", True),
        ("", "", True),
        ("a|b", "a", False),
        ("a|b", "a|b", True),
    ],
)
def test_name_patterns(pattern: str, name: str, fits: bool) -> None:
    """Patterns are for the whole name; only * and ? mean anything else than themselves."""
    classifier = Classifier(rules=[PriorityRule(priority=Priority.LOW, names=[pattern])])
    for _ in range(2):  # the second time from memory
        assert classifier.classify(span(name=name)) is (Priority.LOW if fits else Priority.NORMAL)


def test_the_first_rule_that_fits_counts() -> None:
    """Rules are tried in order; a rule with names and kinds wants both."""
    classifier = Classifier(
        rules=[
            PriorityRule(priority=Priority.CRITICAL, names=["pay*", "refund"], kinds=[SpanKind.SERVER]),
            PriorityRule(priority=Priority.LOW, kinds=[SpanKind.CLIENT, SpanKind.INTERNAL]),
            PriorityRule(priority=Priority.HIGH, names=["pay*"]),
        ]
    )
    assert classifier.classify(span(name="refund", kind=SpanKind.SERVER)) is Priority.CRITICAL
    assert classifier.classify(span(name="payout", kind=SpanKind.CLIENT)) is Priority.LOW
    assert classifier.classify(span(name="payout", kind=SpanKind.CONSUMER)) is Priority.HIGH
    assert classifier.classify(span(name="other", kind=SpanKind.CONSUMER)) is Priority.NORMAL


def test_a_rule_for_everything_is_refused() -> None:
    """A rule without names and kinds is an error: it would hold for every span."""
    with pytest.raises(ValueError, match="names or kinds"):
        PriorityRule(priority=Priority.LOW)


def test_rules_from_settings() -> None:
    """Names and kinds from the settings: the higher priority goes first, names go before kinds."""
    classifier = Classifier(
        rules=rules_from_settings(
            {Priority.LOW: ["GET *", ""], Priority.HIGH: ["GET /pay*"]},
            {Priority.LOW: ["internal", " Client "], Priority.CRITICAL: ["consumer"]},
        )
    )
    assert classifier.classify(span(name="GET /pay/1")) is Priority.HIGH
    assert classifier.classify(span(name="GET /", kind=SpanKind.CONSUMER)) is Priority.LOW
    assert classifier.classify(span(kind=SpanKind.CONSUMER)) is Priority.CRITICAL
    assert classifier.classify(span(kind=SpanKind.CLIENT)) is Priority.LOW
    assert classifier.classify(span(kind=SpanKind.SERVER)) is Priority.NORMAL
    assert rules_from_settings({}, {}) == ()
    with pytest.raises(ValueError, match="'sever'"):
        rules_from_settings({}, {Priority.LOW: ["sever"]})


def test_the_callable_has_the_last_word() -> None:
    """A callable is asked when nothing else has a word; None is NORMAL."""
    asked = []

    def choose(asking: ReadableSpan) -> Priority | None:
        asked.append(asking.name)
        return Priority.CRITICAL if asking.name == "pay" else None

    classifier = Classifier(rules=[LOW_HEALTH], choose=choose)
    assert classifier.classify(span(name="pay")) is Priority.CRITICAL
    assert classifier.classify(span(name="stroll")) is Priority.NORMAL
    assert classifier.classify(span(name="GET /health")) is Priority.LOW
    assert asked == ["pay", "stroll"]


@pytest.mark.parametrize("bad", ["high", 17, -1, object(), float("nan")])
def test_a_callable_that_says_nonsense(bad: Any, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """What is no Priority is NORMAL, with one warning a minute."""
    classifier = Classifier(choose=lambda _: bad, clock=clock)
    for _ in range(90):
        assert classifier.classify(span()) is Priority.NORMAL
        clock.advance(1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_callable_that_raises(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A classifier of the application's that raises costs nothing but its word."""

    def choose(_: ReadableSpan) -> Priority:
        raise LookupError("no such tenant")

    classifier = Classifier(choose=choose, clock=clock)
    assert [classifier.classify(span()) for _ in range(10)] == [Priority.NORMAL] * 10
    assert caplog.messages == [f"{PREFIX}the priority callable failed: LookupError: no such tenant"]


def test_a_span_that_breaks_when_it_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """Something that is no span of the SDK's is NORMAL."""

    class Broken(dict[str, str]):
        def get(self, *_: object) -> str:
            raise RuntimeError

    with caplog.at_level(logging.WARNING):
        assert Classifier().classify(object()) is Priority.NORMAL  # type: ignore[arg-type]
        assert Classifier().classify(span(Broken({"otlp.priority": "low"}))) is Priority.NORMAL
    assert len(caplog.records) == 2


def test_attributes_at_hand_go_before_the_spans() -> None:
    """A caller that has the attributes already hands them over, and the span's are not read."""
    assert Classifier().classify(span(), {"otlp.priority": "high"}) is Priority.HIGH
    assert Classifier().classify(span({"otlp.priority": "high"}), {}) is Priority.NORMAL


def test_many_names_are_not_remembered() -> None:
    """Names that never come twice do not fill the memory, and are still told apart."""
    classifier = Classifier(rules=[LOW_HEALTH])
    for number in range(5_000):
        assert classifier.classify(span(name=f"GET /health/{number}")) is Priority.LOW
    assert len(classifier._known) <= 1024


def test_stars_do_not_take_forever() -> None:
    """A pattern of many stars is tried on a long name in no time."""
    classifier = Classifier(rules=[PriorityRule(priority=Priority.LOW, names=["*" * 50 + "a*" * 3 + "b"])])
    began = time.perf_counter()
    assert classifier.classify(span(name="a" * 300)) is Priority.NORMAL
    assert time.perf_counter() - began < 2


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers()), st.text())
@settings(deadline=None)
def test_any_span_has_a_priority(attributes: dict[str, Any], name: str) -> None:
    """Whatever the span says, the answer is one of the four."""
    classifier = Classifier(attributes=["", "a"], rules=[LOW_HEALTH])
    assert classifier.classify(span(attributes, name=name)) in Priority
