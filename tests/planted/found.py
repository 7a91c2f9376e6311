"""The seeds that found each bug last: `found.json`, written by `python -m tests.planted --save`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from .hunt import Finding

PATH = Path(__file__).with_name("found.json")


def load() -> dict[str, Finding]:
    """Return the kept findings, by bug."""
    return {name: Finding(**found) for name, found in json.loads(PATH.read_text()).items()}


def save(found: Finding) -> None:
    """Keep a finding, if it is one, beside those of other bugs."""
    kept = load() if PATH.exists() else {}
    if found.violation is not None:
        kept[found.bug] = found
    told = {name: asdict(each) for name, each in sorted(kept.items())}
    PATH.write_text(json.dumps(told, indent=1) + "\n")
