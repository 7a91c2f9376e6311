"""Compressed entries on a real cluster: commands, dictionaries, and verification beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import corfu
from corfu.tools.cluster import free_base_port
from tests.integration.running import Dev, complaint, dev, remove_journals, shape_options
from tests.integration.running import corfu as command
from tests.unit.corfu.compressing import clicks

pytestmark = [pytest.mark.processes, pytest.mark.timeout(200)]

SHAPE = ("--sequencers", "1", "--chains", "2", "--replicas", "2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("compression") / "data"
    with dev(folder, *shape_options(free_base_port(5), *SHAPE)) as running:
        yield _of(running)
    remove_journals(folder)


def _of(running: Dev) -> str:
    return running.cluster


def _append(cluster: str, records: list[bytes], *options: str) -> str:
    """Append and return the position of the first."""
    lines = b"".join(record + b"\n" for record in records)
    result = command("append", "-o", "json", *options, cluster=cluster, stdin=lines)
    assert result.returncode == 0, result.stderr
    first = json.loads(result.stdout)["first"]
    assert isinstance(first, str)
    return first


@pytest.mark.parametrize(
    "options", [("zstd",), ("lz4",), ("zstd", "--level", "19"), ("lz4", "--level", "12")]
)
def test_append_compressed_then_read_gives_the_same_lines(
    cluster: str, options: tuple[str, ...]
) -> None:
    records = clicks(20_000)
    first = _append(cluster, records, "--compression", *options)
    result = command("read", "--from", first, cluster=cluster)
    assert result.stdout.splitlines() == records


async def test_client_reads_and_follows_what_others_compressed(cluster: str) -> None:
    records = clicks(3000)
    async with (
        corfu.connect(cluster) as plain,
        corfu.connect(cluster, compression="zstd") as zstd,
        corfu.connect(cluster, compression="lz4", ordered=True) as lz4,
    ):
        start = await plain.tail()
        follower = plain.follow(start)
        for at in range(0, 3000, 500):
            for number, log in enumerate((plain, zstd, lz4)):
                part = records[at + 100 * number : at + 100 * (number + 1)]
                await log.append_many(part)
        kept = [r for at in range(0, 3000, 500) for r in records[at : at + 300]]
        assert [(await anext(follower)).data for _ in kept] == kept
        assert [record.data async for record in zstd.scan(start)] == kept
        await follower.aclose()


def test_dictionary_trained_on_a_log_serves_it(cluster: str, tmp_path: Path) -> None:
    file = tmp_path / "clicks.zdict"
    first = _append(cluster, clicks(3000, seed=4))
    trained = command("dict", "train", "--from", first, "-o", str(file), cluster=cluster)
    assert trained.returncode == 0, trained.stderr
    said = trained.stdout.decode()
    assert "trained on 2,400 records" in said
    assert "tried on the 600 that came next" in said
    id_ = command("dict", "show", str(file)).stdout.decode().split()[0]
    assert f"dictionary {id_}" in said

    records = clicks(500, seed=5)
    options = ("--compression", "zstd", "--dictionary", str(file))
    first = _append(cluster, records, *options)
    without = command("read", "--from", first, cluster=cluster)
    assert (without.returncode, without.stdout) == (2, b"")
    assert id_ in complaint(without)
    result = command("read", "--from", first, "--dictionary", str(file), cluster=cluster)
    assert result.stdout.splitlines() == records


def test_verify_compressed_beside_others_with_a_dictionary_is_sound(
    cluster: str, tmp_path: Path
) -> None:
    file = tmp_path / "lines.zdict"
    lines = tmp_path / "lines"
    lines.write_bytes(b"\n".join(clicks(2000, seed=6)))
    assert command("dict", "train", "--input", str(lines), "-o", str(file)).returncode == 0
    result = command(
        *("verify", "--seconds", "2", "--rate", "200", "--compression", "zstd", "-o", "json"),
        *("--dictionary", str(file)),
        cluster=cluster,
    )
    assert result.returncode == 0, result.stdout + result.stderr
