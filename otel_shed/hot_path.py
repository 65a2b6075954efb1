"""The compiled hot path: what a processor's ``on_end`` does with the usual span, in C.

Called where processors are made. The rule: it takes what the plain ``on_end`` would take and does the same with it, and
leaves to that one whatever is not as usual, so nobody can tell which of them it was but by the time it took, and by the
tenth of a second after which it follows the phase. What it makes of a span has been proved in otlp/proof.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_shed.compiled import extension
from otel_shed.config import ShedConfig
from otel_shed.control.brownout import INTERVAL_SECONDS
from otel_shed.control.overload import OverloadControl
from otel_shed.otlp.encode import wrap_span
from otel_shed.otlp.proof import encode_span, wrap
from otel_shed.outcome import DropReason
from otel_shed.pipeline.pipeline import Pipeline
from otel_shed.record import Priority

OnEnd = Callable[[ReadableSpan], None]

# The compiled encoder, if it is that which has proved itself: not imported, since with another SDK it may not be there.
_ENCODER: Final[Any] = getattr(encode_span, "__self__", None)


def compiled_on_end(
    careful: OnEnd,
    control: OverloadControl,
    pipeline: Pipeline,
    config: ShedConfig,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> OnEnd | None:
    """The hot path of ``pipeline``, before ``careful``, the plain one; None where there is none.

    There is one where the compiled encoder is in use, time is the operating system's, and spans are not judged as they
    end (as in observe mode).
    """
    gate = control.gate
    is_usual = gate.judging(decides_traces=True) == gate.weigh and control.clock is clock
    record = pipeline.sender.record
    wraps = record is wrap and record is not wrap_span
    if extension is None or _ENCODER is None or not is_usual or not (wraps or record is encode_span):
        return None

    def look() -> tuple[float, int]:
        """When to look again, and how many characters an attribute's value may have; -1 for any."""
        if pipeline.resource is None:
            raise LookupError("the first span is for the plain one, which remembers its resource")
        limit = gate.look()
        return clock() + INTERVAL_SECONDS, -1 if limit is None else limit

    hot_path: Any = extension.HotPath(
        encoder=_ENCODER,
        careful=careful,
        intake=pipeline.intake,
        clock=clock,
        look=look,
        classify=gate.classifier.classify,
        names=gate.classifier.names,
        normal=Priority.NORMAL,
        high=Priority.HIGH,
        interrupted=partial(pipeline.intake.book, DropReason.ENCODE_FAILED),
        # What is larger has its size worked out, which is hardly ever needed.
        roomy=min(config.max_held_bytes, config.max_request_bytes // 2),
        wraps=wraps,
    )
    return hot_path  # type: ignore[no-any-return]
