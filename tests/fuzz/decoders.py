"""What each decoder must do with any bytes: a value of those bytes, or its own error."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

from xxhash import xxh3_64_intdigest

from corfu import codec, schema
from corfu.compression import Compression, EntryCodec, Missing
from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import CODEC_ZSTD_DICTIONARY, decode_entry, encode_entry, plain_bytes
from corfu.errors import CorruptionError, WireError
from corfu.journal.format import (
    RECORD_HEADER_BYTES,
    SECTOR_BYTES,
    JournalRecord,
    body_of,
    decode_record_header,
    encode_record,
)
from corfu.journal.scan import scan_file
from corfu.layout import Layout, problems
from corfu.link import Link
from corfu.messages import (
    KIND_OF,
    KINDS,
    DataMessage,
    Message,
    PaxosMessage,
    SequencerMessage,
    UnitMessage,
)
from corfu.sequencer import commands
from corfu.sequencer.state import first_state
from corfu.sequencer.storage import SNAPSHOT_NAME, encode_snapshot, read_snapshot
from corfu.storage_units.index_file import decode_index
from corfu.tools.history import HistoryFormatError, decode_history, encode_history
from corfu.tools.operations import Append, Mark, Operation, Outcome, Read
from corfu.types import Address, Epoch, Incarnation, Offset, RequestId, Slot, UnitId
from tests.unit.corfu.compressing import clicks, dictionary, every_compression
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.storage_units.unit_bench import Bench

from .bounds import LINK
from .corpus import build, every_datagram
from .values import Maker
from .world import LAYOUT, UNIT_NAMES

Check = Callable[[bytes], None]
"""Takes any bytes; raises if the decoder does what it must not."""

_REQUEST = RequestId(Incarnation(b"client-incarnati"), 7)
_SEED = 77
_SENDER = Address("10.1.0.1", 7000)


def check_datagram(data: bytes) -> None:
    """Give a fresh link one datagram: it raises for nothing, and what it takes is whole."""
    link = Link(
        cluster=UNIT_NAMES.cluster,
        session=Incarnation(bytes(16)),
        settings=LINK,
        rng=random.Random(1),
    )
    for message, _ in link.receive(data, _SENDER, 0.0):
        wire = codec.encode(message)
        assert codec.decode_body(*wire[:4], wire.body) == message
    link.outgoing()
    link.tick(60.0)


def _check_family(kinds: tuple[type[Message], ...]) -> Check:
    numbers = tuple(KIND_OF[kind] for kind in kinds)

    def check(data: bytes) -> None:
        if not data:
            return
        kind, body = numbers[data[0] % len(numbers)], data[1:]
        epoch = Epoch(5) if codec._SHAPES[KINDS[kind]].has_epoch else Epoch(0)
        offset = Offset(9) if codec._SHAPES[KINDS[kind]].has_offset else Offset(0)
        try:
            message = codec.decode_body(kind, _REQUEST, epoch, offset, body)
        except WireError:
            return
        wire = codec.encode(message)
        assert (*wire[:4], wire.body) == (kind, _REQUEST, epoch, offset, body)

    return check


def check_layout(data: bytes) -> None:
    """Layouts: canonical; and what is called sound answers for every offset."""
    try:
        layout = schema.unpack(Layout, data)
    except WireError:
        return
    assert schema.pack(layout) == data
    if not problems(layout):
        for offset in (0, 1, 63, 64, 2**40, 2**63 - 1):
            assert layout.segment_of(Offset(offset)).holds(Offset(offset))
            layout.chain_of(Offset(offset))


def check_command(data: bytes) -> None:
    """Values of the Paxos log."""
    try:
        command = commands.decode(data)
    except WireError:
        return
    assert commands.encode(command) == data


def check_entry(data: bytes) -> None:
    """Entries, as clients pack them."""
    try:
        decode_entry(data)
    except WireError:
        return


def check_compressed_entry(data: bytes) -> None:
    """Entries of any codec: what comes out is what a plain entry could hold, or is lacking."""
    try:
        body = _CODEC.decode(data)
    except WireError:
        return
    assert plain_bytes(data) <= ENTRY_BYTES_MAX
    if not isinstance(body, Missing):
        assert 20 + sum(4 + len(record) for record in body.records) <= ENTRY_BYTES_MAX
        assert _CODEC.decode(_CODEC.encode(body.records, body.timestamp_us)) == body


def check_compressed_records(data: bytes) -> None:
    """Compressed bytes behind a sound head, by each codec: few mutants get that far."""
    for head in _HEADS:
        check_compressed_entry(head + data)


def check_record(data: bytes) -> None:
    """Journal records under digests that fit: nothing but digests protects what follows."""
    if len(data) < RECORD_HEADER_BYTES:
        return
    record = bytearray(data)
    record[RECORD_HEADER_BYTES - 16 : RECORD_HEADER_BYTES - 8] = struct.pack(
        "<Q", xxh3_64_intdigest(data[RECORD_HEADER_BYTES:])
    )
    fields = bytes(record[: RECORD_HEADER_BYTES - 8])
    record[RECORD_HEADER_BYTES - 8 : RECORD_HEADER_BYTES] = struct.pack(
        "<Q", xxh3_64_intdigest(fields, _SEED + SECTOR_BYTES)
    )
    view = memoryview(bytes(record))
    header = decode_record_header(view, 0, SECTOR_BYTES, _SEED)
    if header is not None:
        body = body_of(view, 0, header)
        assert body is None or len(body) == header.body_bytes


def check_journal_file(data: bytes) -> None:
    """A journal file whose batches are whatever they are."""
    pieces = scan_file(bytes(SECTOR_BYTES) + data, _SEED, None)
    assert all(a.end <= b.start for a, b in pairwise(pieces))


def check_standing(data: bytes) -> None:
    """The small state that opens a unit's journal files."""
    try:
        _BENCH.unit.store.standing.take_opening(data)
    except WireError:
        return


def check_snapshot(data: bytes) -> None:
    """A replica's snapshot, under a digest that fits."""
    snapshot = bytearray(data)
    if len(snapshot) >= 26:
        digest = xxh3_64_intdigest(data[10:18] + data[26:])
        snapshot[18:26] = digest.to_bytes(8, "little")
    disk = FakeDisk()
    disk.write(SNAPSHOT_NAME, 0, bytes(snapshot))
    try:
        slot, state = read_snapshot(disk)
    except CorruptionError:
        return
    assert encode_snapshot(Slot(slot), state) == bytes(snapshot)


def check_index(data: bytes) -> None:
    """A unit's index file, under a digest that fits."""
    index = data + xxh3_64_intdigest(data).to_bytes(8, "little")
    decode_index(index, 3, UnitId(7), Incarnation(b"incarnation-0001"))


def check_history(data: bytes) -> None:
    """A history of operations, as JSON lines."""
    try:
        decode_history(data.decode(errors="replace").split("\n"))
    except HistoryFormatError:
        return


_BENCH = Bench.fresh(1)
_CODEC = EntryCodec(Compression("zstd", bytes_min=0, dictionaries=(dictionary(),)))
_COMPRESSED = [EntryCodec(way).encode(clicks(4), 5) for way in every_compression().values()]
_HEADS = [data[: 32 if data[1] == CODEC_ZSTD_DICTIONARY else 24] for data in _COMPRESSED]
_HISTORY: list[Operation] = [
    Append(0.0, 1.0, "a", ("x", "y"), ((0, 0), None), Outcome.UNKNOWN, False),
    Read(1.5, 2.0, "b", 0, ("x",), None, False),
    Read(2.5, 3.0, "b", 1, next(iter(Mark)), 0, True),
]

DECODERS: dict[str, Check] = {
    "datagram": check_datagram,
    "data": _check_family(get_args(DataMessage)),
    "units": _check_family(get_args(UnitMessage)),
    "sequencer": _check_family(get_args(SequencerMessage)),
    "paxos": _check_family(get_args(PaxosMessage)),
    "layout": check_layout,
    "command": check_command,
    "entry": check_entry,
    "compressed": check_compressed_entry,
    "compressed-records": check_compressed_records,
    "record": check_record,
    "journal": check_journal_file,
    "standing": check_standing,
    "snapshot": check_snapshot,
    "index": check_index,
    "history": check_history,
}


def seeds_of(name: str) -> list[bytes]:
    """Return sound inputs of a decoder to begin with."""
    maker = Maker(UNIT_NAMES, random.Random(3))
    families = {
        "data": DataMessage,
        "units": UnitMessage,
        "sequencer": SequencerMessage,
        "paxos": PaxosMessage,
    }
    if name in families:
        kinds = get_args(families[name])
        return [
            bytes((number,)) + codec.encode(maker.message(kind)).body
            for number, kind in enumerate(kinds)
            for _ in range(4)
        ]
    return _other_seeds(name, maker)


def _other_seeds(name: str, maker: Maker) -> list[bytes]:
    match name:
        case "datagram":
            corpus = build(UNIT_NAMES, 1, each=2)
            return [sample.datagram for sample in every_datagram(corpus)]
        case "layout":
            return [schema.pack(layout) for layout in UNIT_NAMES.layouts]
        case "command":
            return [commands.encode(maker.value(kind)) for kind in commands.KINDS.values()]
        case "entry":
            return [encode_entry([b"a", b"", b"b" * 300], 5)]
        case "compressed":
            return _COMPRESSED
        case "compressed-records":
            return [data[len(head) :] for data, head in zip(_COMPRESSED, _HEADS, strict=True)]
        case "record" | "journal":
            record = JournalRecord(1, 0, 5, 2, b"i" * 16, b"body")
            return [encode_record(record, SECTOR_BYTES, _SEED, opening=False)]
        case "standing":
            return [_BENCH.unit.store.standing.opening().body]
        case "snapshot":
            return [encode_snapshot(Slot(3), first_state(LAYOUT))]
        case "history":
            return ["\n".join(encode_history(_HISTORY, None)).encode()]
        case _:
            return [b""]
