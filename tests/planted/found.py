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


def save(findings: list[Finding]) -> None:
    """Keep these findings, beside those of other bugs."""
    kept = load() if PATH.exists() else {}
    kept |= {found.bug: found for found in findings if found.violation is not None}
    told = {name: asdict(found) for name, found in sorted(kept.items())}
    PATH.write_text(json.dumps(told, indent=1) + "\n")
