"""The odd cases that docs/formats.md spells out: lengths at a boundary, and what is refused."""

from __future__ import annotations

import cbor2
import pytest

from corfu import codec, schema
from corfu.entry import decode_entry, encode_entry
from corfu.errors import WireError
from corfu.journal.execute import execute_all
from corfu.journal.format import JournalRecord, JournalSettings, record_bytes
from corfu.journal.planner import Journal
from corfu.journal.recovery import create
from corfu.link.transfer import fragments_of
from corfu.sequencer.commands import TrimTo
from corfu.storage_units.identity import UnitIdentity
from corfu.storage_units.index import length_bound, length_code
from corfu.types import Offset
from tests.unit.corfu.fake_disk import FakeDisk
from tests.unit.formats_document import hex_of, value_of


@pytest.mark.parametrize(("size", "fragments"), [(0, 1), (1124, 1), (1125, 2), (2248, 2)])
def test_body_at_a_fragment_boundary_takes_no_empty_fragment(size: int, fragments: int) -> None:
    assert fragments_of(size, 1200) == (fragments, 1124)


def test_datagram_with_a_bad_frame_loses_it_and_what_follows() -> None:
    good = hex_of("written")
    bad = good[:-1] + bytes((good[-1] ^ 1,))
    frames, fault = codec.decode_untrusted(good + bad + good)
    assert (len(frames), fault) == (1, "digest")


@pytest.mark.parametrize(("position", "fault"), [(0, "foreign"), (2, "foreign"), (11, "foreign")])
def test_frame_of_another_format_is_foreign(position: int, fault: str) -> None:
    data = bytearray(hex_of("written"))
    data[position] ^= 1
    assert codec.decode_untrusted(bytes(data)).fault == fault


def test_entry_of_one_empty_record_is_the_shortest() -> None:
    data = encode_entry((b"",), 0)
    assert len(data) == 24
    assert decode_entry(data).records == (b"",)
    with pytest.raises(WireError):
        decode_entry(data[:8] + bytes(4) + data[12:20])


def test_entry_headers_are_skipped() -> None:
    data = hex_of("entry")
    assert decode_entry(data[:5] + b"\x03" + data[6:20] + b"new" + data[20:]) == value_of("entry")


@pytest.mark.parametrize(
    "body",
    [
        b"\x81\x18\x05",  # 5, not in its shortest form
        b"\x9f\x05\xff",  # an array of indefinite length
        b"\x81\x05\x00",  # a byte after the value
        b"\x81\xf5",  # true where a number is wanted
        b"\x81\x20",  # -1
        b"\x81\xc1\x05",  # a tag
        b"\x81\xf9\x45\x00",  # 5.0
        b"\xa1\x05\x05",  # a map
        b"\x80",
        b"\x82\x05\x05",
        cbor2.dumps([2**63]),  # no offset
    ],
)
def test_cbor_other_than_canonical_is_refused(body: bytes) -> None:
    assert schema.unpack(TrimTo, b"\x81\x05") == TrimTo(Offset(5))
    with pytest.raises(WireError):
        schema.unpack(TrimTo, body)


def _journal(disk: FakeDisk) -> Journal:
    identity: UnitIdentity = value_of("unit-identity")
    return create(disk, identity.journal_identity(), JournalSettings(4096, 2), list)


def _record(body_bytes: int) -> JournalRecord:
    return JournalRecord(1, 0, 1000, 4, bytes(16), bytes(body_bytes))


def test_batch_that_ends_at_a_sector_is_followed_at_once() -> None:
    journal = _journal(FakeDisk())
    # A batch header of 40 and a record header of 64 fill the sector with 408 bytes of body.
    first = journal.append(_record(408))
    journal.cut()
    journal.committed()
    assert journal.append(_record(0)).position == first.position + 512


def test_record_that_does_not_fit_the_rest_begins_the_next_file() -> None:
    disk = FakeDisk()
    journal = _journal(disk)
    largest = journal.record_bytes_max()
    first = journal.append(_record(0))
    second = journal.append(_record(largest - record_bytes(0)))
    assert (first.serial, second.serial) == (1, 2)
    execute_all(disk, journal.cut())
    names = disk.names()
    assert "journal-0000000000000002" in names
    with pytest.raises(ValueError, match="do not fit"):
        journal.append(_record(largest))


@pytest.mark.parametrize("units", [8, 9, 15, 16, 17, 1000, 4095, 4097, 131_081])
def test_cell_tells_a_length_from_above_by_less_than_a_quarter(units: int) -> None:
    length = 8 * units
    assert length <= length_bound(length_code(length)) < 1.25 * length
