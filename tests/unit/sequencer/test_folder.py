"""A replica's folder and command line: formatting, refusing, and what is in the snapshot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corfu.errors import CorruptionError, UsageError
from corfu.sequencer.bootstrap import decode_bootstrap, encode_bootstrap
from corfu.sequencer.identity import IDENTITY_NAME, ReplicaIdentity, encode_identity, read_identity
from corfu.sequencer.process import format_replica
from corfu.sequencer.server import main
from corfu.sequencer.state import first_state
from corfu.sequencer.storage import SNAPSHOT_NAME, encode_snapshot, read_snapshot, restore
from corfu.tools.sim.disk import SimDisk
from corfu.types import ReplicaId, Slot
from tests.unit.sequencer.group_bench import CLUSTER, SETTINGS, bootstrap, incarnation


def formatted() -> SimDisk:
    disk = SimDisk()
    format_replica(
        disk,
        replica=ReplicaId(1),
        incarnation=incarnation(1),
        bootstrap=bootstrap(),
        settings=SETTINGS,
    )
    return disk


def test_bootstrap_survives_its_text_and_gives_one_digest() -> None:
    what = bootstrap()
    again = decode_bootstrap(encode_bootstrap(what))
    assert again == what
    assert first_state(again.layout()).formatted == first_state(what.layout()).formatted
    other = bootstrap(chains=((2, 1),))
    assert first_state(other.layout()).formatted != first_state(what.layout()).formatted


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"replicas": []}, "1, 3 or 5"),
        ({"chains": [[1, 1]]}, "two places"),
        ({"chains": [[1, 9]]}, "not listed"),
        ({"chains": [[1]]}, "at least 2"),
        ({"chains": []}, "at least 2"),
        ({"cluster": "00"}, "shape"),
        ({"sync": "sometimes"}, "shape"),
        ({"units": 3}, "shape"),
    ],
)
def test_bootstrap_that_no_cluster_can_start_from_is_refused(
    change: dict[str, object], reason: str
) -> None:
    text = json.dumps({**json.loads(encode_bootstrap(bootstrap())), **change})
    with pytest.raises(UsageError, match=reason):
        decode_bootstrap(text)


def test_format_of_a_replica_that_is_not_listed_is_refused() -> None:
    with pytest.raises(UsageError, match="does not list"):
        format_replica(
            SimDisk(),
            replica=ReplicaId(1),
            incarnation=incarnation(77),
            bootstrap=bootstrap(),
            settings=SETTINGS,
        )


def test_format_of_a_formatted_folder_is_refused() -> None:
    disk = formatted()
    with pytest.raises(CorruptionError, match="formatted before"):
        format_replica(
            disk,
            replica=ReplicaId(1),
            incarnation=incarnation(1),
            bootstrap=bootstrap(),
            settings=SETTINGS,
        )


def test_folder_formatted_holds_identity_and_the_state_at_slot_0() -> None:
    disk = formatted()
    identity = read_identity(disk)
    assert identity == ReplicaIdentity(CLUSTER, ReplicaId(1), incarnation(1))
    slot, state = read_snapshot(disk)
    assert slot == 0
    assert state == first_state(bootstrap().layout())
    assert not restore(disk, identity, SETTINGS).acceptor.votes


def test_identity_damaged_missing_or_newer_is_refused() -> None:
    disk = formatted()
    size = disk.size(IDENTITY_NAME)
    for position in range(size):
        disk.flip(IDENTITY_NAME, position, 0)
        with pytest.raises(CorruptionError):
            read_identity(disk)
        disk.flip(IDENTITY_NAME, position, 0)
    newer = bytearray(encode_identity(read_identity(disk)))
    newer[8] = 9
    disk.write(IDENTITY_NAME, 0, bytes(newer))
    with pytest.raises(CorruptionError, match="version 9"):
        read_identity(disk)
    disk.remove(IDENTITY_NAME)
    with pytest.raises(CorruptionError, match="no sequencer replica"):
        read_identity(disk)


def test_snapshot_with_any_byte_flipped_is_refused() -> None:
    disk = SimDisk()
    data = encode_snapshot(Slot(7), first_state(bootstrap().layout()))
    disk.write(SNAPSHOT_NAME, 0, data)
    for position in range(len(data)):
        disk.flip(SNAPSHOT_NAME, position, 3)
        with pytest.raises(CorruptionError):
            read_snapshot(disk)
        disk.flip(SNAPSHOT_NAME, position, 3)
    assert read_snapshot(disk)[0] == 7


def test_journal_of_another_replica_is_refused() -> None:
    disk = formatted()
    with pytest.raises(CorruptionError):
        restore(disk, ReplicaIdentity(CLUSTER, ReplicaId(2), incarnation(1)), SETTINGS)
    with pytest.raises(CorruptionError):
        restore(disk, ReplicaIdentity(CLUSTER, ReplicaId(1), incarnation(2)), SETTINGS)


def bootstrap_file(folder: Path) -> Path:
    path = folder / "bootstrap.json"
    path.write_text(encode_bootstrap(bootstrap()))
    return path


def test_command_bootstrap_prints_what_format_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = [f"--unit={n}:{n:032x}=127.0.0.1:{9800 + n}" for n in (1, 2)]
    arguments = ["bootstrap", "--cluster", "00" * 8, "--replica=1=127.0.0.1:9700", *units]
    assert main([*arguments, "--chain=1,2"]) == 0
    path = tmp_path / "b.json"
    path.write_text(capsys.readouterr().out)
    folder = tmp_path / "replica"
    assert main(["format", str(folder), "--id", "1", "--bootstrap", str(path)]) == 0
    assert (folder / IDENTITY_NAME).exists()


def test_command_format_refuses_a_folder_in_use_by_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bootstrap_file(tmp_path)
    assert main(["format", str(tmp_path), "--id", "1", "--bootstrap", str(path)]) == 3
    assert "not empty" in capsys.readouterr().err
    assert main(["format", str(tmp_path / "a"), "--id", "9", "--bootstrap", str(path)]) == 1
    assert main(["format", str(tmp_path / "a"), "--id", "1", "--bootstrap", "nowhere"]) == 1


def test_command_start_refuses_a_lost_folder_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["start", str(tmp_path)]) == 3
    assert "no sequencer replica was formatted" in capsys.readouterr().err
    assert main(["start", str(tmp_path / "gone")]) == 3
    assert not (tmp_path / "gone").exists()
    assert not list(tmp_path.iterdir())


def test_command_with_wrong_arguments_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["start"], ["format", "x"], ["start", "x", "--listen", "nonsense"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    capsys.readouterr()
