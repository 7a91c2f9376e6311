"""What all integration tests share: each leaves its logs for a look, but not its journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running import remove_journals


@pytest.fixture(autouse=True)
def _journals_removed(tmp_path: Path) -> Iterator[None]:
    yield
    remove_journals(tmp_path)
