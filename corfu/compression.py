"""Compressing entries, each by itself: which codec, how hard, with which dictionaries.

Pure, but for the import of the codecs' libraries, which come with the extra `compression` and are
imported when they are first needed. Whoever reads goes by the entry's own head, whatever the
reader's settings are. Units never look inside, and an entry's digest is over the bytes that
they hold: an entry is compressed once, when it is frozen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import xxhash

from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import (
    CODEC_LZ4,
    CODEC_ZSTD,
    CODEC_ZSTD_DICTIONARY,
    ENTRY_HEAD_BYTES,
    Compressed,
    EntryBody,
    decode_compressed,
    decode_entry,
    encode_compressed,
    encode_entry,
)
from corfu.errors import UsageError, WireError

CodecName = Literal["zstd", "lz4"]

DICTIONARY_BYTES_MAX = 1 << 20
"""Largest dictionary: what is larger is some other file. zstd's own tool makes 110 KiB."""

LEVELS_MAX = {"zstd": 22, "lz4": 12}

ZSTD_LEVEL = 1
"""The default. Level 3, zstd's own, takes a third longer, and packs JSON and text to within 5 % of
the same size, for better or worse."""

_BYTES_MIN = 256
_BYTES_MIN_DICTIONARY = 64

_LIBRARIES = {
    CODEC_ZSTD: "zstandard",
    CODEC_LZ4: "lz4.block",
    CODEC_ZSTD_DICTIONARY: "zstandard",
}

Expand = Callable[[Compressed], bytes]


@dataclass(frozen=True, slots=True)
class Compression:
    """How a client compresses the entries it appends, and what it can read."""

    codec: CodecName | None = None
    """None: entries stand as they are."""

    level: int | None = None
    """zstd: 1 to 22, default 1. lz4: 1 to 12 for its slow mode; default: the fast one."""

    bytes_min: int | None = None
    """Shorter entries stay as they are. Default: 256 bytes, 64 with a dictionary."""

    dictionaries: tuple[bytes, ...] = field(default=(), repr=False)
    """Trained zstd dictionaries: the first is used for appending by zstd, all for reading."""

    def __post_init__(self) -> None:
        if self.codec not in (None, *get_args(CodecName)):
            names = ", ".join(get_args(CodecName))
            raise ValueError(f"compression {self.codec!r} is none of {names}")
        if self.level is not None:
            if self.codec is None:
                raise ValueError(f"level {self.level}, and no codec")
            if not 1 <= self.level <= LEVELS_MAX[self.codec]:
                raise ValueError(
                    f"level {self.level} of {self.codec} is not in [1, {LEVELS_MAX[self.codec]}]"
                )
        if self.bytes_min is not None and self.bytes_min < 0:
            raise ValueError(f"bytes_min is {self.bytes_min}, below 0")
        for dictionary in self.dictionaries:
            if not 0 < len(dictionary) <= DICTIONARY_BYTES_MAX:
                raise ValueError(
                    f"a dictionary of {len(dictionary):,} bytes; the most is "
                    f"{DICTIONARY_BYTES_MAX:,}"
                )


@dataclass(frozen=True, slots=True)
class Missing:
    """What this process lacks to read an entry, which is sound."""

    library: str = ""
    """Which library is not installed; "" if none is lacking."""

    dictionary: int = 0
    """The id of the dictionary that was not given."""


def dictionary_id(dictionary: bytes) -> int:
    """Return the id by which entries name a dictionary: a digest, so one id means one dictionary.

    Not the number that zstd writes into a dictionary: that one can be chosen, and two
    dictionaries of one number would give wrong records without an error.
    """
    return xxhash.xxh3_64_intdigest(dictionary)


class EntryCodec:
    """Packs and unpacks entries by one client's settings. For one thread at a time."""

    encode: Callable[[Sequence[bytes], int], bytes]
    """Records and a timestamp in microseconds to an entry's bytes, as `encode_entry` does."""

    def __init__(self, compression: Compression) -> None:
        """Get ready.

        Raises:
            UsageError: The library that `compression` needs is not installed, or a dictionary is
                none.
        """
        self._expand: dict[tuple[int, int], Expand] = {}
        """What expands the entries of a codec and a dictionary; made when it is needed."""
        for dictionary in compression.dictionaries:
            zstandard = _required(CODEC_ZSTD)
            expand = _zstd_expand(zstandard, _loaded(zstandard, dictionary, ZSTD_LEVEL))
            self._expand[CODEC_ZSTD_DICTIONARY, dictionary_id(dictionary)] = expand
        self.encode = encode_entry
        if compression.codec is not None:
            self.encode = _Packer(compression).encode

    def decode(self, data: bytes) -> EntryBody | Missing:
        """Return what an entry holds, or what lacks to tell.

        Whatever `data` is, no entry of more than ENTRY_BYTES_MAX is made of it.

        Raises:
            WireError: It is no entry of this format, every byte accounted for.
        """
        if data[1:2] == b"\0":
            return decode_entry(data)
        packed = decode_compressed(data)
        expand = self._expand.get((packed.codec, packed.dictionary))
        if expand is None:
            made = self._make_expand(packed)
            if isinstance(made, Missing):
                return made
            expand = made
        return decode_entry(_plain(packed, expand))

    def _make_expand(self, packed: Compressed) -> Expand | Missing:
        library = _LIBRARIES[packed.codec]
        try:
            module = importlib.import_module(library)
        except ImportError:
            return Missing(library.partition(".")[0])
        if packed.codec == CODEC_ZSTD_DICTIONARY:
            # Those given were made ready when the client was opened.
            return Missing(dictionary=packed.dictionary)
        expand = _zstd_expand(module) if packed.codec == CODEC_ZSTD else _lz4_expand(module)
        self._expand[packed.codec, 0] = expand
        return expand


def _plain(packed: Compressed, expand: Expand) -> bytes:
    """Return a compressed entry as it would stand without a codec."""
    body = expand(packed)
    if len(body) != packed.expanded_bytes:
        raise WireError(f"an entry of {len(body)} bytes that says {packed.expanded_bytes}")
    return packed.plain_head + body


class _Packer:
    """Compresses entries by one codec."""

    def __init__(self, compression: Compression) -> None:
        with_dictionary = compression.codec == "zstd" and bool(compression.dictionaries)
        self._dictionary = 0
        self._bytes_min = _BYTES_MIN_DICTIONARY if with_dictionary else _BYTES_MIN
        if compression.bytes_min is not None:
            self._bytes_min = compression.bytes_min
        if compression.codec == "lz4":
            self._codec = CODEC_LZ4
            self._compress = _lz4_compress(_required(CODEC_LZ4), compression.level)
            return
        zstandard = _required(CODEC_ZSTD)
        self._codec = CODEC_ZSTD
        loaded = None
        level = compression.level or ZSTD_LEVEL
        if with_dictionary:
            self._codec = CODEC_ZSTD_DICTIONARY
            self._dictionary = dictionary_id(compression.dictionaries[0])
            loaded = _loaded(zstandard, compression.dictionaries[0], level)
        self._compress = zstandard.ZstdCompressor(
            level=level,
            dict_data=loaded,
            # The entry's head names the dictionary, and entries have a digest.
            write_dict_id=False,
            write_checksum=False,
            write_content_size=True,
        ).compress

    def encode(self, records: Sequence[bytes], timestamp_us: int) -> bytes:
        """Return the entry that holds `records`: plain if it does not get smaller otherwise."""
        plain = encode_entry(records, timestamp_us)
        if len(plain) < self._bytes_min:
            return plain
        data = self._compress(memoryview(plain)[ENTRY_HEAD_BYTES:])
        packed = encode_compressed(plain, self._codec, self._dictionary, data)
        return packed if len(packed) < len(plain) else plain


def _required(codec: int) -> Any:
    library = _LIBRARIES[codec]
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise UsageError(
            f"compression needs the package {library.partition('.')[0]}: "
            "pip install 'corfu-log[compression]'"
        ) from error


def _loaded(zstandard: Any, dictionary: bytes, level: int) -> Any:
    """Return a dictionary as zstd wants it; raises UsageError if it was not trained as one."""
    try:
        loaded = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_FULLDICT)
        # Else a wrong file would be found out by the first entry, or never.
        loaded.precompute_compress(level=level)
    except zstandard.ZstdError as error:
        raise UsageError(
            f"a dictionary of {len(dictionary):,} bytes is no trained zstd dictionary"
        ) from error
    return loaded


def _zstd_expand(zstandard: Any, dictionary: Any = None) -> Expand:
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=ENTRY_BYTES_MAX)

    def expand(packed: Compressed) -> bytes:
        try:
            # What the frame says is what the library makes room for, so it is looked at first.
            frame = zstandard.get_frame_parameters(packed.data)
            told = frame.content_size
            if told != packed.expanded_bytes or frame.window_size > ENTRY_BYTES_MAX:
                raise WireError(
                    f"an entry of {packed.expanded_bytes} bytes whose zstd frame has {told}, "
                    f"with a window of {frame.window_size}"
                )
            result: bytes = decompressor.decompress(packed.data, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise WireError(f"an entry that zstd cannot expand: {error}") from error
        return result

    return expand


def _lz4_expand(lz4: Any) -> Expand:
    def expand(packed: Compressed) -> bytes:
        try:
            result: bytes = lz4.decompress(packed.data, uncompressed_size=packed.expanded_bytes)
        except lz4.LZ4BlockError as error:
            raise WireError(f"an entry that lz4 cannot expand: {error}") from error
        return result

    return expand


def _lz4_compress(lz4: Any, level: int | None) -> Callable[[memoryview], bytes]:
    def fast(data: memoryview) -> bytes:
        result: bytes = lz4.compress(data, store_size=False)
        return result

    def slow(data: memoryview) -> bytes:
        result: bytes = lz4.compress(
            data, store_size=False, mode="high_compression", compression=level
        )
        return result

    return fast if level is None else slow


def compression_of(
    base: Compression,
    compression: CodecName | Compression | None,
    dictionaries: Sequence[bytes],
) -> Compression:
    """Return what arguments of `corfu.connect` make of a client's settings.

    Raises:
        UsageError: They are nonsense, or need a library that is not installed.
    """
    if isinstance(compression, Compression):
        base, compression = compression, compression.codec
    try:
        return replace(
            base,
            codec=compression or base.codec,
            dictionaries=tuple(dictionaries) or base.dictionaries,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
