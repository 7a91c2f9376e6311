"""What a planted bug replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Patch:
    """Put `new` in the place of attribute `name` of a class or module."""

    owner: object
    name: str
    new: Any
