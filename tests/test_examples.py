"""Each example runs as its own text says, and does what it says."""

from __future__ import annotations

import json
import re
import signal
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_shed.testing.answers import Answer, Request, accept, retry_info
from otel_shed.testing.receiver import Receiver
from tests.launched import Launched, free_port, until

_ROOT = Path(__file__).parent.parent
_EXAMPLES = _ROOT / "examples"
_NAMES = sorted(path.name for path in _EXAMPLES.glob("*.py"))
_BIN = Path(sys.executable).parent


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(keep=10_000) as receiver:
        yield receiver


def _launch(example: str, endpoint: str) -> Launched:
    return Launched([sys.executable, _EXAMPLES / example], {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, cwd=_ROOT)


def _run(example: str, receiver: Receiver) -> str:
    with _launch(example, receiver.grpc_endpoint) as program:
        assert program.wait(60) == 0, program.output
        return program.output


def _serve(command: list[str | Path], receiver: Receiver, **variables: str) -> Launched:
    """The server, with spans that wait for a batch for a tenth of a second only."""
    common = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc_endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    return Launched([_BIN / command[0], *command[1:]], common | variables, cwd=_ROOT)


def _get(port: int, path: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        return json.load(response)


def _received(receiver: Receiver) -> list[tuple[dict[str, str], Span]]:
    """Every span in the requests kept, with its resource's attributes; those of refused requests too."""
    return [
        ({each.key: each.value.string_value for each in part.resource.attributes}, span)
        for request in list(receiver.requests)
        for part in ExportTraceServiceRequest.FromString(request.payload).resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _number(pattern: str, output: str) -> int:
    """The number that a line of the output gives where the pattern has its group."""
    match = re.search(pattern, output)
    assert match is not None, f"no {pattern!r} in:\n{output}"
    return int(match[1].replace(",", ""))


@pytest.mark.parametrize("example", _NAMES)
def test_examples_are_short(example: str) -> None:
    """An example can be read at a glance: fewer than 60 lines."""
    assert len((_EXAMPLES / example).read_text().splitlines()) < 60


@pytest.mark.parametrize("example", _NAMES)
def test_examples_are_listed_and_run(example: str) -> None:
    """Each example is in the folder's README, and a test here is named after it."""
    assert f"[{example}]({example})" in (_EXAMPLES / "README.md").read_text()
    assert f"test_{example.removesuffix('.py')}" in globals()


def test_with_code(receiver: Receiver) -> None:
    """Three spans for each of a hundred orders arrive, and the example says so."""
    output = _run("with_code.py", receiver)
    assert output == "everything delivered: True\nended 300, exported 300, dropped {}, unknown 0"
    assert receiver.counts.spans == 300


def test_drop_in(receiver: Receiver) -> None:
    """Two of the six batches fail, which flush and account tell."""
    output = _run("drop_in.py", receiver)
    assert "everything delivered: False" in output
    assert "ended 60, exported 40, dropped {'exporter_error': 20}, unknown 0" in output


def test_thread_pool(receiver: Receiver) -> None:
    """The sampler decides once for each order, and every order arrives as one trace of four spans."""
    output = _run("thread_pool.py", receiver)
    assert "traces decided on 100, not recorded 0; whole 100" in output
    assert "ended 400, exported 400, dropped {}, unknown 0" in output
    assert list(Counter(span.trace_id for _, span in _received(receiver)).values()) == [4] * 100


def test_event_loop_lag(receiver: Receiver) -> None:
    """The blocked loop is the reason that the log gives for shedding; the phase is normal again before the end."""
    output = _run("event_loop_lag.py", receiver)
    assert re.search(r"-> degrade \(pressure 0\.\d+, event_loop_lag", output), output
    assert "recovery -> normal" in output
    shed = _number(r"dropped {'low_priority': (\d+)}", output)
    assert shed >= 50  # most of the hundred that ended while the loop was blocked
    assert f"ended 700, exported {700 - shed}, " in output
    assert output.endswith("unknown 0")
    assert receiver.counts.spans == 700 - shed


def test_outside_ledger(receiver: Receiver) -> None:
    """While the ledger says so only failed orders go out, for the reason that it gives; then all do again."""
    output = _run("outside_ledger.py", receiver)
    assert "\nphase shed_optional, because of INC-42\n" in output
    assert output.count("because of") == 1
    summarized = _number(r"summarized (\d+) \(0 failed\)", output)
    assert 50 <= summarized < 200
    assert output.endswith(f"ended 300, exported {300 - summarized}, summarized {summarized} (0 failed), dropped {{}}")
    failed = [span for _, span in _received(receiver) if span.status.code == Status.STATUS_CODE_ERROR]
    assert (receiver.counts.spans, len(failed)) == (300 - summarized, 30)


def test_account_at_exit(receiver: Receiver) -> None:
    """Every span that did not reach the collector is in the account by its reason, and in the summary by its name."""
    output = _run("account_at_exit.py", receiver)
    exported = _number(r"of 20,000 spans ([\d,]+) were exported, 0 are unknown", output)
    assert receiver.counts.spans == exported < 20_000
    assert _number(r"([\d,]+) low_priority", output) > 0
    assert _number(r"([\d,]+) queue_full", output) > 0
    assert _number(r"([\d,]+) cache get, 0 of them failed", output) > 0
    shed = re.findall(r"([\d,]+) (?:order|cache get), \d+ of them failed", output)
    assert sum(int(count.replace(",", "")) for count in shed) == 20_000 - exported


def test_without_a_collector() -> None:
    """Where nothing listens, each example that is a program ends as well, and says what it could not deliver."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    names = ["with_code.py", "thread_pool.py", "event_loop_lag.py", "outside_ledger.py", "account_at_exit.py"]
    with ExitStack() as stack:
        programs = [stack.enter_context(_launch(name, nowhere)) for name in names]
        for program in programs:
            assert program.wait(60) == 0, program.output
            assert re.search(r"exported 0|spans 0 were exported", program.output), program.output
            assert re.search(r"'shutdown': \d+|\d shutdown", program.output), program.output
            assert "Traceback" not in program.output


def test_environment_only(receiver: Receiver) -> None:
    """The command in the example serves requests, and their spans arrive when SIGTERM ends it."""
    port = free_port()
    variables = {"OTEL_PYTHON_DISTRO": "shed", "OTEL_SERVICE_NAME": "shop", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    application = ["uvicorn", "--app-dir", "examples", "environment_only:app", "--port", str(port)]
    with _serve(["opentelemetry-instrument", *application], receiver, **variables) as program:
        program.wait_until_listening(port)
        for number in range(5):
            assert _get(port, f"/orders/{number}") == {"order": number}
        program.send(signal.SIGTERM)
        assert program.wait(20) == -signal.SIGTERM
    # Of each request: the framework's span, its two for the answer's head and body, and the program's own.
    assert receiver.counts.spans == 5 * 4


@pytest.mark.parametrize("set_up", ["before the fork", "in post_fork"])
def test_flask_gunicorn(receiver: Receiver, set_up: str) -> None:
    """Each of two workers exports the spans of what it answered, as an instance of its own, while both run."""
    port = free_port()
    before = set_up == "before the fork"
    application = ["--preload", "flask_gunicorn:traced()"] if before else ["flask_gunicorn:app"]
    config = [] if before else ["--config", "examples/flask_gunicorn.py"]
    command = ["gunicorn", "--bind", f"127.0.0.1:{port}", "--chdir", "examples", "--workers", "2"]
    answered: Counter[int] = Counter()

    def both_have_answered() -> bool:
        answered[_get(port, "/orders/7")["worker"]] += 1
        return len(answered) == 2

    with _serve([*command, *config, *application], receiver) as program:
        program.wait_until_listening(port)
        until(both_have_answered, what=lambda: f"an answer of each worker:\n{program.output}")
        assert receiver.wait_for_spans(2 * answered.total(), 20), program.output
        account = _get(port, "/account")
        assert account == account | {"phase": "normal", "ended": 2 * answered[account["worker"]]}
        program.send(signal.SIGTERM)
        assert program.wait(20) == 0, program.output
    stock = [(span, resource) for resource, span in _received(receiver) if span.name == "stock"]
    assert Counter(span.attributes[0].value.int_value for span, _ in stock) == answered
    assert len({resource["service.instance.id"] for _, resource in stock}) == 2


def test_fastapi_app(receiver: Receiver) -> None:
    """While the collector throttles, the application says so and sheds health checks; every order arrives later."""
    port = free_port()

    def throttle(request: Request) -> Answer:
        return Answer(code="UNAVAILABLE", trailers=(("grpc-status-details-bin", retry_info(1.0)),))

    receiver.answer = throttle
    command: list[str | Path] = ["uvicorn", "--app-dir", "examples", "fastapi_app:app", "--port", str(port)]
    # The sampler keeps every trace, so that the health check below begins one.
    with _serve(command, receiver, OTEL_SHED_MIN_PROBABILITY="1") as program:
        program.wait_until_listening(port)
        for number in range(5):
            assert _get(port, f"/orders/{number}") == {"order": number}
        until(lambda: _get(port, "/tracing")["phase"] == "degrade", what=lambda: program.output)
        assert _get(port, "/health") == "well"
        assert _get(port, "/tracing")["reasons"][0] == "throttled"
        # The decision thread sees to it: the request's, and two for the answer's head and body.
        until(lambda: _get(port, "/tracing")["dropped"] == {"low_priority": 3}, what=lambda: program.output)
        receiver.answer = accept
        assert receiver.wait_for_spans(5 * 4, 20), program.output
        program.send(signal.SIGINT)
        assert program.wait(20) in (0, -signal.SIGINT), program.output
    assert receiver.counts.spans == 5 * 4
