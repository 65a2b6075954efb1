"""What a reader collects, as plain values."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

COMPONENT_NAME = "otel.component.name"


class Point(NamedTuple):
    attributes: Mapping[str, Any]
    value: Any
    """A number; of a histogram how many there are, and their sum."""


def collected(reader: InMemoryMetricReader) -> dict[str, list[Point]]:
    """The points by the names of their metrics."""
    data = reader.get_metrics_data()
    metrics = [
        metric
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    assert len(metrics) == len({metric.name for metric in metrics}), "a metric is there twice"
    return {
        metric.name: [
            Point(dict(point.attributes or {}), (point.count, point.sum) if hasattr(point, "count") else point.value)
            for point in metric.data.data_points
        ]
        for metric in metrics
    }


def values(reader: InMemoryMetricReader, name: str, by: str = COMPONENT_NAME) -> dict[Any, Any]:
    """The values of one metric by one of its attributes, None for points without it; each may be there once."""
    points = collected(reader).get(name, [])
    found = {point.attributes.get(by): point.value for point in points}
    assert len(found) == len(points)
    return found


def in_a_child(call: Callable[[], Any]) -> Any:
    """What ``call`` returns in a forked child."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.write(writing, pickle.dumps(call()))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return pickle.loads(said)
