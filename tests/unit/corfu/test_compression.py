"""Compressed entries: round trips, what is refused, and what an entry may cost whoever reads it."""

from __future__ import annotations

import random
import struct
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corfu.compression import (
    DICTIONARY_BYTES_MAX,
    Compression,
    EntryCodec,
    Missing,
    compression_of,
    dictionary_id,
)
from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import (
    CODEC_LZ4,
    CODEC_NONE,
    CODEC_ZSTD,
    CODEC_ZSTD_DICTIONARY,
    ENTRY_HEAD_BYTES,
    RECORD_BYTES_MAX,
    EntryBody,
    decode_entry,
    encode_compressed,
    encode_entry,
    plain_bytes,
)
from corfu.errors import UsageError, WireError
from tests.unit.corfu.compressing import (
    clicks,
    dictionary,
    every_compression,
    without_libraries,
)

WAYS = every_compression()
CODECS = {name: EntryCodec(way) for name, way in WAYS.items()}
READER = EntryCodec(Compression(dictionaries=(dictionary(),)))
NUMBERS = {
    "zstd": CODEC_ZSTD,
    "zstd-19": CODEC_ZSTD,
    "lz4": CODEC_LZ4,
    "lz4-9": CODEC_LZ4,
    "dictionary": CODEC_ZSTD_DICTIONARY,
}


def _decoded(data: bytes, codec: EntryCodec = READER) -> EntryBody:
    body = codec.decode(data)
    assert isinstance(body, EntryBody)
    return body


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from(clicks(20))), min_size=1, max_size=30
    ),
    st.integers(0, 2**64 - 1),
)
def test_compressed_round_trip_keeps_records_and_time(
    way: str, records: list[bytes], time_us: int
) -> None:
    data = CODECS[way].encode(records, time_us)
    plain = encode_entry(records, time_us)
    assert len(data) <= len(plain)
    assert plain_bytes(data) == len(plain)
    assert _decoded(data) == EntryBody(time_us, tuple(records))


@pytest.mark.parametrize("way", WAYS)
def test_compressed_entry_says_its_codec_and_is_smaller(way: str) -> None:
    records = clicks(100)
    data = CODECS[way].encode(records, 7)
    assert data[1] == NUMBERS[way]
    assert len(data) < len(encode_entry(records, 7)) / 2
    # Compressed once means the same bytes each time: an entry has one digest.
    assert CODECS[way].encode(records, 7) == data


@pytest.mark.parametrize("way", WAYS)
def test_entry_that_does_not_shrink_stands_plain(way: str) -> None:
    records = [random.Random(3).randbytes(5000)]
    assert CODECS[way].encode(records, 7) == encode_entry(records, 7)


@pytest.mark.parametrize("way", WAYS)
def test_largest_entry_compressed_is_read(way: str) -> None:
    record = bytes(RECORD_BYTES_MAX)
    data = CODECS[way].encode([record], 0)
    assert len(data) < 10_000
    assert _decoded(data).records == (record,)


def test_entry_below_the_least_size_stands_plain() -> None:
    record = b"a" * 100
    for way, compressed in [
        (Compression("zstd"), False),
        (Compression("lz4"), False),
        (Compression("zstd", bytes_min=124), True),
        (Compression("zstd", bytes_min=125), False),
        (Compression("zstd", dictionaries=(dictionary(),)), True),
        (Compression("lz4", dictionaries=(dictionary(),)), False),
    ]:
        data = EntryCodec(way).encode([record], 0)
        assert (data[1] != CODEC_NONE) is compressed, way


def test_codec_without_compression_packs_by_the_plain_function_itself() -> None:
    """What does not compress pays nothing for those that do."""
    assert EntryCodec(Compression()).encode is encode_entry


def test_headers_of_later_versions_are_skipped() -> None:
    for way in WAYS:
        data = CODECS[way].encode(clicks(20), 7)
        longer = data[:4] + struct.pack(">H", 3) + data[6:20] + b"xyz" + data[20:]
        assert _decoded(longer) == _decoded(data)


# What is refused.


@pytest.mark.parametrize("way", WAYS)
def test_compressed_entry_cut_or_lengthened_is_refused(way: str) -> None:
    data = CODECS[way].encode(clicks(3), 0)
    assert data[1] != CODEC_NONE
    for length in range(len(data)):
        with pytest.raises(WireError):
            READER.decode(data[:length])
    for more in (b"\0", b"more", data[32:], b"\x50\x2a\x4d\x18\0\0\0\0"):
        with pytest.raises(WireError):
            READER.decode(data + more)


@pytest.mark.parametrize("way", WAYS)
def test_compressed_entry_mutated_is_an_entry_or_a_wire_error(way: str) -> None:
    rng = random.Random(5)
    data = CODECS[way].encode(clicks(5), 3)
    for _ in range(3000):
        bad = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            READER.decode(bytes(bad))
        except WireError:
            continue


@pytest.mark.parametrize("codec", [4, 5, 0x41, 255])
def test_unknown_codec_is_refused_and_never_guessed(codec: int) -> None:
    data = bytearray(CODECS["zstd"].encode(clicks(5), 3))
    data[1] = codec
    with pytest.raises(WireError, match=f"codec {codec}"):
        READER.decode(bytes(data))


def test_plain_decoder_refuses_compressed_entries() -> None:
    with pytest.raises(WireError, match="codec 1"):
        decode_entry(CODECS["zstd"].encode(clicks(5), 3))


# What an entry may cost.


def _forged(codec: int, count: int, expanded: int, data: bytes) -> bytes:
    """Return an entry that says it has `expanded` bytes, whatever `data` expands to."""
    plain = encode_entry([b""], 0)
    head = plain[:8] + struct.pack(">I", count) + plain[12:]
    id_ = dictionary_id(dictionary()) if codec == CODEC_ZSTD_DICTIONARY else 0
    made = encode_compressed(head, codec, id_, data)
    return made[:20] + struct.pack(">I", expanded) + made[24:]


def _zstd(data: bytes, *, write_content_size: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1, write_content_size=write_content_size)
    return compressor.compress(data)


_ZEROS = bytes(64 << 20)
_BOMBS = {
    # 64 MiB of zeros, and the truth, or a lie, about them.
    "zstd, true size": (CODEC_ZSTD, 64 << 20, _zstd(_ZEROS)),
    "zstd, small size": (CODEC_ZSTD, 1000, _zstd(_ZEROS)),
    "zstd, frame without size": (CODEC_ZSTD, 1000, _zstd(_ZEROS, write_content_size=False)),
    "zstd, size as large as may be": (CODEC_ZSTD, ENTRY_BYTES_MAX - 20, _zstd(_ZEROS)),
    "zstd, one byte too many": (
        CODEC_ZSTD,
        ENTRY_BYTES_MAX - ENTRY_HEAD_BYTES + 1,
        _zstd(bytes(ENTRY_BYTES_MAX - ENTRY_HEAD_BYTES + 1)),
    ),
    "zstd, many frames": (CODEC_ZSTD, 1000, _zstd(bytes(1000)) * 500),
    "dictionary": (CODEC_ZSTD_DICTIONARY, 1000, _zstd(_ZEROS)),
    "lz4, small size": (CODEC_LZ4, 1000, lz4.block.compress(_ZEROS, store_size=False)),
    "lz4, true size": (CODEC_LZ4, 64 << 20, lz4.block.compress(_ZEROS, store_size=False)),
    "size of 4 GiB": (CODEC_LZ4, 2**32 - 1, b"\0"),
}


@pytest.mark.parametrize("name", _BOMBS)
def test_bomb_is_refused_in_bounded_memory(name: str) -> None:
    codec, expanded, data = _BOMBS[name]
    bomb = _forged(codec, 1, expanded, data)
    READER.decode(CODECS["zstd"].encode(clicks(5), 0))
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            READER.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < ENTRY_BYTES_MAX + (64 << 10)
    finally:
        tracemalloc.stop()


def test_wide_window_is_refused() -> None:
    """A frame that wants 128 MiB of window costs nobody 128 MiB, though its content is small."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=5000)
    frame = compressor.compress(bytes(4000)) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    frame += compressor.compress(bytes(1000)) + compressor.flush()
    # Not a single segment any more: the window is said apart, in the byte behind the descriptor.
    assert frame[4] & 0x20
    head = bytearray(frame)
    size = head[5:7]
    head[4] &= ~0x20 & 0xFF
    forged = bytes(head[:5]) + bytes((17 << 3,)) + bytes(size) + frame[7:]
    assert zstandard.get_frame_parameters(forged).window_size == 1 << 27
    assert zstandard.get_frame_parameters(forged).content_size == 5000
    for bytes_cut in (0, 1):
        with pytest.raises(WireError, match="window of 134217728"):
            READER.decode(_forged(CODEC_ZSTD, 1, 5000, forged[: len(forged) - bytes_cut]))


def test_count_that_no_bytes_can_hold_is_refused_before_anything_is_expanded() -> None:
    data = _zstd(bytes(4000))
    assert len(_decoded(_forged(CODEC_ZSTD, 1000, 4000, data)).records) == 1000
    for count in (0, 1001, 2**32 - 1):
        with pytest.raises(WireError, match=f"{count} records in 4000 bytes"):
            READER.decode(_forged(CODEC_ZSTD, count, 4000, data))


@pytest.mark.parametrize("codec", [CODEC_ZSTD, CODEC_LZ4])
@pytest.mark.parametrize("off", [-1, 1])
def test_size_that_differs_from_the_expanded_bytes_is_refused(codec: int, off: int) -> None:
    plain = encode_entry([b"record" * 50], 0)
    body = plain[ENTRY_HEAD_BYTES:]
    data = _zstd(body) if codec == CODEC_ZSTD else lz4.block.compress(body, store_size=False)
    assert _decoded(_forged(codec, 1, len(body), data)).records == (b"record" * 50,)
    with pytest.raises(WireError):
        READER.decode(_forged(codec, 1, len(body) + off, data))


# Dictionaries.


def test_entry_of_a_dictionary_that_was_not_given_names_it() -> None:
    data = CODECS["dictionary"].encode(clicks(3), 0)
    expected = Missing(dictionary=dictionary_id(dictionary()))
    assert EntryCodec(Compression()).decode(data) == expected
    other = Compression(dictionaries=(dictionary(seed=2),))
    assert EntryCodec(other).decode(data) == expected
    both = Compression(dictionaries=(dictionary(seed=2), dictionary()))
    assert _decoded(data, EntryCodec(both)).records == tuple(clicks(3))


def test_entry_with_another_dictionarys_id_gives_no_wrong_records() -> None:
    """Only a forger can make one: its records are refused, or are those that the bytes say."""
    data = bytearray(CODECS["dictionary"].encode(clicks(200), 0))
    data[24:32] = dictionary_id(dictionary(seed=2)).to_bytes(8, "big")
    codec = EntryCodec(Compression(dictionaries=(dictionary(seed=2),)))
    with pytest.raises(WireError):
        codec.decode(bytes(data))


def test_appending_takes_the_first_dictionary() -> None:
    first, second = dictionary(), dictionary(seed=2)
    codec = EntryCodec(Compression("zstd", dictionaries=(second, first)))
    assert codec.encode(clicks(3), 0)[24:32] == dictionary_id(second).to_bytes(8, "big")


def test_dictionary_makes_small_records_smaller() -> None:
    record = clicks(1, seed=99)
    assert len(CODECS["dictionary"].encode(record, 0)) < 0.8 * len(CODECS["zstd"].encode(record, 0))


@pytest.mark.parametrize("bad", [b"{}", b"x" * 5000, dictionary()[:100]])
def test_dictionary_that_is_none_is_a_usage_error(bad: bytes) -> None:
    with pytest.raises(UsageError, match="no trained zstd dictionary"):
        EntryCodec(Compression(dictionaries=(bad,)))


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"codec": "zip"},
        {"codec": "zstd", "level": 0},
        {"codec": "zstd", "level": 23},
        {"codec": "lz4", "level": 13},
        {"level": 3},
        {"codec": "zstd", "bytes_min": -1},
        {"dictionaries": (b"",)},
        {"dictionaries": (bytes(DICTIONARY_BYTES_MAX + 1),)},
    ],
)
def test_compression_that_cannot_be_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"is|level|dictionary"):
        Compression(**settings)  # type: ignore[arg-type]


def test_arguments_go_before_settings() -> None:
    base = Compression("zstd", level=7, dictionaries=(b"base",))
    assert compression_of(base, None, ()) == base
    assert compression_of(base, None, (b"a", b"b")).dictionaries == (b"a", b"b")
    assert compression_of(base, Compression(), ()) == Compression()
    lz4_ = Compression("lz4", dictionaries=(b"x",))
    assert compression_of(base, lz4_, (b"a",)) == Compression("lz4", dictionaries=(b"a",))
    assert compression_of(Compression(), "lz4", ()) == Compression("lz4")
    with pytest.raises(UsageError, match="'zip' is none of zstd, lz4"):
        compression_of(base, "zip", ())  # type: ignore[arg-type]


# Libraries that are not installed.


@pytest.mark.parametrize(("codec", "library"), [("zstd", "zstandard"), ("lz4", "lz4")])
def test_compressing_without_the_library_names_the_extra(
    codec: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = Compression(codec)  # type: ignore[arg-type]
    without_libraries(monkeypatch, library)
    with pytest.raises(UsageError, match=rf"package {library}.*corfu-log\[compression\]") as said:
        EntryCodec(way)
    assert len(str(said.value).splitlines()) == 1


def test_dictionary_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Compression(dictionaries=(dictionary(),))
    without_libraries(monkeypatch, "zstandard")
    with pytest.raises(UsageError, match=r"zstandard.*corfu-log\[compression\]"):
        EntryCodec(given)


@pytest.mark.parametrize("way", WAYS)
def test_entry_whose_library_is_missing_is_no_bad_entry(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CODECS[way].encode(clicks(5), 0)
    library = "lz4" if way.startswith("lz4") else "zstandard"
    without_libraries(monkeypatch, library)
    codec = EntryCodec(Compression())
    assert codec.decode(data) == Missing(library)
    assert codec.decode(encode_entry([b"plain"], 0)) == EntryBody(0, (b"plain",))


def test_entry_that_is_malformed_is_a_bad_entry_also_without_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_libraries(monkeypatch, "zstandard")
    with pytest.raises(WireError):
        EntryCodec(Compression()).decode(_forged(CODEC_ZSTD, 1, ENTRY_BYTES_MAX, b"x"))
