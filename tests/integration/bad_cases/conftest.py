"""What the tests of bad cases share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.bad_cases.network import OwnNetwork, own_network


@pytest.fixture
def network() -> Iterator[OwnNetwork]:
    with own_network() as network:
        yield network
