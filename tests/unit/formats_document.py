"""docs/formats.md taken apart: its examples, their values and its tables, for the tests.

A `hex NAME` block holds bytes, a `python NAME` block the value that they stand for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import corfu.entry
import corfu.goals
import corfu.journal.format
import corfu.journal.state
import corfu.layout
import corfu.link.control
import corfu.messages
import corfu.sequencer.bootstrap
import corfu.sequencer.identity
import corfu.sequencer.state
import corfu.storage_units.identity
import corfu.storage_units.index
import corfu.storage_units.index_file
import corfu.storage_units.records
import corfu.storage_units.standing
import corfu.types
from corfu.sequencer import commands

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()

BLOCKS: dict[tuple[str, str], str] = {
    (language, name): text
    for language, name, text in re.findall(
        r"^```(\w+) ([\w-]+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
    )
}

MODULES = (
    corfu.codec,
    corfu.entry,
    corfu.goals,
    corfu.journal.format,
    corfu.journal.state,
    corfu.layout,
    corfu.link.control,
    corfu.messages,
    corfu.sequencer.bootstrap,
    corfu.sequencer.identity,
    corfu.sequencer.state,
    corfu.storage_units.identity,
    corfu.storage_units.index,
    corfu.storage_units.index_file,
    corfu.storage_units.records,
    corfu.storage_units.standing,
    # Last: its `State` is the one that examples name.
    corfu.types,
)


def _namespace() -> dict[str, Any]:
    names: dict[str, Any] = {"commands": commands}
    for module in MODULES:
        names |= vars(module)
    exec(BLOCKS["python", "names"], names)
    return names


NAMES = _namespace()


def value_of(name: str) -> Any:
    """Return the value of a python block."""
    return eval(BLOCKS["python", name].strip(), NAMES)


def parts_of(name: str) -> dict[str, bytes]:
    """Return the byte strings of a hex block by their `# label` lines; "" for one without."""
    parts: dict[str, bytearray] = {}
    data, skip = bytearray(), False
    for line in BLOCKS["hex", name].splitlines():
        if line.startswith("# "):
            data = parts[line.removeprefix("# ")] = bytearray()
        elif line == "*":
            skip = True
        else:
            found = re.fullmatch(
                r"([0-9a-f]{4})  ([0-9a-f]{2}(?: [0-9a-f]{2})*)(?:   *\S.*)?", line
            )
            assert found, f"hex {name}: {line!r}"
            data = data if parts else parts.setdefault("", data)
            position = int(found[1], 16)
            if skip:
                data += bytes(position - len(data))
                skip = False
            assert position == len(data), f"hex {name}: {line!r} stands at {len(data):04x}"
            data += bytes.fromhex(found[2])
    return {label: bytes(part) for label, part in parts.items()}


def hex_of(name: str) -> bytes:
    """Return the bytes of a hex block that holds one byte string."""
    return parts_of(name)[""]


def rows_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = re.split(rf"^#+ {re.escape(heading)}$", DOCUMENT, maxsplit=1, flags=re.MULTILINE)[1]
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in table[1].splitlines()]
