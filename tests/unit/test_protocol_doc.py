"""docs/protocol.md names the check that holds each rule: each named check is there."""

import re
from pathlib import Path

from corfu.messages import KINDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()


def test_protocol_doc_names_only_tests_that_exist() -> None:
    there: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        there.update(re.findall(r"def (test_\w+)", path.read_text()))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named
    assert named - there == set()


def test_protocol_doc_lists_every_message_by_its_number() -> None:
    missing = [
        f"{number} {message.__name__}"
        for number, message in KINDS.items()
        if not re.search(rf"\b{number} (\| )?{message.__name__}\b", TEXT)
    ]
    assert missing == []
