"""Clients that compress, and clients that meet what others compressed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import corfu
import corfu.sync
from corfu.client.log import LogClient
from corfu.compression import Compression, EntryCodec, dictionary_id
from corfu.config import ENTRY_BYTES_MAX
from corfu.entry import RECORD_BYTES_MAX
from corfu.errors import MissingCodecError, NotAppendedError, UsageError
from corfu.messages import GetToken, Message, Read, Write
from corfu.types import Address, Offset, Position, Record, State
from tests.unit.corfu.client_world import (
    Drop,
    FakeCluster,
    data,
    entry,
    filled_cluster,
    junk_at,
    records_written,
    run,
)
from tests.unit.corfu.compressing import (
    clicks,
    dictionary,
    every_compression,
    without_libraries,
)

WAYS = every_compression()
READING = Compression(dictionaries=(dictionary(),))


def _packed(way: str, *records: bytes) -> bytes:
    made = EntryCodec(WAYS[way]).encode(records, 0)
    assert made[1]
    return made


# Appending.


@pytest.mark.parametrize("way", WAYS)
def test_append_compressed_is_read_by_whoever_did_not_ask_for_it(way: str) -> None:
    records = clicks(300)

    async def write(cluster: FakeCluster, log: LogClient) -> FakeCluster:
        # 20 calls in one turn: packed by their plain size, whatever they shrink to.
        parts = [records[i : i + 15] for i in range(0, 300, 15)]
        positions = await asyncio.gather(*(log.append_many(part) for part in parts))
        assert positions[-1][-1] == Position(Offset(3), 74)
        assert len(cluster.held) == 4
        for written in cluster.requests(Write):
            assert written.entry[1]
            assert len(written.entry) < 5000
        return cluster

    async def read(cluster: FakeCluster, log: LogClient) -> None:
        assert [record.data async for record in log.scan()] == records
        assert (await log.read(Position(Offset(1), 2))).data == records[77]
        follower = log.follow(0)
        assert [(await anext(follower)).data for _ in range(300)] == records
        await follower.aclose()

    cluster = run(write, entry_bytes_target=10_000, compression=WAYS[way])
    run(read, cluster, compression=READING)


def test_append_again_at_another_offset_sends_the_same_bytes() -> None:
    """Compressed once: one id must never have two digests."""

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def fill_first(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.offset < 2:
                cluster.store(junk_at(message.offset))
            return None

        cluster.script = fill_first
        await log.append_many(clicks(20))
        writes = cluster.requests(Write)
        assert [write.offset for write in writes] == [0, 1, 2]
        assert len({(write.entry_id, write.entry) for write in writes}) == 1
        assert writes[0].entry[1]

    run(test, compression=WAYS["zstd"])


@pytest.mark.parametrize("ordered", [False, True])
def test_append_withdrawn_call_leaves_the_rest_compressed_under_another_id(ordered: bool) -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async def fill_first(to: Address, message: Message) -> Message | Drop | None:
            if isinstance(message, Write) and message.offset == 0:
                cluster.store(junk_at(0))
            if isinstance(message, GetToken) and cluster.tail == 1:
                await asyncio.sleep(0.3)
            return None

        cluster.script = fill_first
        short = asyncio.create_task(log.append(b"short" * 99, timeout=0.2))
        long = asyncio.create_task(log.append(b"long" * 99))
        with pytest.raises(NotAppendedError):
            await short
        if ordered:
            # What was called after it must not be appended before it.
            with pytest.raises(NotAppendedError):
                await long
            assert records_written(cluster) == []
            return
        await long
        first, second = cluster.requests(Write)
        assert first.entry_id != second.entry_id
        assert first.entry[1]
        assert second.entry[1]
        assert records_written(cluster) == [(b"long" * 99,)]

    run(test, compression=WAYS["zstd"], ordered=ordered)


def test_append_largest_record_is_as_large_as_without_compression() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        await log.append(bytes(RECORD_BYTES_MAX))
        with pytest.raises(UsageError, match="the most is"):
            await log.append(bytes(RECORD_BYTES_MAX + 1))
        assert records_written(cluster) == [(bytes(RECORD_BYTES_MAX),)]

    run(test, compression=WAYS["lz4"])


# Reading what cannot be read here.


async def _collect(records: AsyncIterator[Record], seen: list[bytes]) -> None:
    async for record in records:
        seen.append(record.data)  # noqa: PERF401 - kept when the iterator fails


def _with_a_foreign_dictionary() -> FakeCluster:
    cluster = filled_cluster(3)
    cluster.put(data(3, _packed("dictionary", *clicks(3))))
    cluster.put(entry(4, b"4"))
    return cluster


def test_read_of_a_missing_dictionary_names_it_and_where() -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for _ in range(2):  # from the unit, then from the cache
            with pytest.raises(MissingCodecError) as said:
                await log.read(3)
            assert said.value.offset == 3
            assert said.value.dictionary_id == dictionary_id(dictionary())
            assert f"{said.value.dictionary_id:016x}" in str(said.value)
        # It is there, and sound: nothing is filled, repaired or asked for again.
        assert await log.fill(3) is State.DATA
        assert len(cluster.requests(Read)) == 1

    run(test, _with_a_foreign_dictionary())


@pytest.mark.parametrize("follows", [False, True])
def test_scan_and_follow_yield_what_comes_before_a_missing_dictionary(follows: bool) -> None:
    async def test(cluster: FakeCluster, log: LogClient) -> None:
        seen: list[bytes] = []
        records = log.follow(0) if follows else log.scan(0, on_lost="skip")
        with pytest.raises(MissingCodecError, match="offset 3"):
            await _collect(records, seen)
        assert seen == [b"0", b"1", b"2"]
        assert [record.data async for record in log.scan(4)] == [b"4"]

    run(test, _with_a_foreign_dictionary())


@pytest.mark.parametrize(("way", "library"), [("zstd", "zstandard"), ("lz4", "lz4")])
def test_read_without_the_library_names_the_extra(
    way: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = FakeCluster()
    cluster.put(data(0, _packed(way, *clicks(3))))
    without_libraries(monkeypatch, library)

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        with pytest.raises(MissingCodecError, match=r"corfu-log\[compression\]") as said:
            await log.read(0)
        assert (said.value.offset, said.value.library) == (0, library)
        assert len(str(said.value).splitlines()) == 1

    run(test, cluster)


# What compressed entries may cost a reader.


def test_scan_of_small_entries_that_expand_much_holds_few_at_a_time() -> None:
    """60 KB of an answer could be a thousand entries of 1 MiB each."""
    record = bytes(RECORD_BYTES_MAX)
    packed = _packed("zstd", record)
    assert len(packed) < 200
    cluster = FakeCluster()
    for offset in range(64):
        cluster.put(data(offset, packed))

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        async for batch in log.scan_batches(0):
            assert len(batch) <= 20  # of both chains
            assert all(each.data == record for each in batch)

    run(test, cluster)
    # One chain's share of the window is used up by one such entry.
    assert len(cluster.requests(Read)) >= 64 * ENTRY_BYTES_MAX // (8 << 20) // 2


def test_cache_counts_what_entries_expand_to() -> None:
    packed = _packed("zstd", bytes(300_000))
    cluster = FakeCluster()
    for offset in range(8):
        cluster.put(data(offset, packed))

    async def test(cluster: FakeCluster, log: LogClient) -> None:
        for offset in range(8):
            await log.read(offset)
        asked = len(cluster.requests(Read))
        await log.read(7)
        assert len(cluster.requests(Read)) == asked
        # Three of them fill the cache: the first is not there any more, small as it came.
        await log.read(0)
        assert len(cluster.requests(Read)) > asked

    run(test, cluster, cache_bytes=1_000_000)


# Opening.


@pytest.mark.parametrize("module", [corfu, corfu.sync])
def test_connect_with_what_cannot_be_says_so_at_once(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = corfu.connect if module is corfu else corfu.sync.connect
    there = "127.0.0.1:9"
    with pytest.raises(UsageError, match="'zip' is none of zstd, lz4"):
        connect(there, compression="zip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="No such file"):
        connect(there, dictionary=tmp_path / "missing")
    (tmp_path / "text").write_text("no dictionary")
    with pytest.raises(UsageError, match="no trained zstd dictionary"):
        connect(there, dictionary=str(tmp_path / "text"))
    without_libraries(monkeypatch, "zstandard", "lz4")
    for codec in ("zstd", "lz4"):
        with pytest.raises(UsageError, match=r"corfu-log\[compression\]"):
            connect(there, compression=codec)


async def test_local_log_compresses_and_reads_on_without(tmp_path: Path) -> None:
    file = tmp_path / "clicks.zdict"
    file.write_bytes(dictionary())
    records = clicks(500)
    used: dict[str, int] = {}
    for name, codec, given in [
        ("plain", None, None),
        ("lz4", "lz4", None),
        ("zstd", "zstd", None),
        ("dictionary", "zstd", file),
    ]:
        folder = tmp_path / name
        async with corfu.local(folder, compression=codec, dictionary=given) as log:  # type: ignore[arg-type]
            await log.append_many(records)
        async with corfu.local(folder, dictionary=given) as log:
            assert [record.data async for record in log.scan()] == records
            used[name] = (await log._load([Offset(0)]))[0].size
        raw = b"".join(path.read_bytes() for path in sorted(folder.glob("journal-*")))
        assert (records[100] in raw) is (name == "plain")
    # Whatever it takes on disk, in memory it is the same.
    assert len(set(used.values())) == 1


def test_sync_log_compresses(tmp_path: Path) -> None:
    records = clicks(50)
    given = [dictionary(), dictionary(seed=2)]
    with corfu.sync.local(tmp_path / "log", compression="zstd", dictionary=given) as log:
        log.append_many(records)
        assert [record.data for record in log.scan()] == records
    with corfu.sync.local(tmp_path / "log") as log:
        with pytest.raises(MissingCodecError, match=f"{dictionary_id(given[0]):016x}"):
            log.read(0)
        assert log.fill(0) is State.DATA
    with corfu.sync.local(tmp_path / "log", dictionary=given[0]) as log:
        assert [record.data for record in log.scan()] == records
