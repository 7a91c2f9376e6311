"""Files of running and stopped processes damaged by hand: told, healed, never served."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import corfu
from corfu.addresses import parse_addresses
from corfu.tools.asking import ask_replicas
from corfu.tools.cluster import LocalCluster
from corfu.tools.health import leader_of
from corfu.tools.processes import Process
from tests.integration.appending import Appending, contents
from tests.integration.bad_cases.shares import only
from tests.integration.running import DEADLINE_S, command, environment, local_cluster

pytestmark = pytest.mark.processes

HEALED_S = 90.0
"""Longest wait until all is sound again: a unit may first be left out and rebuilt."""

RECORDS = 60
SECOND_BATCH = 1024
"""Where the second batch of a journal file begins: a header of 48 bytes, then its records."""


def record(number: int) -> bytes:
    return b"record %04d " % number * 150


async def written(cluster: LocalCluster) -> dict[corfu.Position, bytes]:
    """Append records, an entry each; returns them by their positions."""
    async with corfu.connect(cluster.cluster) as log:
        places = [await log.append(record(n), timeout=DEADLINE_S) for n in range(RECORDS)]
    return {place: record(number) for number, place in enumerate(places)}


def folder(cluster: LocalCluster, unit: int) -> Path:
    return cluster.process("storage", unit).program.data


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def place_of(data: Path, number: int) -> tuple[Path, int]:
    """Return the journal file that holds a record, the newest copy, and where it is in there."""
    for path in sorted(data.glob("journal-*"), reverse=True):
        position = path.read_bytes().find(record(number))
        if position >= 0:
            return path, position
    raise AssertionError(f"record {number} is not in {data}")


def rot(data: Path, number: int) -> str:
    """Flip a bit inside a record; returns the name of the file that it lies in."""
    path, position = place_of(data, number)
    flip(path, position + 500)
    return path.name


async def scrubbed(cluster: LocalCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = await asyncio.create_subprocess_exec(
        *command("scrub", "-o", "json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(cluster.cluster),
    )
    out, err = await asyncio.wait_for(process.communicate(), 2 * DEADLINE_S)
    assert process.returncode is not None
    return subprocess.CompletedProcess([], process.returncode, out.decode(), err.decode())


async def healed(cluster: LocalCluster) -> list[dict[str, int]]:
    """Scrub until all is sound; returns what was told of each unit."""
    give_up = time.monotonic() + HEALED_S
    while (result := await scrubbed(cluster)).returncode:
        assert time.monotonic() < give_up, (result.stdout, result.stderr)
    found = json.loads(result.stdout)
    assert found["sound"]
    units: list[dict[str, int]] = found["units"]
    return units


async def restarted_whole(cluster: LocalCluster) -> None:
    """Stop all in order and start it again: nothing is in memory, and the first file finished."""
    await cluster.stop()
    await cluster.start()
    await cluster.serving()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what other processes do sets no event
            await asyncio.sleep(0.05)


async def said(process: Process, *words: str) -> None:
    """Wait until one line of a process has all the words."""

    def has_said() -> bool:
        lines = process.output().splitlines()
        return any(all(word in line for word in words) for line in lines)

    await until(has_said)


# What a flip does is judged in full by tests/crash, and healing at each place of a chain by the
# simulator's `rot`: here is one real unit each, the others are in make test-all.
@pytest.mark.parametrize("unit", only((1,), (1, 2, 3)))
async def test_bit_flipped_in_a_stopped_units_journal_is_told_and_healed(
    tmp_path: Path, unit: int
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1) as cluster:
        known = await written(cluster)
        process = cluster.process("storage", unit)
        await process.kill()
        name = rot(process.program.data, 20)
        process = await cluster.restart(process)
        await said(process, name, "is damaged at byte")
        assert await contents(cluster) == known
        # On a busy machine the restart may take so long that the unit was left out of its chain.
        units = await healed(cluster)
        assert {each["left"] for each in units} == {0}
        assert await contents(cluster) == known


@pytest.mark.parametrize("unit", only((3,), (1, 2, 3)))
async def test_bit_flipped_under_a_running_unit_is_found_and_healed_by_the_scrub(
    tmp_path: Path, unit: int
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1) as cluster:
        known = await written(cluster)
        await restarted_whole(cluster)
        name = rot(folder(cluster, unit), 20)
        units = await healed(cluster)
        assert [(each["damaged"], each["repaired"]) for each in units] == [
            (int(id_ == unit), int(id_ == unit)) for id_ in (1, 2, 3)
        ]
        await said(cluster.process("storage", unit), name, "is damaged at byte", "offset")
        assert await contents(cluster) == known
        # What was written again is on the disk, whole.
        assert place_of(folder(cluster, unit), 20)[0].name != name


async def test_index_file_damaged_or_missing_is_told_and_written_again(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        known = await written(cluster)
        await restarted_whole(cluster)
        data = folder(cluster, 1)

        await until(lambda: bool(list(data.glob("index-*"))))
        index = min(data.glob("index-*"))
        for word in ("damaged", "missing"):
            bad = b""
            if word == "damaged":
                flip(index, 100)
                bad = index.read_bytes()
            else:
                index.unlink()
            await healed(cluster)
            await said(cluster.process("storage", 1), index.name, word)

            def written_again(bad: bytes = bad) -> bool:
                # Not the same bytes as before: of what is closed meanwhile it has no names.
                return index.exists() and index.read_bytes() not in (bad, b"")

            await until(written_again)
        # A bad one at a start: its journal file is read instead.
        await cluster.stop()
        flip(index, 100)
        await cluster.start()
        await cluster.serving()
        await said(cluster.process("storage", 1), index.name, "is damaged or foreign")
        assert await contents(cluster) == known


@pytest.mark.parametrize(
    ("unit", "running"),
    only(((1, False), (2, True)), ((1, False), (1, True), (2, False), (2, True))),
)
async def test_deleted_journal_file_is_told_and_its_entries_come_back(
    tmp_path: Path, unit: int, running: bool
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        known = await written(cluster)
        await restarted_whole(cluster)
        process = cluster.process("storage", unit)
        if not running:
            await process.kill()
        path, _ = place_of(process.program.data, 20)
        path.unlink()
        if not running:
            process = await cluster.restart(process)
        await healed(cluster)
        await said(process, path.name, "damaged at byte" if running else "is missing")
        assert await contents(cluster) == known
        assert place_of(process.program.data, 20)[0].name != path.name


async def test_unit_that_lost_all_its_journal_refuses_to_start_until_it_is_formatted_anew(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1) as cluster:
        known = await written(cluster)
        process = cluster.process("storage", 2)
        await process.kill()
        data = process.program.data
        for path in data.glob("journal-*"):
            path.unlink()
        line = refusal(process)
        assert "format" in line
        assert await contents(cluster) == known
        status = leader_of(await ask_replicas(parse_addresses(cluster.cluster), DEADLINE_S))
        assert status is not None
        format_anew(data, "2", status.layout.cluster.hex())
        await cluster.restart(process)
        await until(lambda: holds(data, RECORDS - 1))
        await healed(cluster)
        assert await contents(cluster) == known
        assert all(holds(data, number) for number in range(RECORDS))


def format_anew(data: Path, unit: str, cluster: str) -> None:
    argv = [sys.executable, "-m", "corfu.storage_units", "format", str(data)]
    options = ["--id", unit, "--cluster", cluster, "--force"]
    subprocess.run([*argv, *options], timeout=DEADLINE_S, check=True)


def holds(data: Path, number: int) -> bool:
    return any(record(number) in path.read_bytes() for path in data.glob("journal-*"))


async def test_torn_end_of_a_journal_is_told_and_loses_nothing(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1) as cluster:
        process = cluster.process("storage", 2)
        async with Appending(cluster) as appending:
            await appending.more(100)
            await process.kill()
            newest = max(process.program.data.glob("journal-*"))
            data = newest.read_bytes()
            end = len(data.rstrip(b"\0"))
            with newest.open("r+b") as file:
                file.seek(end - 30)
                file.write(bytes(30))
            process = await cluster.restart(process)
            await said(process, newest.name, "at byte")
            await appending.more(20)
        await healed(cluster)
        assert await contents(cluster) == appending.acknowledged


async def test_entry_damaged_at_every_unit_is_lost_and_stepped_over(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=2) as cluster:
        known = await written(cluster)
        await restarted_whole(cluster)
        for unit in (1, 2):
            rot(folder(cluster, unit), 20)
        async with asyncio.timeout(HEALED_S):
            while not json.loads((result := await scrubbed(cluster)).stdout)["lost"]:
                pass
        assert result.returncode == 1
        gone = next(place for place, data in known.items() if data == record(20))
        assert json.loads(result.stdout)["lost"] == [[gone.offset, gone.offset + 1]]
        async with corfu.connect(cluster.cluster) as log:
            with pytest.raises(corfu.LostError):
                await log.read(gone)
            read = {
                found.position: found.data
                async for found in log.scan(corfu.EARLIEST, await log.tail(), on_lost="skip")
            }
        assert read == {place: data for place, data in known.items() if place != gone}


def refusal(process: Process) -> str:
    """Run a server that must refuse to start; returns the one line it says."""
    result = subprocess.run(
        process.program.argv, capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert result.returncode == 3, result
    (line,) = result.stderr.decode().splitlines()
    return line


def flip_snapshot(data: Path) -> str:
    path = data / "snapshot"
    flip(path, os.path.getsize(path) // 2)
    return path.name


def flip_vote(data: Path) -> str:
    path = max(data.glob("journal-*"))
    flip(path, SECOND_BATCH + 60)
    return path.name


def flip_identity(data: Path) -> str:
    path = data / "identity"
    flip(path, os.path.getsize(path) - 3)
    return path.name


# tests/crash flips bits of all of them; here one real process says so and ends.
@pytest.mark.parametrize("harm", only((flip_vote,), (flip_snapshot, flip_vote, flip_identity)))
async def test_replica_with_a_damaged_file_refuses_to_start_and_the_others_go_on(
    tmp_path: Path, harm: Callable[[Path], str]
) -> None:
    async with local_cluster(tmp_path / "log", chains=1, replicas=1) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
            process = cluster.process("sequencer", 2)
            await process.kill()
            name = harm(process.program.data)
            line = refusal(process)
            assert name in line
            assert "byte" in line
            await appending.more(20)
        assert await contents(cluster) == appending.acknowledged


async def test_unit_with_a_damaged_identity_refuses_to_start_and_is_replaced(
    tmp_path: Path,
) -> None:
    async with local_cluster(
        tmp_path / "log", sequencers=1, chains=1, replicas=2, spares=1
    ) as cluster:
        async with Appending(cluster) as appending:
            await appending.more(20)
            process = cluster.process("storage", 1)
            await process.kill()
            line = refusal_after(process, flip_identity)
            assert "identity" in line
            assert "bytes" in line
            await appending.more(20, budget_s=DEADLINE_S)
        assert await contents(cluster) == appending.acknowledged


def refusal_after(process: Process, harm: Callable[[Path], str]) -> str:
    harm(process.program.data)
    return refusal(process)


async def test_scrub_of_a_unit_that_does_not_answer_ends_with_its_own_status(
    tmp_path: Path,
) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        process = cluster.process("storage", 1)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            result = await scrubbed(cluster, "--timeout", "1")
            assert result.returncode == 3
            assert json.loads(result.stdout)["units"][0]["answers"] is False
            result = await scrubbed(cluster, "--timeout", "1", "--no-wait", "1")
            assert result.returncode == 3
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert (await scrubbed(cluster, "7")).returncode == 2
        assert (await scrubbed(cluster)).returncode == 0


async def test_interrupted_scrub_says_that_the_units_go_on(tmp_path: Path) -> None:
    async with local_cluster(tmp_path / "log", sequencers=1, chains=1, replicas=1) as cluster:
        process = cluster.process("storage", 1)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            watching = await asyncio.create_subprocess_exec(
                *command("scrub"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(cluster.cluster),
            )
            assert watching.stderr is not None
            # Its first line says how far it is.
            async with asyncio.timeout(DEADLINE_S):
                assert b"unit 1 does not answer" in await watching.stderr.readline()
            watching.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(watching.communicate(), DEADLINE_S)
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert watching.returncode == 130
        assert out == b""
        (line,) = err.decode().splitlines()
        assert "go on with the scrub" in line
