"""Collectors in a time that only the simulation moves: one that is slow, and one that refuses.

Models, not tests. Each takes so many spans a second in all, from however many programs, and makes no difference
between them: what it says depends on what it has been asked before and on nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from otel_shed.otlp.retry import Attempt, Verdict, no_answer

ROUND_TRIP = 0.005
# Of one request: the default of OTEL_EXPORTER_OTLP_TIMEOUT.
TIMEOUT_SECONDS = 10.0

_REFUSED_CONNECTION = no_answer("connection refused")
_TIMED_OUT = no_answer("timed out", timed_out=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request, when it comes, and in what time the collector took what it took of it."""

    at: float
    attempt: Attempt
    since: float = 0.0
    until: float = 0.0


class Collector(Protocol):
    """Answers requests, made in the order of their times; capacity: spans a second."""

    capacity: float
    down: bool

    def request(self, now: float, size: int) -> Answer:
        """The answer to one of ``size`` spans."""


@dataclass
class Blocking:
    """Works through requests in the order in which they come, and answers each when it is done."""

    capacity: float
    down: bool = False
    free_at: float = 0.0

    def request(self, now: float, size: int) -> Answer:
        if self.down:
            return Answer(now + ROUND_TRIP, _REFUSED_CONNECTION)
        since = max(now, self.free_at)
        self.free_at = since + size / self.capacity
        at = self.free_at + ROUND_TRIP
        if at - now > TIMEOUT_SECONDS:  # nobody waits for it any more, and it is worked on all the same
            return Answer(now + TIMEOUT_SECONDS, _TIMED_OUT)
        return Answer(at, Attempt(Verdict.ACCEPTED, "OK", duration=at - now), since, self.free_at)


@dataclass
class Throttling:
    """Takes what its token bucket has room for, ``burst`` seconds' worth at once; refuses more, and says for how long.

    strict: it lets a request in only if there is room for all of it; otherwise if there is room for any.
    """

    capacity: float
    down: bool = False
    burst: float = 2.0
    strict: bool = False
    requests: int = 0
    refused: int = 0
    _at: float = 0.0
    _room: float = math.inf
    _booked: float = -math.inf

    def request(self, now: float, size: int) -> Answer:
        if self.down:
            return Answer(now + ROUND_TRIP, _REFUSED_CONNECTION)
        self.requests += 1
        most = max(self.burst * self.capacity, 2.0 * size)
        self._room = min(most, self._room + (now - self._at) * self.capacity)
        self._at = now
        wanted = size if self.strict else 1
        if self._room >= wanted:
            self._room -= size
            # The room for it came since the last one was let in; at once, it would come in lumps of a batch.
            since, self._booked = max(0.0, self._booked, now - size / self.capacity), now
            accepted = Attempt(Verdict.ACCEPTED, "200", duration=ROUND_TRIP)
            return Answer(now + ROUND_TRIP, accepted, since, now)
        self.refused += 1
        wait = math.ceil((wanted - self._room) / self.capacity)  # Retry-After has whole seconds
        refused = Attempt(Verdict.RETRYABLE, "429", retry_after=float(wait), duration=ROUND_TRIP)
        return Answer(now + ROUND_TRIP, refused)
