"""What a program prints through Python's own logging: nothing while all is well, few lines in words when it is not."""

from __future__ import annotations

from tests.faults.delivered import start
from tests.faults.storms import collector
from tests.launched import free_port

GO_ON = "The program goes on and is not affected"


def lines(rate: float, seconds: float, **variables: str) -> list[str]:
    with start("tells.py", str(rate), str(seconds), **variables) as program:
        assert program.wait(seconds + 60) == 0, program.output
    return list(program.lines)


def test_the_collector_is_down() -> None:
    """One line while it lasts, with the endpoint, that the program goes on, and the doctor; and one at the end."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    down, end = lines(50, 9, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="200")
    assert down.startswith(f"otel-shed: the collector at {endpoint} does not answer (")
    assert GO_ON in down
    assert "run: otel-shed doctor" in down
    assert end.startswith("otel-shed: at the end 900 of 900 spans had not been delivered to the collector at ")


def test_a_storm() -> None:
    """One line when shedding begins, with rates and counts, and one at the end; none for a span."""
    with collector("grpc", "slow", 300) as (_, endpoint):
        begins, end = lines(1000, 8, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert begins.startswith(f"otel-shed: the collector at {endpoint} ")
    assert "whole traces are shed, failed ones last. In " in begins
    assert f"{GO_ON} (docs/overload.md)" in begins
    assert end.startswith("otel-shed: at the end ")
    assert " of 16,000 spans had not been delivered" in end


def test_all_is_well() -> None:
    """A healthy run prints nothing at all."""
    with collector("grpc", "slow", 100_000) as (_, endpoint):
        assert lines(300, 4, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) == []
