"""Making the data folders of a local cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from corfu.layout import Replica, Unit
from corfu.runtime.disk import FileDisk
from corfu.sequencer.bootstrap import Bootstrap
from corfu.sequencer.process import format_replica
from corfu.sequencer.settings import SequencerSettings
from corfu.storage_units.identity import read_identity
from corfu.storage_units.process import format_unit
from corfu.storage_units.settings import UnitSettings
from corfu.types import Address, ClusterId, Incarnation, ReplicaId, SyncMode, UnitId

CHAIN_UNITS_MIN = 2
"""Fewest units with which a chain takes appends, unless it was made with fewer."""


def format_folders(
    folder: Path,
    *,
    sequencers: Mapping[int, Address],
    units: Mapping[int, Address],
    chains: Sequence[Sequence[int]],
    sync: SyncMode,
) -> None:
    """Format one folder for each replica and unit, all of one new cluster.

    Units that stand in no chain are spares: the cluster hears of them when they start.

    Raises:
        OSError: no space, or a folder cannot be written.
    """
    cluster = ClusterId(os.urandom(8))
    all_units = tuple(
        Unit(UnitId(id_), Incarnation(os.urandom(16)), address) for id_, address in units.items()
    )
    members = {id_ for chain in chains for id_ in chain}
    bootstrap = Bootstrap(
        cluster=cluster,
        replicas=tuple(
            Replica(ReplicaId(id_), Incarnation(os.urandom(16)), address)
            for id_, address in sequencers.items()
        ),
        units=tuple(unit for unit in all_units if unit.id in members),
        chains=tuple(tuple(UnitId(id_) for id_ in chain) for chain in chains),
        sync=sync,
        min_replicas=min(CHAIN_UNITS_MIN, *(len(chain) for chain in chains)),
    )
    for unit in all_units:
        with _new_disk(folder / f"storage-{unit.id}") as disk:
            format_unit(
                disk,
                cluster=cluster,
                unit=unit.id,
                incarnation=unit.incarnation,
                sync=sync,
                settings=UnitSettings(),
            )
    for replica in bootstrap.replicas:
        with _new_disk(folder / f"sequencer-{replica.id}") as disk:
            format_replica(
                disk,
                replica=replica.id,
                incarnation=replica.incarnation,
                bootstrap=bootstrap,
                settings=SequencerSettings(),
            )


def format_unit_anew(folder: Path) -> None:
    """Replace a unit's data folder by an empty one, as after a change of disks.

    The unit keeps its id and its address; what it held is gone, and so is its incarnation. No
    process may run on the folder.

    Raises:
        OSError: The folder cannot be removed or written.
    """
    old = FileDisk(folder)
    try:
        identity = read_identity(old)
    finally:
        old.close()
    shutil.rmtree(folder)
    with _new_disk(folder) as disk:
        format_unit(
            disk,
            cluster=identity.cluster,
            unit=identity.unit,
            incarnation=Incarnation(os.urandom(16)),
            sync=identity.sync,
            settings=UnitSettings(),
        )


@contextmanager
def _new_disk(path: Path) -> Iterator[FileDisk]:
    path.mkdir()
    disk = FileDisk(path)
    try:
        yield disk
    finally:
        disk.close()
