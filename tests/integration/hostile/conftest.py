"""What the tests of hostile networks and disks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.bad_cases.network import OwnNetwork, own_network
from tests.integration.hostile.figures import Figures


@pytest.fixture
def network() -> Iterator[OwnNetwork]:
    with own_network() as network:
        yield network


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    return Figures(record_property)
