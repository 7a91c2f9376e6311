"""The bootstrap: what all replicas of a new cluster are formatted with, and its JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from corfu.errors import UsageError
from corfu.layout import Layout, Leader, Replica, Segment, Unit, problems
from corfu.types import (
    NO_BALLOT,
    Address,
    ClusterId,
    Epoch,
    Incarnation,
    Offset,
    ReplicaId,
    SyncMode,
    UnitId,
)

GROUP_SIZES = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What all replicas of a new cluster are formatted with: who takes part, and the chains."""

    cluster: ClusterId
    replicas: tuple[Replica, ...]
    units: tuple[Unit, ...]
    chains: tuple[tuple[UnitId, ...], ...]
    sync: SyncMode
    min_replicas: int

    def layout(self) -> Layout:
        """Return the layout of epoch 0: the base of the first epoch, never served."""
        return Layout(
            cluster=self.cluster,
            epoch=Epoch(0),
            first_offset=Offset(0),
            leader=Leader(ReplicaId(0), NO_BALLOT),
            replicas=self.replicas,
            units=self.units,
            sync=self.sync,
            min_replicas=self.min_replicas,
            segments=(Segment(Offset(0), None, self.chains),),
        )

    def check_member(self, replica: ReplicaId, incarnation: Incarnation) -> None:
        """Raise UsageError unless a cluster can start from this and it lists the replica."""
        self.check()
        if not any(m.id == replica and m.incarnation == incarnation for m in self.replicas):
            raise UsageError(f"bootstrap: it does not list replica {replica} ({incarnation.hex()})")

    def check(self) -> None:
        """Raise UsageError unless a cluster can start from this."""
        ids = [replica.id for replica in self.replicas]
        if len(ids) not in GROUP_SIZES or len(set(ids)) != len(ids):
            raise UsageError(f"bootstrap: 1, 3 or 5 replicas with different ids, not {ids}")
        incarnations = [m.incarnation for m in self.replicas] + [m.incarnation for m in self.units]
        if len(set(incarnations)) != len(incarnations):
            raise UsageError("bootstrap: an incarnation is listed twice")
        if min(ids) < 1:
            raise UsageError("bootstrap: replica ids are counted from 1")
        found = problems(self.layout())
        if found:
            raise UsageError(f"bootstrap: {found[0]}")
        if not self.chains or any(len(chain) < self.min_replicas for chain in self.chains):
            raise UsageError(f"bootstrap: chains of at least {self.min_replicas} units are wanted")


def encode_bootstrap(bootstrap: Bootstrap) -> str:
    """Return the bootstrap as JSON text."""

    def member(one: Replica | Unit) -> dict[str, object]:
        return {
            "id": one.id,
            "incarnation": one.incarnation.hex(),
            "address": [one.address.host, one.address.port],
        }

    return json.dumps(
        {
            "cluster": bootstrap.cluster.hex(),
            "replicas": [member(replica) for replica in bootstrap.replicas],
            "units": [member(unit) for unit in bootstrap.units],
            "chains": [list(chain) for chain in bootstrap.chains],
            "sync": bootstrap.sync.value,
            "min_replicas": bootstrap.min_replicas,
        },
        indent=2,
    )


def decode_bootstrap(text: str) -> Bootstrap:
    """Return the bootstrap of a JSON text.

    Raises:
        UsageError: It is no JSON of this shape, or no cluster can start from it.
    """
    try:
        plain = cast("dict[str, Any]", json.loads(text))
        bootstrap = Bootstrap(
            cluster=ClusterId(_hex(plain["cluster"], 8)),
            replicas=tuple(Replica(ReplicaId(i), n, a) for i, n, a in _members(plain["replicas"])),
            units=tuple(Unit(UnitId(i), n, a) for i, n, a in _members(plain["units"])),
            chains=tuple(tuple(UnitId(int(id_)) for id_ in chain) for chain in plain["chains"]),
            sync=SyncMode(plain["sync"]),
            min_replicas=int(plain["min_replicas"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"bootstrap: not of the expected shape: {error!r}") from error
    bootstrap.check()
    return bootstrap


def _members(plain: Any) -> list[tuple[int, Incarnation, Address]]:
    found = []
    for one in plain:
        host, port = one["address"]
        incarnation = Incarnation(_hex(one["incarnation"], 16))
        found.append((int(one["id"]), incarnation, Address(str(host), int(port))))
    return found


def _hex(text: Any, length: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != length:
        raise ValueError(f"{length} bytes in hex are wanted, not {text!r}")
    return data
