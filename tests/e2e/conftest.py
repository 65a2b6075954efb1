"""The collector and the gateway of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.collectors import Envoy, Rotel


@pytest.fixture
def collector() -> Iterator[Rotel]:
    """A real collector that counts the spans that it takes."""
    rotel = Rotel()
    yield rotel
    rotel.stop()


@pytest.fixture
def naming_collector() -> Iterator[Rotel]:
    """A real collector that tells the name and the id of every span that it takes."""
    rotel = Rotel(detailed=True)
    yield rotel
    rotel.stop()


@pytest.fixture
def gateway(collector: Rotel, tmp_path: Path) -> Iterator[Envoy]:
    """A real gateway in front of ``collector``."""
    envoy = Envoy(collector, tmp_path)
    yield envoy
    envoy.stop()
