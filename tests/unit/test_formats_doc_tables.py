"""The tables and lists of docs/formats.md have the sizes, fields and numbers of the code."""

from __future__ import annotations

import enum
import re
import struct
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

import corfu.embedded.folder
import corfu.embedded.store
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
from corfu import codec, codec_data, config, schema
from corfu.messages import KINDS
from corfu.sequencer import commands, storage
from tests.unit.formats_document import DOCUMENT, rows_of

U64 = struct.Struct("<Q")
LAYOUTS: dict[str, tuple[struct.Struct, ...]] = {
    "Frame header": (codec._HEAD, codec._DIGEST),
    "FragmentProbe": (corfu.link.control._PROBE,),
    "FragmentAck": (corfu.link.control._ACK,),
    "Entry": (corfu.entry._HEAD,),
    "Compressed entry": (corfu.entry._EXPANDED_DICTIONARY,),
    "File header": (corfu.journal.format._FILE, struct.Struct("<440x"), U64),
    "Batch header": (corfu.journal.format._BATCH,),
    "Record": (corfu.journal.format._RECORD,),
    "State record": (corfu.journal.state._HEAD,),
    "Doubt record": (corfu.journal.state._DOUBT,),
    "Index file": (corfu.storage_units.index_file._HEADER,),
    "Identity of a unit": (corfu.storage_units.identity._HEADER,),
    "Identity of a replica": (corfu.sequencer.identity._HEADER,),
    "Snapshot": (storage._SNAPSHOT,),
    "Identity of an embedded log": (corfu.embedded.folder._IDENTITY,),
}


def _sizes(layout: struct.Struct) -> Iterator[int]:
    for count, code in re.findall(r"(\d*)(x+|[a-zA-Z])", layout.format):
        size = struct.calcsize(f"{layout.format[0]}{count}{code}")
        times = 1 if code[0] in "sx" else int(count or 1)
        yield from [size // times] * times


@pytest.mark.parametrize("heading", LAYOUTS)
def test_layout_table_has_the_fields_of_the_struct(heading: str) -> None:
    at = 0
    rows = [row for row in rows_of(heading) if row[0].isdigit() and row[1].isdigit()]
    sizes = [size for layout in LAYOUTS[heading] for size in _sizes(layout)]
    assert [int(row[1]) for row in rows] == sizes
    for row in rows:
        assert int(row[0]) == at, row
        at += int(row[1])


DISPLAYED = {corfu.storage_units.standing._Written: "Standing"}


def _text(kind: Any) -> str:
    """Return a type as the document writes it."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        (element,) = [each for each in arguments if each is not Ellipsis]
        return f"[{_text(element)}]"
    if types.NoneType in arguments:
        return f"{_text(next(each for each in arguments if each is not types.NoneType))}?"
    name: str = kind.__name__
    return DISPLAYED.get(kind, name)


def _fields(kind: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else kind._fields
    return [(name, hints[name]) for name in names]


def _shape(members: list[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {_text(kind)}" for name, kind in members) or "none"


def message_rows() -> list[list[str]]:
    rows = []
    for number, message in KINDS.items():
        if message not in codec_data.DATA_CODECS:
            inner = [m for m in _fields(message) if m[0] not in ("request", "epoch", "offset")]
            named = [m[0] for m in _fields(message) if m[0] in ("epoch", "offset")]
            rows.append([str(number), message.__name__, ", ".join(named), _shape(inner)])
    return rows


def command_rows() -> list[list[str]]:
    return [[str(n), kind.__name__, _shape(_fields(kind))] for n, kind in commands.KINDS.items()]


def _nested(kind: Any, found: dict[Any, None]) -> None:
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    for argument in typing.get_args(kind):
        _nested(argument, found)
    composite = isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))
    if composite and kind not in found:
        found[kind] = None
        for _, member in _fields(kind):
            _nested(member, found)


def value_rows() -> list[list[str]]:
    found: dict[Any, None] = {}
    messages = [kind for kind in KINDS.values() if kind not in codec_data.DATA_CODECS]
    outer = [*messages, *commands.KINDS.values()]
    files = (
        corfu.storage_units.identity.UnitIdentity,
        corfu.storage_units.standing._Written,
        corfu.sequencer.identity.ReplicaIdentity,
        corfu.sequencer.state.State,
    )
    for kind in (*outer, *files):
        _nested(kind, found)
    shown = [kind for kind in found if kind not in (*outer, corfu.types.RequestId)]
    rows = [[DISPLAYED.get(kind, kind.__name__), _shape(_fields(kind))] for kind in shown]
    return sorted(rows)


def test_shapes_of_control_messages_are_those_of_the_code() -> None:
    assert rows_of("Control messages") == message_rows()


def test_shapes_of_commands_are_those_of_the_code() -> None:
    assert rows_of("Commands") == command_rows()


def test_shapes_of_values_are_those_of_the_code() -> None:
    assert rows_of("Values inside them") == value_rows()


def test_data_messages_are_listed_with_their_numbers() -> None:
    listed = [(int(row[0]), row[1]) for row in rows_of("Data messages")]
    assert listed == [(n, m.__name__) for n, m in KINDS.items() if m in codec_data.DATA_CODECS]


@pytest.mark.parametrize(
    "numbers",
    [
        corfu.types.State,
        corfu.messages.Reason,
        corfu.messages.Rejection,
        corfu.goals.GoalKind,
        corfu.goals.GoalStatus,
        corfu.journal.format.Origin,
    ],
)
def test_enumeration_is_listed_with_its_numbers(numbers: type[enum.IntEnum]) -> None:
    flat = " ".join(DOCUMENT.split())
    assert ", ".join(f"{member.value} {member.name}" for member in numbers) in flat


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("Records of a unit", corfu.storage_units.records.RecordKind),
        ("Records of a replica", storage._Kind),
    ],
)
def test_record_kinds_are_listed_with_their_numbers(
    heading: str, kinds: type[enum.IntEnum]
) -> None:
    listed = [(int(row[0]), row[1]) for row in rows_of(heading)]
    assert listed == [(kind.value, kind.name) for kind in kinds]


def test_record_kinds_of_an_embedded_log_are_listed_with_their_numbers() -> None:
    store = corfu.embedded.store
    listed = [(int(row[0]), row[1]) for row in rows_of("Records of an embedded log")]
    assert listed == [(store.KIND_ENTRY, "ENTRY"), (store.KIND_STATE, "STATE")]


LIMITS = {
    "ENTRY_BYTES_MAX": config.ENTRY_BYTES_MAX,
    "RECORD_BYTES_MAX": corfu.entry.RECORD_BYTES_MAX,
    "BODY_BYTES_MAX": codec.BODY_BYTES_MAX,
    "BURST_BYTES_MAX": config.BURST_BYTES_MAX,
    "FRAGMENTS_MAX": codec.FRAGMENTS_MAX,
    "HELD_MAX": config.HELD_MAX,
    "RUNS_MAX": codec_data.RUNS_MAX,
    "DEPTH_MAX": schema.DEPTH_MAX,
    "OFFSET_MAX": corfu.types.OFFSET_MAX,
}


def test_codecs_are_listed_with_their_numbers() -> None:
    assert [(int(row[0]), row[1]) for row in rows_of("Codecs")] == [
        (corfu.entry.CODEC_ZSTD, "zstd"),
        (corfu.entry.CODEC_LZ4, "lz4"),
        (corfu.entry.CODEC_ZSTD_DICTIONARY, "zstd with a trained dictionary"),
    ]
    assert len(rows_of("Codecs")) == len(corfu.entry._SIZES)


def test_limits_are_those_of_the_code() -> None:
    assert {row[0]: int(row[1].replace(",", "")) for row in rows_of("Limits")} == LIMITS


def test_files_of_a_folder_have_the_names_of_the_code() -> None:
    listed = {row[0] for row in rows_of("Files of a folder")}
    journal = corfu.journal.format
    assert {
        f"`{journal.journal_name(1)}`",
        f"`{journal.spare_name(2**63)}`",
        f"`{corfu.storage_units.index_file.index_name(1)}`",
        f"`{corfu.sequencer.identity.IDENTITY_NAME}`",
        f"`{storage.SNAPSHOT_NAME}`",
        "`lock`",
        "`NAME.tmp`",
    } == listed
