"""The examples of docs/formats.md are what the code reads and writes, in both directions."""

from __future__ import annotations

import random
import re

import pytest
from xxhash import xxh3_64_intdigest

import corfu.embedded.folder
import corfu.entry
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
from corfu import codec, codec_data, schema
from corfu.compression import CodecName, Compression, EntryCodec
from corfu.config import LinkSettings
from corfu.journal.execute import execute_all
from corfu.journal.recovery import create
from corfu.journal.scan import scan_file
from corfu.link.core import Link
from corfu.messages import Message
from corfu.sequencer import commands, storage
from corfu.sequencer.acceptor import AcceptedRecord, Acceptor, Doubt, PromisedRecord
from corfu.types import Address, Incarnation, Slot
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.formats_document import BLOCKS, DOCUMENT, NAMES, hex_of, parts_of, value_of

CHECKED = {
    *("written", "get-tail", "fragments", "probe", "ack", "bodies", "layout", "entry", "journal"),
    *("index", "unit-identity", "replica-identity", "embedded-identity", "commands", "votes"),
    *("snapshot", "entry-zstd", "entry-lz4"),
}
"""Names of the examples that a test below looks at."""


def test_examples_all_of_them_are_checked() -> None:
    """No block stands in the document without a test here."""
    assert {name for language, name in BLOCKS if language == "hex"} == CHECKED
    pairs = {name for language, name in BLOCKS if language == "python"}
    assert pairs == {*CHECKED, "names"}


# Frames and messages.


def _frame(message: Message) -> bytes:
    wire = codec.encode(message)
    parts = (wire.kind, 0, 0, 1, len(wire.body), NAMES["cluster"], *wire[1:4], wire.body)
    return codec.encode_frame(codec.Frame(*parts))


@pytest.mark.parametrize("name", ["written", "get-tail"])
def test_frame_example_decoded_and_encoded_agrees(name: str) -> None:
    message, data = value_of(name), hex_of(name)
    assert _frame(message) == data
    (frame,), fault = codec.decode_untrusted(data)
    assert (frame.cluster, frame.flags, fault) == (NAMES["cluster"], 0, "")
    assert message == codec.decode_body(
        frame.kind, frame.request, frame.epoch, frame.offset, frame.payload
    )


def test_frame_digest_is_seeded_with_that_of_the_header() -> None:
    data = hex_of("written")
    seed = xxh3_64_intdigest(data[:68])
    assert data[68:76] == xxh3_64_intdigest(data[76:], seed).to_bytes(8, "big")


def test_fragments_example_is_what_a_link_sends() -> None:
    message, heads = value_of("fragments"), parts_of("fragments")
    sender, receiver = (
        Link(
            cluster=NAMES["cluster"],
            session=Incarnation(bytes(16)),
            settings=LinkSettings(datagram_bytes_max=1200),
            rng=random.Random(0),
        )
        for _ in range(2)
    )
    there = Address("127.0.0.1", 1)
    sender.send(there, message, 0.0)
    datagrams = [datagram for datagram, _ in sender.outgoing()]
    assert [datagram[: codec.HEADER_BYTES] for datagram in datagrams] == list(heads.values())
    # In either order.
    assert receiver.receive(datagrams[1], there, 0.0) == []
    assert [d.message for d in receiver.receive(datagrams[0], there, 0.0)] == [message]


def test_link_control_examples_agree() -> None:
    control = corfu.link.control
    assert control.encode_probe(value_of("probe")) == hex_of("probe")
    assert control.decode_probe(hex_of("probe")) == value_of("probe")
    assert control.encode_ack(value_of("ack")) == hex_of("ack")
    assert control.decode_ack(hex_of("ack")) == value_of("ack")


def test_bodies_examples_of_every_data_message_agree() -> None:
    messages, bodies = value_of("bodies"), parts_of("bodies")
    assert {type(message) for message in messages} == set(codec_data.DATA_CODECS)
    assert [type(message).__name__ for message in messages] == list(bodies)
    for message, body in zip(messages, bodies.values(), strict=True):
        wire = codec.encode(message)
        assert wire.body == body
        assert codec.decode_body(wire.kind, wire.request, wire.epoch, wire.offset, body) == message


def test_entry_example_agrees() -> None:
    body = value_of("entry")
    assert corfu.entry.encode_entry(body.records, body.timestamp_us) == hex_of("entry")
    assert corfu.entry.decode_entry(hex_of("entry")) == body


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_entry_examples_agree(codec: CodecName) -> None:
    body, data = value_of(f"entry-{codec}"), hex_of(f"entry-{codec}")
    encoder = EntryCodec(Compression(codec, bytes_min=0))
    assert EntryCodec(Compression()).decode(data) == body
    made = encoder.encode(body.records, body.timestamp_us)
    # The same up to what the library makes: other versions of it may make other bytes.
    assert made[:24] == data[:24]
    assert encoder.decode(made) == body


def test_layout_example_agrees() -> None:
    assert schema.pack(value_of("layout")) == hex_of("layout")
    assert schema.unpack(corfu.layout.Layout, hex_of("layout")) == value_of("layout")


# Files.


def _write_journal() -> bytes:
    """Return the first file of a unit's journal, written as a unit does."""
    header, *_, record = value_of("journal")
    disk = FakeDisk()
    identity = corfu.storage_units.identity.UnitIdentity(
        header.cluster, header.owner_id, header.incarnation, (), NAMES["SyncMode"].ALWAYS, "", True
    ).journal_identity()
    settings = corfu.journal.format.JournalSettings(
        header.file_bytes, 2, corfu.storage_units.records.OFFSET_KINDS
    )
    journal = create(disk, identity, settings, lambda: [NAMES["standing"].opening()])
    journal.append(record)
    execute_all(disk, journal.cut())
    return disk.read("journal-0000000000000001", 0, header.file_bytes)


def test_journal_example_is_what_a_unit_writes() -> None:
    written, data = _write_journal(), hex_of("journal")
    assert written == data.ljust(len(written), b"\0")


def test_journal_example_decoded_and_encoded_agrees() -> None:
    journal = corfu.journal.format
    data = hex_of("journal")
    header, *expected = value_of("journal")
    assert journal.decode_file_header("journal", data[:512]) == header
    assert journal.encode_file_header(header) == data[:512]
    seed = journal.file_seed(header.incarnation, header.serial, header.origin)
    view, position = memoryview(data), 512
    for item in expected:
        if isinstance(item, journal.BatchHeader):
            position = item.position
            assert journal.decode_batch_header(view, position, seed) == item
            encoded = journal.encode_batch_header(item, header.serial, seed)
            assert data[position : position + 40] == encoded
            position += 40
            continue
        found = journal.decode_record_header(view, position, position, seed)
        assert found is not None
        body = journal.body_of(view, position, found)
        assert body is not None
        named = (found.kind, found.flags, found.offset, found.epoch, found.entry_id)
        assert journal.JournalRecord(*named, bytes(body)) == item
        opening = item.kind == corfu.storage_units.records.RecordKind.STANDING
        encoded = journal.encode_record(item, position, seed, opening=opening)
        assert (found.opening, data[position : position + len(encoded)]) == (opening, encoded)
        position += len(encoded)
    assert all(piece.whole for piece in scan_file(data.ljust(4096, b"\0"), seed, None))


def test_journal_digests_are_seeded_as_stated() -> None:
    data = hex_of("journal")
    incarnation, serial, origin = data[32:48], data[48:56], data[11:12]
    seed = xxh3_64_intdigest(incarnation + serial + origin)
    assert data[504:512] == xxh3_64_intdigest(data[:504]).to_bytes(8, "little")
    for position, length in ((512, 40), (552, 64), (1024, 40), (1536, 40), (1576, 64)):
        end = position + length
        digest = xxh3_64_intdigest(data[position : end - 8], (seed + position) % 2**64)
        assert data[end - 8 : end] == digest.to_bytes(8, "little")


def test_index_example_agrees() -> None:
    file, index = corfu.storage_units.index_file, value_of("index")
    whose = NAMES["unit"], NAMES["incarnation"]
    assert file.encode_index(index, *whose) == hex_of("index")
    assert file.decode_index(hex_of("index"), index.serial, *whose) == index


def test_unit_identity_example_agrees() -> None:
    identity, disk = corfu.storage_units.identity, FakeDisk()
    identity.write_identity(disk, value_of("unit-identity"))
    assert disk.read("identity", 0, 4096) == hex_of("unit-identity")
    assert identity.read_identity(disk) == value_of("unit-identity")


def test_replica_identity_example_agrees() -> None:
    identity, disk = corfu.sequencer.identity, FakeDisk()
    data = hex_of("replica-identity")
    assert identity.encode_identity(value_of("replica-identity")) == data
    disk.write("identity", 0, data)
    assert identity.read_identity(disk) == value_of("replica-identity")


def test_embedded_identity_example_agrees() -> None:
    folder, disk, data = corfu.embedded.folder, FakeDisk(), hex_of("embedded-identity")
    identity = value_of("embedded-identity")
    folder._write_identity(disk, identity, folder._FORMATTED)
    assert disk.read("identity", 0, len(data) + 1) == data
    assert folder._read_identity(disk, "log") == (identity, folder._FORMATTED)


def test_commands_examples_of_every_command_agree() -> None:
    values, encoded = value_of("commands"), parts_of("commands")
    assert [type(value).__name__ for value in values] == list(encoded)
    assert [type(value) for value in values] == list(commands.KINDS.values())
    for value, data in zip(values, encoded.values(), strict=True):
        assert commands.encode(value) == data
        assert commands.decode(data) == value


def test_votes_examples_are_what_a_replica_journals() -> None:
    records, bodies = value_of("votes"), parts_of("votes")
    promised, accepted, _ = records
    disk, identity = FakeDisk(), value_of("replica-identity")
    settings = corfu.journal.format.JournalSettings(4096, 2)
    journal = create(disk, storage.journal_identity(identity), settings, list)
    acceptor = Acceptor(NAMES["ballot"], {}, Slot(0), Doubt.NONE)
    votes = storage.VoteJournal(journal, acceptor, {})
    votes.append(PromisedRecord(NAMES["ballot"]), Slot(0))
    votes.append(AcceptedRecord(Slot(5), NAMES["ballot"], accepted.body), Slot(4))
    votes.append_chosen(Slot(5), accepted.body)
    execute_all(disk, journal.cut())
    data = disk.read("journal-0000000000000001", 1536 + 40, 4096)
    position = 0
    for record, whole in zip(records, bodies.values(), strict=True):
        place = corfu.journal.format.Place(1, 1576 + position, len(whole))
        assert data[position : position + len(whole)] == whole
        assert journal.parse(place, whole) == record
        position += len(whole)
    assert (promised.offset, accepted.epoch) == (0, 4)


def test_snapshot_example_agrees() -> None:
    disk, data = FakeDisk(), hex_of("snapshot")
    assert storage.encode_snapshot(*value_of("snapshot")) == data
    disk.write("snapshot", 0, data)
    assert storage.read_snapshot(disk) == value_of("snapshot")


def test_bootstrap_example_agrees() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert corfu.sequencer.bootstrap.decode_bootstrap(text) == NAMES["bootstrap"]
